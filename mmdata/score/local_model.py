"""Models of transformers and their kin: a folder on this machine or a name on the hub, and what its weights are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmdata.errors import ConfigError
from mmdata.score.encoder import LOCAL_DIR
from mmdata.shards.storage import sha256_of

_SEMANTIC_FILES = {".safetensors", ".bin", ".json", ".txt", ".model"}  # weights, configs, tokenizers


def folder_of(model: str) -> Path | None:
    """The folder that `local-dir:FOLDER` names, None for a name on the hub."""
    return Path(model.removeprefix(LOCAL_DIR)) if model.startswith(LOCAL_DIR) else None


def require_files(model: str, *needed: str) -> None:
    """Raise ConfigError where `model` is a folder that is not there or lacks one of the files."""
    folder = folder_of(model)
    if folder is None:
        return
    if not folder.is_dir():
        raise ConfigError(f"model: {folder}: no such folder")
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise ConfigError(f"model: {folder}: has no {' and no '.join(missing)}, so it is no such model")


def identity(model: str) -> str:
    """What the weights are: a sha256 over the files of a folder, wherever it lies; else the name on the hub."""
    folder = folder_of(model)
    if folder is None:
        return model
    require_files(model)
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in _SEMANTIC_FILES)
    lines = [f"{path.name} {sha256_of(str(path))}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def loaded(model: str, load: Callable[..., Any], **options: Any) -> Any:
    """What `load`, a library's own way, makes of the folder or name; for a folder without asking the hub.

    Raises ConfigError with what to do where the model cannot be had.
    """
    folder = folder_of(model)
    try:
        return load(model if folder is None else str(folder), local_files_only=folder is not None, **options)
    except Exception as error:  # whatever a library, its hub client or a file raises: the cause is the model
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        hint = f"; without internet give `model: {LOCAL_DIR}FOLDER`" if folder is None else ""
        raise ConfigError(f"model: {model} cannot be loaded: {first_line}{hint}") from error
