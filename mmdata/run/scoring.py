"""Scoring of one shard: the staged samples go through a scorer; the result is a table row-aligned with the ledger."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmdata.config import Pipeline
from mmdata.counters import Arrivals, Counters, check_law
from mmdata.errors import ShardError
from mmdata.run.catalog import resolve
from mmdata.run.child import takes
from mmdata.sample import Sample
from mmdata.shards import ledger, storage, tar
from mmdata.shards.attempt import AttemptFiles, scratch_for
from mmdata.shards.commits import Commit
from mmdata.shards.folders import RunFolder
from mmdata.stage import Stage

READS_COLUMNS = {"key", "status", "modality", "parts", "caption", "language", "width_px", "height_px"}


@dataclass(frozen=True)
class ScoreJob:
    """All that a worker needs to score one shard."""

    run: RunFolder
    pipeline: Pipeline
    scorer: str
    shard: int
    revision: int  # of the ingest commit that the scores belong to
    config_hash: str
    fingerprint: str  # of its staged tar
    attempt: str
    is_timed: bool = False  # the commit says when every row was scored, for a projection


class ScoreWorker:
    """Loads a scorer once and scores shards with it; the body of a Ray actor, or used as it is in one process."""

    def __init__(self, pipeline: Pipeline, scorer: str) -> None:
        self._scorer = resolve(pipeline).scorers[scorer]
        self._scorer.setup()

    def score(self, job: ScoreJob) -> Commit:
        """Do one shard; returns what its commit record would say."""
        start = time.perf_counter()
        arrivals = Arrivals(start, job.scorer)
        table = ledger.read(job.run.ledger(job.shard, job.revision))
        table = table.select([name for name in table.column_names if name in READS_COLUMNS | self._scorer.reads])
        counters = Counters()
        folder = job.run.relative(job.run.attempt(job.attempt))
        with scratch_for(job.run.root, folder) as scratch:
            files = AttemptFiles(job.run.root, folder, scratch)
            staged = storage.local_copy(job.run.staged(job.shard, job.revision), scratch)
            given: list[str] = []
            scored = score_samples(
                self._scorer,
                self._taken(staged_samples(staged, table), given),
                counters,
                arrivals if job.is_timed else None,
            )
            check_law(f"{job.scorer} of shard {job.shard}", given, list(scored.values()))
            keys = table["key"].to_pylist()
            more = getattr(self._scorer, "writes_by_modality", {})  # columns that shards of one modality alone have
            names = self._scorer.writes | more.get(ledger.modality_of(table.schema), frozenset())
            data = ledger.parquet_bytes(scores_table(keys, scored, names))
            files.put(job.run.relative(job.run.scores(job.scorer, job.shard, job.revision)), data)
        counters.samples = len(scored)
        counters.reasons.update(sample.reason.value for sample in scored.values())
        counters.seconds = time.perf_counter() - start
        return Commit(
            part=f"score.{job.scorer}",
            shard=job.shard,
            revision=job.revision,
            attempt=job.attempt,
            config_hash=job.config_hash,
            input_fingerprint=job.fingerprint,
            root="run",
            files=tuple(files.records),
            counts=counters.to_json() | {"facts": self._scorer.facts()} | arrivals.to_json(),  # type: ignore[attr-defined]
        )

    def _taken(self, samples: Iterator[Sample], given: list[str]) -> Iterator[Sample]:
        """The samples that are for this scorer; notes their keys."""
        for sample in samples:
            if takes(self._scorer, sample):
                given.append(sample.key)
                yield sample


def staged_samples(staged: Path, table: pa.Table) -> Iterator[Sample]:
    """The ok samples of a staged tar in order, with their ledger columns. Raises ShardError where the two differ.

    A sample without parts, which only documents may be, is in the ledger alone.
    """
    with staged.open("rb") as file:
        found = tar.read_samples(file, str(staged))
        for row in table.to_pylist():
            if row["status"] != "ok":
                continue
            if not row["parts"]:
                yield Sample(row["key"], {}, row)
                continue
            key, parts = next(found, ("", {}))
            if key != row["key"]:
                raise ShardError(f"{staged}: found {key or 'its end'}, but the ledger has {row['key']}")
            yield Sample(key, parts, row)
        if (rest := next(found, None)) is not None:
            raise ShardError(f"{staged}: found {rest[0]}, but the ledger has no further row")


def score_samples(
    scorer: Stage, samples: Iterator[Sample], counters: Counters, arrivals: Arrivals | None = None
) -> dict[str, Sample]:
    """Every sample by key with the scorer's columns; its bytes are let go of. Batches never cross the shard's end."""
    done: dict[str, Sample] = {}
    start = time.perf_counter()
    made = scorer.process_shard(samples)  # type: ignore[attr-defined]
    for sample in made if arrivals is None else arrivals.of(made):
        sample.parts.clear()
        done[sample.key] = sample
    counters.stage(scorer.name, list(done.values()), time.perf_counter() - start)
    return done


def scores_table(keys: Sequence[str], scored: dict[str, Sample], names: Collection[str]) -> pa.Table:
    """Row-aligned with the ledger: status and reason (null where it was not given the row), then columns `names`."""
    columns: dict[str, pa.Array] = {
        "key": pa.array(keys, pa.string()),
        "status": pa.array([scored[k].status.value if k in scored else None for k in keys], pa.string()),
        "reason": pa.array([scored[k].reason.value if k in scored else None for k in keys], pa.string()),
        "detail": pa.array([scored[k].detail if k in scored else None for k in keys], pa.string()),
    }
    for name in sorted(names):
        columns[name] = _array([scored[k].columns.get(name) if k in scored else None for k in keys])
    return pa.table(columns)


def _array(values: list[Any]) -> pa.Array:
    """float32 for numbers, text as it is, fixed-size float16 lists for embeddings."""
    first = next((value for value in values if value is not None), None)
    if first is None:
        return pa.nulls(len(values))  # a shard of which nothing could be scored: goes with any other shard's type
    if isinstance(first, str):
        return pa.array(values, pa.string())
    if not isinstance(first, np.ndarray):
        return pa.array(values, pa.float32())
    width = len(first)
    flat = np.concatenate([np.zeros(width, np.float16) if v is None else v.astype(np.float16) for v in values])
    missing = pa.array([value is None for value in values], pa.bool_())
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float16()), width, mask=missing)
