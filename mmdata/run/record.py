"""What a run was made with: its config.yaml, and whether today's pipeline file may go on with it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from mmdata.config import Pipeline, of_tree
from mmdata.errors import ChangedError, ConfigError
from mmdata.options import values_of
from mmdata.run.catalog import Resolved
from mmdata.run.hashes import differences, hash_of, semantic_tree
from mmdata.shards import storage
from mmdata.shards.commits import CommitLog
from mmdata.shards.folders import RunFolder

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where PyYAML was built with it: ten times faster
RECORDED = ("pyarrow", "opencv-python-headless", "simplejpeg", "pillow", "open_clip_torch", "torch", "pycurl", "duckdb")


class Record:
    """Hashes of a pipeline and the config.yaml of its run folder."""

    def __init__(self, run: RunFolder, pipeline: Pipeline, resolved: Resolved) -> None:
        self._run = run
        self._pipeline = pipeline
        self._resolved = resolved
        self.tree = semantic_tree(pipeline, resolved)
        self.ingest_hash = hash_of(self.tree["ingest"])
        self.select_hash = hash_of(self.tree["select"])
        self.emit_hash = hash_of(self.tree["emit"])

    def scorer_hash(self, scorer: str) -> str:
        return hash_of(self.tree["score"][scorer])

    def check(self) -> None:
        """Raise ChangedError, with every field that differs, where ingest or a scorer that has run was changed."""
        old = _read(self._run)
        if old is None:
            return
        changed = list(differences(old["semantic"]["ingest"], self.tree["ingest"]))
        for scorer in self.tree["score"]:
            known = old["semantic"]["score"].get(scorer)
            if known is not None and CommitLog(self._run, f"score.{scorer}").commits:
                changed += differences(known, self.tree["score"][scorer], f"score.{scorer}")
        if changed:
            lines = "\n".join(f"  {line}" for line in changed)
            raise ChangedError(
                f"{self._run.root}: this run was made with another config; what changed:\n{lines}\n"
                "Take the change back, or choose another RUN (and DATASET)."
            )

    def write(self) -> None:
        """Write config.yaml unless it says the same already."""
        old = _read(self._run)
        scores = (old["semantic"]["score"] if old else {}) | self.tree["score"]
        new = {
            "file": str(self._pipeline.path.absolute()),
            "pipeline": self._pipeline.to_yaml(),
            "semantic": {**self.tree, "score": scores},
            "outcome": {
                "fetch": values_of(self._pipeline.fetch, "outcome"),
                "run": values_of(self._pipeline.run, "outcome"),
            },
            "hashes": {"ingest": self.ingest_hash, "select": self.select_hash, "emit": self.emit_hash},
            "versions": old["versions"] if old else {name: _version(name) for name in RECORDED},
        }
        # A new port or number of workers is no reason to touch a finished run.
        if (
            old is None
            or "file" not in old
            or any(new[part] != old.get(part) for part in ("semantic", "outcome", "hashes"))
        ):
            text = yaml.safe_dump(new, sort_keys=False, allow_unicode=True)
            storage.write_whole(self._run.config, text.encode())


def recorded_pipeline(run: RunFolder, overrides: Sequence[str] = ()) -> Pipeline:
    """The pipeline that a run was made with. Raises ConfigError where the folder is no run, or an older mmdata's."""
    record = _read(run)
    if record is None:
        raise ConfigError(f"{run.root}: no config.yaml there; is it a run folder?")
    if "file" not in record:
        raise ConfigError(f"{run.config}: does not say where its pipeline file is; run the pipeline once more first")
    return of_tree(Path(record["file"]), record["pipeline"], overrides)


def _read(run: RunFolder) -> dict[str, Any] | None:
    try:
        record = yaml.load(storage.read_bytes(run.config), _LOADER)
    except FileNotFoundError:
        return None
    except yaml.YAMLError as error:
        raise ConfigError(f"{run.config}: is not valid YAML: {error}") from None
    if not isinstance(record, dict) or "semantic" not in record:
        raise ConfigError(f"{run.config}: is no config of a run; choose another RUN")
    return record


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
