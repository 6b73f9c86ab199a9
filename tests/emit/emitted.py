"""A small dataset emitted from a built run folder, the way a driver does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mmdata.config import EmitOptions
from mmdata.emit.manifest import DatasetFacts, write_manifest
from mmdata.emit.plan import StagedShard, WindowJob, plan_windows
from mmdata.emit.window import WindowResult, emit_window
from mmdata.options import values_of
from mmdata.select.counts import SelectionCounts
from mmdata.select.rules import Rule
from mmdata.select.selection import select
from mmdata.select.tables import ShardTables
from mmdata.shards import ledger, storage
from mmdata.shards.folders import RunFolder
from mmdata.stage import Stage

SEED = 17


@dataclass(frozen=True)
class Emitted:
    """The dataset's folder, its digest, and what it was made from."""

    root: str
    digest: str
    counts: SelectionCounts
    jobs: list[WindowJob]
    results: list[WindowResult]

    @property
    def path(self) -> Path:
        return Path(self.root)


def staged_shard(run: RunFolder, shard: int) -> StagedShard:
    scores = {"image_text": run.scores("image_text", shard)}
    return StagedShard(shard, run.staged(shard), run.ledger(shard), run.selection("s", shard), scores)


def select_run(
    run: RunFolder, shards: int, scratch: Path, rules: Sequence[Rule] = (), val_share: float = 0.2, threads: int = 2
) -> SelectionCounts:
    """Selection of a run's first shards, written where the design says."""

    def write(shard: int, table: pa.Table) -> None:
        storage.write_whole(run.selection("s", shard), ledger.parquet_bytes(table))

    tables = [
        ShardTables(number, run.ledger(number), {"image_text": run.scores("image_text", number)})
        for number in range(shards)
    ]
    return select(tables, rules, seed=SEED, val_share=val_share, scratch=scratch, write=write, threads=threads)


def emit_run(
    run: RunFolder,
    root: Path,
    counts: SelectionCounts,
    options: EmitOptions,
    *,
    shards: int,
    rules: Sequence[Rule] = (),
    order: Callable[[list[WindowJob]], list[WindowJob]] = list,
) -> Emitted:
    """Emit the first shards of a run, publish and write the manifest."""
    return emit_staged([staged_shard(run, n) for n in range(shards)], root, counts, options, rules=rules, order=order)


def emit_staged(
    staged: Sequence[StagedShard],
    root: Path,
    counts: SelectionCounts,
    options: EmitOptions,
    *,
    rules: Sequence[Rule] = (),
    stages: Sequence[Stage] = (),
    order: Callable[[list[WindowJob]], list[WindowJob]] = list,
) -> Emitted:
    """Emit, publish and write the manifest; `order` is the order in which windows are worked on."""
    jobs = plan_windows(staged, counts, options, seed=SEED, stages=stages, rules=rules)
    results: dict[int, WindowResult] = {}
    for job in order(jobs):
        result = emit_window(job, str(root), f"attempt-{job.window}", root.parent / "scratch")
        for file in result.files:
            storage.publish(storage.join(str(root), file.attempt_path), storage.join(str(root), file.path), file.sha256)
        results[job.window] = result
    storage.remove(str(root / ".attempts"))
    in_order = [results[job.window] for job in jobs]
    facts = DatasetFacts(
        name="tiny",
        seed=SEED,
        formats=options.formats,
        normalise=options.normalise,
        selection=counts,
        rules=[(rule.name, values_of(rule, "semantic")) for rule in rules],
        hashes={"ingest": "0" * 16},
    )
    files = [file for result in in_order for file in result.files]
    digest = write_manifest(str(root), files, [result.counts for result in in_order], facts)
    return Emitted(str(root), digest, counts, jobs, in_order)
