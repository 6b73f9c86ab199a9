"""Versions of the dataset: each selection and emit config of a run has a folder of its own, and old ones are kept."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mmdata.errors import ConfigError
from mmdata.shards import storage
from mmdata.shards.folders import RunFolder


@dataclass(frozen=True)
class Version:
    """One dataset that a run has made or is making. key: hash of its selection and its emit config."""

    number: int
    key: str
    dataset: str


def versions_of(run: RunFolder) -> list[Version]:
    """All versions, oldest first."""
    return [
        Version(**json.loads(storage.read_bytes(storage.join(run.versions, name))))
        for name in storage.list_names(run.versions)
        if name.endswith(".json")
    ]


def version_for(run: RunFolder, key: str, dataset: str) -> Version:
    """The version of this key at `dataset` (or `dataset-v2`, ...), recorded now if it is new.

    Raises ConfigError where a folder to write to holds something that this run has not made.
    """
    known = versions_of(run)
    wanted = _whole(dataset)
    for version in known:
        if version.key == key and (version.dataset == wanted or version.dataset.startswith(f"{wanted}-v")):
            return version
    taken = {version.dataset for version in known}
    path, number = wanted, 2
    while path in taken:
        path, number = f"{wanted}-v{number}", number + 1
    if storage.list_names(path):
        raise ConfigError(f"{path}: this folder is not empty and not of run {run.root}; choose another DATASET")
    version = Version(len(known) + 1, key, path)
    storage.create_if_absent(
        storage.join(run.versions, f"{version.number:06d}.json"), json.dumps(asdict(version)).encode()
    )
    return version


def _whole(path: str) -> str:
    return path.rstrip("/") if storage.is_remote(path) else str(Path(storage.local_path(path)).absolute())
