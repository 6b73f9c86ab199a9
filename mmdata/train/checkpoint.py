"""Checkpoints of a run: whole or not there, the newest few kept, and enough in them to go on exactly.

checkpoints/step-000120/model.safetensors    trained parameters (and statistics of trained encoders) by name
                        optimizer.pt          AdamW's moments and the loss scale, read with weights_only
                        state.json            step, plan hash, config hash
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmdata.errors import ConfigError, DamageError
from mmdata.shards import storage

_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class State:
    """Where a run stands: `step` steps are done."""

    step: int
    plan_hash: str
    config_hash: str


def trained(model: nn.Module) -> dict[str, torch.Tensor]:
    """What training changes, by name: parameters with gradients, and buffers of encoders that train."""
    found: dict[str, torch.Tensor] = {n: value for n, value in model.named_parameters() if value.requires_grad}
    encoders: Any = getattr(model, "encoders", nn.ModuleDict())
    for name, encoder in encoders.named_children():
        if encoder.options.train:
            persistent = encoder.state_dict().keys()
            found |= {f"encoders.{name}.{key}": value for key, value in encoder.named_buffers() if key in persistent}
    return {name: value.detach() for name, value in found.items()}


def save(folder: Path, weights: Mapping[str, torch.Tensor], optimizer: dict[str, Any], state: State, keep: int) -> Path:
    """Write a checkpoint and let go of all but the newest `keep`; a kill at any moment leaves the older ones whole.

    weights: as `trained` gives them, on the CPU.
    """
    from safetensors.torch import save_file

    target = folder / f"step-{state.step:06d}"
    temporary = folder / f".{target.name}-{uuid.uuid4().hex[:8]}"
    temporary.mkdir(parents=True)
    with storage.storage_errors(str(target)):
        try:
            save_file({name: value.contiguous() for name, value in weights.items()}, temporary / "model.safetensors")
            torch.save(optimizer, temporary / "optimizer.pt")
            (temporary / "state.json").write_text(json.dumps(asdict(state)) + "\n")
            for path in (*temporary.iterdir(), temporary):
                _sync(path)
            if target.exists():
                shutil.rmtree(target)
            os.rename(temporary, target)
            _sync(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    for old in checkpoints(folder)[:-keep]:
        # Renamed first: half of a checkpoint must not look like one.
        doomed = old.with_name(f".{old.name}-{uuid.uuid4().hex[:8]}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(old, doomed)
            shutil.rmtree(doomed, ignore_errors=True)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def clear_unfinished(folder: Path) -> None:
    """Remove what a kill left half-written."""
    for path in folder.glob(".step-*") if folder.is_dir() else ():
        shutil.rmtree(path, ignore_errors=True)


def read_state(checkpoint: Path) -> State:
    """Raises DamageError where the file is none of ours."""
    try:
        return State(**json.loads((checkpoint / "state.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DamageError(f"{checkpoint}: is no whole checkpoint: {error}") from error


def load_optimizer(checkpoint: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True)
    return loaded


def load_model(checkpoint: Path, model: nn.Module, *, whole: bool) -> None:
    """Give the model a checkpoint's trained parameters. whole: all that this run trains must be among them.

    Raises ConfigError where the checkpoint has parameters that the model has not, or of another shape.
    """
    from safetensors.torch import load_file

    saved = load_file(checkpoint / "model.safetensors")
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    # Heads of losses serve training alone: a later stage with other losses does without them.
    unknown = [name for name in saved if name not in own and not name.startswith("objectives.")]
    if unknown:
        raise ConfigError(f"{checkpoint}: has {unknown[0]} and {len(unknown) - 1} more that this model has not")
    missing = [name for name in trained(model) if name not in saved] if whole else []
    if missing:
        raise ConfigError(f"{checkpoint}: lacks {missing[0]} and {len(missing) - 1} more that this run trains")
    for name, value in saved.items():
        if name in own and own[name].shape != value.shape:
            shapes = f"found {tuple(value.shape)}, this model has {tuple(own[name].shape)}"
            raise ConfigError(f"{checkpoint}: {name}: {shapes}")
    with torch.no_grad():
        for name, value in saved.items():
            if name in own:
                own[name].copy_(value)


def resolve(path: str) -> Path:
    """The checkpoint of a path: itself, or the newest of a run folder. Raises ConfigError where there is none."""
    folder = Path(path)
    if (folder / "model.safetensors").is_file():
        return folder
    found = checkpoints(folder / "checkpoints")
    if not found:
        raise ConfigError(f"{path}: neither a checkpoint nor a run folder with one")
    return found[-1]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
