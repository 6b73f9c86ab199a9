"""`mmdata plan --pilot N`: a seeded sample of rows goes through the real thing, in a run folder that then goes.

Ingest, scorers, selection and emit are those of a run. Rules whose outcome hangs on how many rows there are in all
(`balance`, `long_tail`, `subset`) are left out, and the projection says so.
"""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmdata.config import Pipeline
from mmdata.run.census import SourceRows, only_drawn, write_plan
from mmdata.run.dataset import emit_part, select_part
from mmdata.run.driver import EMIT_PREFIX, Driver
from mmdata.run.ingest import IngestJob
from mmdata.run.local import Executor
from mmdata.run.plan import ShardPlan
from mmdata.run.removals import folder_of
from mmdata.run.scoring import ScoreJob
from mmdata.run.status import Progress
from mmdata.sample import root_key, sample_key
from mmdata.shards import ledger, storage, tar
from mmdata.shards.commits import Commit, CommitLog
from mmdata.shards.folders import DatasetFolder, RunFolder

OF_ALL = ("balance", "long_tail", "subset")
_END_BYTES = 1024  # of a tar


@dataclass
class Measured:
    """What became of the drawn rows; arrays have one value for every one of them.

    counts: by final reason, rows of the ledger. staged_bytes: in staged tars. kept_bytes: of that, of what is kept.
    dataset_bytes: all files of the emitted sample but what every shard has once, shard_bytes. skipped: rules left out.
    """

    rows: int
    counts: dict[str, NDArray[np.float64]]
    network_bytes: NDArray[np.float64]
    staged_bytes: NDArray[np.float64]
    kept_bytes: NDArray[np.float64]
    kept: Counter[str]  # samples by modality
    dataset_bytes: int
    shard_bytes: float
    table_bytes: float  # ledgers, scores and plan, for every row
    ingest: list[tuple[ShardPlan, Commit]]
    scores: dict[str, list[Commit]]
    emit_s: float
    linked: frozenset[str]  # sources that have rows with links
    skipped: list[str] = field(default_factory=list)


class PilotDriver(Driver):
    """A driver whose jobs tell when every row came. workers: those of the run that is projected share the hosts."""

    projected_workers = 1

    def _ingest_job(self, shard: ShardPlan, attempt: int) -> IngestJob:
        return replace(super()._ingest_job(shard, attempt), workers=self.projected_workers, is_timed=True)

    def _score_job(self, scorer: str, ingested: dict[int, Commit], shard: int, attempt: int) -> ScoreJob:
        return replace(super()._score_job(scorer, ingested, shard, attempt), is_timed=True)


def run_pilot(
    pipeline: Pipeline,
    sources: list[SourceRows],
    place: str,
    make_executor: Callable[[Pipeline], Executor],
    workers: int,
    at_once: int,
) -> Measured:
    """Carry the drawn rows through a run beside the one at `place`, and measure it.

    workers: of the projected run. at_once: of the pilot.
    """
    skipped = [entry.name for entry in pipeline.select if entry.name in OF_ALL]
    pipeline = replace(
        only_drawn(pipeline, sources),
        select=[entry for entry in pipeline.select if entry.name not in OF_ALL],
        emit=replace(pipeline.emit, release_staged=False),
        run=replace(pipeline.run, max_transient_share=1.0),  # how much fails is what is asked
    )
    with _folder(place) as run:
        write_plan(run, sources, at_once)
        _copy_removals(RunFolder(place), run)
        progress = Progress(run)
        driver = PilotDriver(pipeline, run, partial(make_executor, pipeline), progress)
        driver.projected_workers = workers
        with driver.opened(), progress:
            driver.ingest()
            driver.score()
            driver.release_executor()
            selection = select_part(driver)
            version, _ = emit_part(driver, selection, storage.join(run.root, "dataset"))
            measured = _measured(driver, selection.key, version.dataset, EMIT_PREFIX + version.key)
        return replace(measured, skipped=skipped)


@contextlib.contextmanager
def _folder(place: str) -> Iterator[RunFolder]:
    """A new run folder beside the real one, on the same storage, which is removed; so is a folder made for it."""
    root = f"{place.rstrip('/')}.pilot-{uuid.uuid4().hex[:8]}"
    parent = None if storage.is_remote(root) else Path(root).parent
    is_new = parent is not None and not parent.exists()
    try:
        yield RunFolder(root)
    finally:
        storage.remove(root)
        if is_new and parent is not None:
            with contextlib.suppress(OSError):
                parent.rmdir()


def _copy_removals(real: RunFolder, pilot: RunFolder) -> None:
    """What is removed from the run is not fetched for a pilot either."""
    for name in storage.list_names(folder_of(real)):
        data = storage.read_bytes(storage.join(folder_of(real), name))
        storage.write_whole(storage.join(folder_of(pilot), name), data)


def _measured(driver: Driver, selection: str, dataset: str, emitted: str) -> Measured:
    run, ingested = driver.run, CommitLog(driver.run, "ingest").commits
    keys: list[str] = []
    links: list[bool] = []
    linked: set[str] = set()
    counts: dict[str, Counter[str]] = {}
    raw: dict[str, int] = {}
    staged: Counter[str] = Counter()
    kept_bytes: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    table_bytes = 0
    for plan in driver.plan.shards:
        commit = ingested[plan.shard]
        rows = ledger.read(run.rows(plan.shard), ["number", "media_path", "media_list"]).to_pylist()
        keys += [sample_key(plan.source, row["number"]) for row in rows]
        here = [_is_linked(row["media_path"], row["media_list"]) for row in rows]
        links += here
        linked |= {plan.source} if any(here) else set()
        table = ledger.read(run.ledger(plan.shard, commit.revision), ["key", "bytes"]).to_pylist()
        chosen = ledger.read(run.selection(selection, plan.shard), ["reason", "repeat"]).to_pylist()
        is_kept = set()
        for row, final in zip(table, chosen, strict=True):
            root = root_key(row["key"])
            counts.setdefault(final["reason"], Counter())[root] += 1
            raw[root] = max(raw.get(root, 0), row["bytes"] or 0)  # children all say the size of their parent
            if final["repeat"]:
                kept[plan.modality] += 1
                is_kept.add(row["key"])
        path = run.staged(plan.shard, commit.revision)
        with storage.open_input(path) as file:
            for member in tar.members(file, path):
                size = tar.BLOCK_BYTES + member.size + (-member.size % tar.BLOCK_BYTES)
                staged[root_key(member.key)] += size
                kept_bytes[root_key(member.key)] += size if member.key in is_kept else 0
        paths = [run.ledger(plan.shard, commit.revision), run.rows(plan.shard)]
        paths += [run.scores(name, plan.shard, commit.revision) for name in driver.resolved.scorers]
        table_bytes += sum(storage.size_bytes(path) or 0 for path in paths)

    def values(of: dict[str, int]) -> NDArray[np.float64]:
        return np.array([of.get(key, 0) for key in keys], np.float64)

    total, fixed, shards = _dataset_bytes(dataset)
    return Measured(
        rows=len(keys),
        counts={reason: values(of) for reason, of in sorted(counts.items())},
        network_bytes=values(raw) * np.array(links),
        staged_bytes=values(staged),
        kept_bytes=values(kept_bytes),
        kept=kept,
        dataset_bytes=total - fixed,
        shard_bytes=fixed / max(shards, 1),
        table_bytes=table_bytes / max(len(keys), 1),
        ingest=[(plan, ingested[plan.shard]) for plan in driver.plan.shards],
        scores={name: list(CommitLog(run, f"score.{name}").commits.values()) for name in driver.resolved.scorers},
        emit_s=sum(commit.counts["seconds"] for commit in CommitLog(run, emitted).commits.values()),
        linked=frozenset(linked),
    )


def _is_linked(media_path: str | None, media_list: str | None) -> bool:
    if media_list is None:
        return media_path is None
    return any("url" in medium for medium in orjson.loads(media_list))


def _dataset_bytes(dataset: str) -> tuple[int, int, int]:
    """Bytes of all files; of these, what files of any length have; and the number of shards."""
    folder = DatasetFolder(dataset)
    total = fixed = shards = 0
    for name in storage.list_files(dataset):
        if name.count("/") < 2:
            continue  # card and manifest, one for all shards
        path = folder.path(name)
        size = storage.size_bytes(path) or 0
        total += size
        shards += name.startswith("index/")
        if name.endswith(".parquet"):
            fixed += size - _column_bytes(path)
        else:
            fixed += min(size, _END_BYTES) if name.endswith(".tar") else size
    return total, fixed, shards


def _column_bytes(path: str) -> int:
    with storage.open_input(path) as file:
        groups: Sequence[Any] = [g for m in [pq.read_metadata(file)] for g in map(m.row_group, range(m.num_row_groups))]
    return sum(group.column(i).total_compressed_size for group in groups for i in range(group.num_columns))
