"""Commit records: the only sign that a shard is done, and how an attempt's files get their final names.

A worker builds its files under `attempts/<id>/` and returns an Attempt. The driver alone decides: it creates the record
`commits/<part>/<shard>.<revision>.json` if none is there, then publishes the files the record names. A crash before the
record costs that attempt; after it, the next driver rolls forward. A late attempt owns another folder and no record, so
it cannot change anything. Every 1,000 records of a part are rolled up into one Parquet file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from mmdata.errors import DamageError
from mmdata.shards import ledger, storage
from mmdata.shards.folders import RunFolder

ROLL_UP_EVERY = 1000
RELEASED = "released"  # part whose records name staged tars that were freed: no sign of damage where they are missing
_RECORD = re.compile(r"(\d+)\.(\d+)\.json")


@dataclass(frozen=True)
class FileRecord:
    """One published file: its final path relative to `root`, size, sha256, and where the attempt left it."""

    path: str
    bytes: int
    sha256: str
    attempt_path: str


@dataclass(frozen=True)
class Commit:
    """What one shard of one part is made of. `counts` is a Counters as JSON, or what else the part counts."""

    part: str
    shard: int
    revision: int
    attempt: str
    config_hash: str
    input_fingerprint: str
    root: str  # "run" or "dataset": what the files' paths are relative to
    files: tuple[FileRecord, ...]
    counts: dict[str, Any]

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes | str) -> Commit:
        values = json.loads(data)
        values["files"] = tuple(FileRecord(**file) for file in values["files"])
        return cls(**values)


class CommitLog:
    """The records of one part of a run, newest revision of each shard."""

    def __init__(self, run: RunFolder, part: str) -> None:
        self.run = run
        self.part = part
        self.commits: dict[int, Commit] = {}
        self._load()

    def _load(self) -> None:
        folder = self.run.commits(self.part)
        names = storage.list_names(folder)
        for name in names:
            if name.endswith(".parquet"):
                self._keep(Commit.from_json(text) for text in _rolled_up(storage.join(folder, name)))
        self._keep(
            Commit.from_json(storage.read_bytes(storage.join(folder, name)))
            for name in names
            if _RECORD.fullmatch(name)
        )

    def _keep(self, commits: Iterable[Commit]) -> None:
        for commit in commits:
            known = self.commits.get(commit.shard)
            if known is None or commit.revision >= known.revision:
                self.commits[commit.shard] = commit

    def decide(self, commit: Commit) -> bool:
        """Record this attempt as the one that counts; False where another already does."""
        known = self.commits.get(commit.shard)
        if known is not None and known.revision >= commit.revision:
            return False
        path = self.run.commit(self.part, commit.shard, commit.revision)
        if not storage.create_if_absent(path, commit.to_json()):
            self._keep([Commit.from_json(storage.read_bytes(path))])
            return False
        self._keep([commit])
        return True

    def publish(self, commit: Commit, root: str) -> None:
        """Give the files of a record their final names under `root`; doing it again changes nothing."""
        for file in commit.files:
            attempt = storage.join(root, file.attempt_path)
            storage.publish(attempt, storage.join(root, file.path), file.sha256)

    def unfinished(self, root: str) -> list[Commit]:
        """Records with a file that is missing or has another size: killed before publishing, or damaged."""
        freed = released_paths(self.run) if self.part == "ingest" else set()
        return [
            commit
            for commit in self.commits.values()
            if any(
                storage.size_bytes(storage.join(root, file.path)) != file.bytes
                for file in commit.files
                if file.path not in freed
            )
        ]

    def roll_forward(self, root: str) -> list[int]:
        """Publish what was decided but not published; returns shards whose files are gone, their records set aside."""
        redo = []
        for commit in self.unfinished(root):
            try:
                self.publish(commit, root)
            except (FileNotFoundError, DamageError):
                self.set_aside(commit, root)
                redo.append(commit.shard)
        return redo

    def set_aside(self, commit: Commit, root: str) -> None:
        """Take a record and those of its files that are damaged out of the way, so that the shard is done again."""
        for file in commit.files:
            path = storage.join(root, file.path)
            if storage.exists(path) and storage.sha256_of(path) != file.sha256:
                storage.remove(path)
        storage.remove(self.run.commit(self.part, commit.shard, commit.revision))
        self._take_out(commit)
        del self.commits[commit.shard]

    def _take_out(self, commit: Commit) -> None:
        """Write the rolled-up file that holds the record again without it."""
        folder = self.run.commits(self.part)
        for name in storage.list_names(folder):
            if name.endswith(".parquet"):
                path = storage.join(folder, name)
                records = _rolled_up(path)
                kept = [text for text in records if Commit.from_json(text) != commit]
                if len(kept) < len(records):
                    storage.write_whole(path, _parquet(kept))

    def roll_up(self) -> None:
        """Put every 1,000 single records into one Parquet file."""
        folder = self.run.commits(self.part)
        names = [name for name in storage.list_names(folder) if _RECORD.fullmatch(name)]
        for start in range(0, len(names) - ROLL_UP_EVERY + 1, ROLL_UP_EVERY):
            group = names[start : start + ROLL_UP_EVERY]
            records = [storage.read_bytes(storage.join(folder, name)).decode() for name in group]
            first, last = group[0].removesuffix(".json"), group[-1].removesuffix(".json")
            storage.write_whole(storage.join(folder, f"{first}-{last}.parquet"), _parquet(records))
            for name in group:
                storage.remove(storage.join(folder, name))


def released_paths(run: RunFolder) -> set[str]:
    """Staged tars, relative to the run, that were freed after the dataset was written."""
    return {str(commit.counts["path"]) for commit in CommitLog(run, RELEASED).commits.values()}


def _parquet(records: list[str]) -> bytes:
    return ledger.parquet_bytes(pa.table({"record": pa.array(records, pa.string())}))


def _rolled_up(path: str) -> list[str]:
    records: list[str] = ledger.read(path)["record"].to_pylist()
    return records
