"""Write the demo's encoder as an open_clip `local-dir:` checkpoint, from installed packages and the map in this folder.

    python -m pipelines.demo.encoder.build [OUT]        (default: `checkpoint` beside this file)

No network. Doing it again with the same inputs does nothing; a half-written folder is never seen under the final name.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from pipelines.demo.encoder import towers

MAP = Path(__file__).with_name("map.safetensors")
CHECKPOINT = Path(__file__).with_name("checkpoint")
_RECORD = "built_from.json"
_LAYOUT = 1  # raise it when the files written change for the same inputs
_TOKENIZER_FILES = ("config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")


def build_encoder(out_dir: Path = CHECKPOINT) -> Path:
    """The checkpoint folder, built if it is not there yet or was built from other inputs."""
    out_dir = Path(out_dir).resolve()
    inputs = _inputs(out_dir)
    if _is_built(out_dir, inputs):
        return out_dir
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    attempt = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}-", dir=out_dir.parent))
    try:
        _write(attempt, out_dir)
        (attempt / _RECORD).write_text(json.dumps(inputs, indent=1) + "\n", encoding="utf-8")
        attempt.chmod(0o755)
        _publish(attempt, out_dir, inputs)
    finally:
        shutil.rmtree(attempt, ignore_errors=True)
    return out_dir


def _inputs(out_dir: Path) -> dict[str, Any]:
    text = towers.text_folder()
    files = [MAP, towers.image_weights(), text / "model.safetensors", *(text / name for name in _TOKENIZER_FILES)]
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return {"layout": _LAYOUT, "folder": str(out_dir), "sha256": hashes}


def _is_built(out_dir: Path, inputs: dict[str, Any]) -> bool:
    try:
        recorded = json.loads((out_dir / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(recorded == inputs)


def _publish(attempt: Path, out_dir: Path, inputs: dict[str, Any]) -> None:
    if out_dir.exists():
        retired = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}-old-", dir=out_dir.parent))
        try:
            os.replace(out_dir, retired)
        except FileNotFoundError:
            pass  # another process retired it first
        shutil.rmtree(retired, ignore_errors=True)
    try:
        attempt.rename(out_dir)
    except OSError:
        # Another process built the same folder in the meantime; its files serve as well.
        if not _is_built(out_dir, inputs):
            raise


def _write(folder: Path, final: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    joined = load_file(MAP)
    tensors = {
        "visual.head.proj.weight": joined["image_map"].float(),
        "visual.head.proj.bias": joined["image_bias"].float(),
        "text.proj.weight": joined["text_map"].float(),
        "logit_scale": torch.tensor(2.6592),
    }
    for name, value in towers.image_model().state_dict().items():
        if not name.startswith("classifier."):
            tensors[f"visual.trunk.{name}"] = value
    for name, value in load_file(towers.text_folder() / "model.safetensors").items():
        # The mean over tokens does not use the pooler; the position numbers are a constant of the code.
        if not name.startswith("pooler.") and not name.endswith("position_ids"):
            tensors[f"text.transformer.{name}"] = value
    save_file({name: tensors[name].contiguous() for name in sorted(tensors)}, folder / "open_clip_model.safetensors")
    for name in _TOKENIZER_FILES:
        shutil.copyfile(towers.text_folder() / name, folder / name)
    # open_clip hands this path to transformers, which knows no folder to be relative to.
    config = _config(str(final))
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _config(folder: str) -> dict[str, Any]:
    return {
        "model_cfg": {
            "embed_dim": towers.TEXT_DIM,
            "vision_cfg": {
                "timm_model_name": towers.IMAGE_MODEL,
                "timm_model_pretrained": False,
                "timm_pool": "avg",
                "timm_proj": "linear",
                "timm_proj_bias": True,
                "image_size": 224,
            },
            "text_cfg": {
                "hf_model_name": folder,
                "hf_tokenizer_name": folder,
                "hf_model_pretrained": False,
                "hf_pooler_type": "mean_pooler",
                "hf_proj_type": "linear",
                "context_length": towers.TEXT_TOKENS,
            },
        },
        "preprocess_cfg": {
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, nargs="?", default=CHECKPOINT)
    try:
        print(build_encoder(parser.parse_args().out))
    except towers.MissingPackageError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
