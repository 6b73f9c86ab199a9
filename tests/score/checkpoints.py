"""Encoders for the tests: a tiny random open_clip checkpoint, and the real stand-in where it is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SIDE_PX = 32
_MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": SIDE_PX, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
_PREPROCESS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "interpolation": "bicubic", "resize_mode": "shortest"}
_STAND_IN = Path(__file__).parents[2].parent / "shared" / "models" / "clip-standin"


def write_tiny_checkpoint(folder: Path, seed: int = 0) -> str:
    """Write a random two-layer CLIP into `folder`; returns its model name for open_clip and the scorer."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.model.CLIP(**_MODEL)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    config = {"model_cfg": _MODEL, "preprocess_cfg": _PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


def stand_in() -> str:
    """Model name of the real stand-in encoder; skips the test where it is not there."""
    if not (_STAND_IN / "open_clip_config.json").is_file():
        pytest.skip(f"no encoder at {_STAND_IN.parent.name}/{_STAND_IN.name}; the tiny random one covers the code")
    return f"local-dir:{_STAND_IN}"
