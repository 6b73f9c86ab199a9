"""An open_clip model loaded for scoring: preprocessing, tokenizer, both towers, and clear errors where it is missing.

Shape suffixes: B batch, C channels, H height, W width, L text tokens, D embedding.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmdata.errors import ConfigError
from mmdata.options import nearest
from mmdata.shards.storage import sha256_of

if TYPE_CHECKING:
    import torch

LOCAL_DIR = "local-dir:"
HUB = "hf-hub:"
_CONFIG = "open_clip_config.json"
_WEIGHTS = {".safetensors", ".bin", ".pth"}
_SEMANTIC_FILES = {*_WEIGHTS, ".json", ".txt", ".model", ".gz"}  # weights, configs, tokenizers
_MAX_ASPECT = 16
_TEXT_CHARS = 20_000  # far beyond any context length; a longer text only costs the tokenizer time
_OFFLINE = (
    f"without internet give `model: {LOCAL_DIR}FOLDER` (a folder with {_CONFIG} and weights), "
    "or download the weights into this machine's cache beforehand"
)


class Encoder:
    """Both towers of one open_clip model, in evaluation mode on one device.

    precision: "auto" is bf16 on CUDA and fp32 on the CPU. threads: for one operation on the CPU; part of the result.
    Raises ConfigError where the model cannot be had.
    """

    def __init__(self, model: str, pretrained: str, precision: str, device: str, threads: int) -> None:
        import torch

        check_model(model, pretrained)
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("score.image_text.device: found cuda, but torch sees no CUDA device; use auto or cpu")
        cuda = device != "cpu" and torch.cuda.is_available()
        self.device = torch.device("cuda" if cuda else "cpu")
        self.precision = precision if precision != "auto" else "bf16" if cuda else "fp32"
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]
        settle(threads, cuda)
        self._model, self._tokenizer = _load(model, pretrained, self.precision, self.device)
        # Convolutional towers run up to three times faster on the CPU in this order; transformers do not mind it.
        self._model.to(memory_format=torch.channels_last)

        from open_clip.transform import PreprocessCfg, image_transform_v2

        config = PreprocessCfg(**self._model.visual.preprocess_cfg)
        # The last two steps, to tensor and normalise, are done for a whole batch at once.
        self._geometry = image_transform_v2(config, is_train=False).transforms[:-2]
        self._crops = config.resize_mode == "shortest"
        size = config.size if isinstance(config.size, (tuple, list)) else (config.size, config.size)
        self.height_px, self.width_px = int(size[0]), int(size[1])
        self._mean_1C11 = torch.tensor(config.mean, device=self.device).view(1, -1, 1, 1)
        self._std_1C11 = torch.tensor(config.std, device=self.device).view(1, -1, 1, 1)

    def fit(self, picture: Any) -> Any:
        """The PIL picture resized and cropped to height_px x width_px as open_clip does for this model."""
        if self._crops:
            picture = _middle(picture)
        for step in self._geometry:
            picture = step(picture)
        return picture

    def normalise(self, pixels_BHWC: torch.Tensor) -> torch.Tensor:
        """uint8 pixels to what the image tower takes: float32 [B, C, H, W] on the device, channels last in memory."""
        import torch

        pixels_BCHW = pixels_BHWC.to(self.device, non_blocking=True).permute(0, 3, 1, 2).to(torch.float32)
        return pixels_BCHW.div_(255).sub_(self._mean_1C11).div_(self._std_1C11)

    def tokens(self, captions: list[str]) -> torch.Tensor:
        """Token ids [B, L], cut or padded to the model's context length."""
        tokens_BL: torch.Tensor = self._tokenizer(captions)
        return tokens_BL

    def embed_images(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        """Image embeddings [B, D] of unit length, float32 on the device."""
        import torch
        from torch.nn.functional import normalize

        with torch.inference_mode():
            image_BD: torch.Tensor = normalize(self._model.encode_image(pixels_BCHW.to(self._dtype)).float(), dim=-1)
            return image_BD

    def embed_texts(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        """Text embeddings [B, D] of unit length, float32 on the device."""
        import torch
        from torch.nn.functional import normalize

        with torch.inference_mode():
            tokens_BL = tokens_BL.to(self.device, non_blocking=True)
            text_BD: torch.Tensor = normalize(self._model.encode_text(tokens_BL).float(), dim=-1)
            return text_BD


def sound_text(text: str) -> str:
    """Text that every tokenizer takes: no lone surrogates, no novel."""
    return text[:_TEXT_CHARS].encode("utf-8", "replace").decode("utf-8")


def _middle(picture: Any) -> Any:
    """The middle of a very long picture, all that a centre crop keeps; the whole would be resized to gigabytes."""
    width_px, height_px = picture.size
    limit_px = _MAX_ASPECT * min(width_px, height_px)
    if max(width_px, height_px) <= limit_px:
        return picture
    left, top = max(0, (width_px - limit_px) // 2), max(0, (height_px - limit_px) // 2)
    return picture.crop((left, top, left + min(width_px, limit_px), top + min(height_px, limit_px)))


def check_model(model: str, pretrained: str) -> None:
    """Raise ConfigError where a local folder is no open_clip checkpoint; reads no weights and does not import torch."""
    if not model.startswith(LOCAL_DIR):
        return
    folder = Path(model.removeprefix(LOCAL_DIR))
    if pretrained:
        raise ConfigError(f"pretrained: found {pretrained!r}, but {model} brings its own weights; leave it out")
    if not folder.is_dir():
        raise ConfigError(f"model: {folder}: no such folder; it must hold {_CONFIG} and weights")
    if not (folder / _CONFIG).is_file():
        raise ConfigError(f"model: {folder}: has no {_CONFIG}, so it is no open_clip checkpoint")
    if not any(path.suffix in _WEIGHTS for path in folder.iterdir()):
        raise ConfigError(f"model: {folder}: has no weights ({', '.join(sorted(_WEIGHTS))})")


def identity(model: str, pretrained: str) -> str:
    """What the weights are, wherever they lie: a sha256 over a local folder's or file's content, else name and tag."""
    check_model(model, pretrained)
    if model.startswith(LOCAL_DIR):
        folder = Path(model.removeprefix(LOCAL_DIR))
        files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in _SEMANTIC_FILES)
        lines = [f"{path.name} {sha256_of(str(path))}\n" for path in files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    if pretrained and Path(pretrained).is_file():
        return sha256_of(pretrained)
    return f"{model} {pretrained}".strip()


def _load(model: str, pretrained: str, precision: str, device: torch.device) -> tuple[Any, Any]:
    import open_clip

    if ":" not in model:
        _check_name(model, pretrained)
    try:
        network = open_clip.create_model(
            model,
            pretrained or None,
            precision=precision,
            device=device,
            require_pretrained=True,
            **_text_tower(model),
        )
        return network.eval().requires_grad_(False), open_clip.get_tokenizer(model)
    except Exception as error:  # whatever open_clip, its hub client or a config file raises: the cause is the model
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        where = f"{model} {pretrained}".strip()
        hint = "" if model.startswith(LOCAL_DIR) else f"; {_OFFLINE}"
        raise ConfigError(f"model: {where} cannot be loaded: {first_line}{hint}") from error


def _check_name(model: str, pretrained: str) -> None:
    import open_clip

    names = open_clip.list_models()
    if model.replace("/", "-") not in names:
        raise ConfigError(
            f"model: open_clip has no {model!r}{nearest(model, names)}; "
            f"allowed are its names, {LOCAL_DIR}FOLDER and {HUB}REPO"
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained not in tags and not Path(pretrained or "/").is_file():
        raise ConfigError(
            f"pretrained: found {pretrained!r} for {model}{nearest(pretrained, tags)}; "
            f"allowed are {', '.join([*tags, 'a file'])}"
        )


def _text_tower(model: str) -> dict[str, Any]:
    """Overrides that let a local checkpoint find its text tower's config beside it, whatever the working directory."""
    if not model.startswith(LOCAL_DIR):
        return {}
    from open_clip.hf_configs import arch_dict

    folder = Path(model.removeprefix(LOCAL_DIR))
    text = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))["model_cfg"]["text_cfg"]
    name = text.get("hf_model_name")
    beside = folder / "config.json"
    if not name or (Path(name) / "config.json").is_file() or not beside.is_file():
        return {}
    if json.loads(beside.read_text(encoding="utf-8")).get("model_type") not in arch_dict:
        return {}  # the config of something else, for instance of the whole model
    return {"text_cfg": {**text, "hf_model_name": str(folder), "hf_model_pretrained": False}}


def settle(threads: int, cuda: bool) -> None:
    """Settings of this process under which the same batch gives the same bits."""
    import torch

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a batch is small, and the cores are other actors'
    torch.set_num_threads(threads)
    if not cuda:
        _keep_memory()
    else:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _keep_memory() -> None:
    """Have glibc keep freed memory: by default every large activation is mapped, faulted in and given back each time.

    That took more time than the arithmetic on some machines. Other C libraries stay as they are.
    """
    mmap_max, trim_threshold = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(mmap_max, 0)
        library.mallopt(trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):
        pass
