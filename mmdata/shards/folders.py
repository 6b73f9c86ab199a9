"""Where everything lies: the paths inside a run folder and a dataset folder."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmdata.shards.storage import join

SHARD_DIGITS = 5
ATTEMPTS = ".attempts"  # of a dataset: what windows under way write; no part of it


def shard_name(shard: int, digits: int = SHARD_DIGITS) -> str:
    """`00042`; wider once a run has more than 99,999 shards."""
    return f"{shard:0{digits}d}"


def shard_number(file_name: str) -> int | None:
    """The shard a file belongs to, by the digits its name begins with; None for other files."""
    match = re.match(r"\d+(?=[._])", file_name)
    return int(match.group()) if match else None


@dataclass(frozen=True)
class RunFolder:
    """Paths inside `runs/<name>`; `root` may be an fsspec URL."""

    root: str

    @property
    def config(self) -> str:
        return join(self.root, "config.yaml")

    @property
    def plan(self) -> str:
        return join(self.root, "plan")

    @property
    def attempts(self) -> str:
        return join(self.root, "attempts")

    @property
    def logs(self) -> str:
        return join(self.root, "logs")

    @property
    def status(self) -> str:
        return join(self.root, "status.json")

    @property
    def report(self) -> str:
        return join(self.root, "report.html")

    @property
    def versions(self) -> str:
        return join(self.root, "versions")

    @property
    def driver(self) -> str:
        return join(self.root, "driver")

    def rows(self, shard: int) -> str:
        """The input rows of a shard, in the order they are worked on."""
        return join(self.plan, "rows", f"{shard_name(shard)}.parquet")

    def staged(self, shard: int, revision: int = 0) -> str:
        return join(self.root, "staged", f"{_revised(shard, revision)}.tar")

    def ledger(self, shard: int, revision: int = 0) -> str:
        return join(self.root, "ledger", f"{_revised(shard, revision)}.parquet")

    def scores(self, scorer: str, shard: int, revision: int = 0) -> str:
        return join(self.root, "scores", scorer, f"{_revised(shard, revision)}.parquet")

    def selection(self, select_hash: str, shard: int) -> str:
        return join(self.root, "selection", select_hash, f"{shard_name(shard)}.parquet")

    def commits(self, part: str) -> str:
        """Folder of a part's commit records; of all parts for an empty name."""
        return join(self.root, "commits", part).rstrip("/")

    def commit(self, part: str, shard: int, revision: int = 0) -> str:
        return join(self.commits(part), f"{shard_name(shard)}.{revision}.json")

    def attempt(self, attempt: str) -> str:
        """Folder private to one attempt; nobody else reads it before its commit record names its files."""
        return join(self.attempts, attempt)

    def relative(self, path: str) -> str:
        """`path` without the run folder before it, as commit records name files."""
        return path[len(self.root.rstrip("/")) + 1 :]


def _revised(shard: int, revision: int) -> str:
    return shard_name(shard) if revision == 0 else f"{shard_name(shard)}.{revision}"


@dataclass(frozen=True)
class DatasetFolder:
    """Paths inside an emitted dataset, relative to its root."""

    root: str

    @property
    def manifest(self) -> str:
        return join(self.root, "manifest.json")

    @property
    def attempts(self) -> str:
        return join(self.root, ATTEMPTS)

    @property
    def card(self) -> str:
        return join(self.root, "README.md")

    @property
    def report(self) -> str:
        return join(self.root, "report.html")

    def path(self, relative: str) -> str:
        return join(self.root, relative)

    @staticmethod
    def tar(modality: str, split: str, shard: int) -> str:
        return f"{modality}/{split}/{shard_name(shard)}.tar"

    @staticmethod
    def sidecar(modality: str, split: str, shard: int) -> str:
        return f"{modality}/{split}/{shard_name(shard)}.parquet"

    @staticmethod
    def stats(modality: str, split: str, shard: int) -> str:
        return f"{modality}/{split}/{shard_name(shard)}_stats.json"

    @staticmethod
    def sizes(modality: str, split: str) -> str:
        return f"{modality}/{split}/sizes.json"

    @staticmethod
    def parquet(modality: str, split: str, shard: int) -> str:
        return f"parquet/{modality}/{split}/{shard_name(shard)}.parquet"

    @staticmethod
    def index(modality: str, split: str, shard: int) -> str:
        return f"index/{modality}/{split}/{shard_name(shard)}.parquet"

    @staticmethod
    def manifest_list(number: int) -> str:
        return f"manifest/{number:06d}.jsonl"
