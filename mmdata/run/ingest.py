"""Ingest of one shard: its rows are fetched or read, go through the stages, and become a staged tar and a ledger.

Everything is written under an attempt's own folder; the driver decides whether it counts. Samples finish in any order
and wait in a spool file, not in memory; the tar is written from it in input order, so that the bytes do not depend on
which host answered first.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mmdata.config import Pipeline
from mmdata.counters import Arrivals, Counters, StageCount, check_law
from mmdata.errors import BudgetError, Reason, Status
from mmdata.options import ROLES, values_of
from mmdata.run.before import Before
from mmdata.run.burial import buried_ledger, is_buried
from mmdata.run.catalog import resolve
from mmdata.run.child import run_stages, takes
from mmdata.run.gather import Gatherer, own_columns
from mmdata.run.plan import ShardPlan
from mmdata.run.removals import Removals
from mmdata.run.sandbox import Sandbox, kept_sandboxes
from mmdata.run.spool import Spool
from mmdata.sample import Sample, root_key, sample_key
from mmdata.shards import ledger
from mmdata.shards.attempt import AttemptFiles, scratch_for
from mmdata.shards.commits import Commit
from mmdata.shards.folders import RunFolder
from mmdata.shards.tar import TarWriter
from mmdata.sources.messages import MEDIA_REASONS
from mmdata.stage import OWN, Stage

BATCH_BYTES = 64 << 20  # a batch ends with the sample that reaches it: films are larger than pictures
MIN_ROWS_FOR_BUDGET = 20  # of fewer rows, no share tells an outage from bad luck


@dataclass(frozen=True)
class IngestJob:
    """All that a worker needs to ingest one shard."""

    run: RunFolder
    pipeline: Pipeline
    plan: ShardPlan
    config_hash: str
    attempt: str
    workers: int  # that share the limit of requests at once to one host
    forbidden_ports: frozenset[int]
    revision: int = 0  # the one that this job makes
    again: frozenset[str] = frozenset()  # reasons; of the revision before, only rows that ended so are tried again
    is_timed: bool = False  # the commit says when every row came in, for a projection


def ingest_shard(job: IngestJob) -> Commit:
    """Do one shard; returns what its commit record would say. Raises BudgetError where the network seems to be down."""
    start = time.perf_counter()
    resolved = resolve(job.pipeline)
    rows = ledger.read(job.run.rows(job.plan.shard))
    before = Before(job.run, job.plan.shard, job.revision - 1, job.again) if job.revision else None
    order = {key: place for place, key in enumerate(_keys(rows, job.plan.source))}
    if before is not None:
        rows = rows.filter(pa.array([key in before.again for key in order], pa.bool_()))
    counters, removals = Counters(), Removals.of(job.run)
    folder = job.run.relative(job.run.attempt(job.attempt))
    with scratch_for(job.run.root, folder) as scratch, Spool(scratch) as spool:
        files = AttemptFiles(job.run.root, folder, scratch)
        gatherer = Gatherer(
            job.plan,
            resolved.fetch,
            removals=removals,
            media_column=getattr(resolved.sources[job.plan.source], "media_column", ""),
            per_host=max(1, resolved.fetch.per_host // job.workers),
            forbidden_ports=job.forbidden_ports,
            scratch=scratch,
        )
        arrivals = Arrivals(start, "ingest")
        samples = gatherer.samples(rows, with_own=any(OWN in stage.reads for stage in resolved.stages))
        samples = arrivals.of(samples) if job.is_timed else samples
        for batch in _staged(samples, resolved.stages, job.pipeline, counters):
            for sample in batch:
                sample.columns.pop(OWN, None)  # for stages; it comes into the ledger from the rows
                removals.end(sample)
                spool.keep(sample)
        finished = spool.finished
        check_law(f"ingest of shard {job.plan.shard}", _keys(rows, job.plan.source), finished)
        _count_media(finished, counters)
        finished.sort(key=lambda sample: (order[root_key(sample.key)], sample.key))
        staged: Iterable[tuple[str, dict[str, bytes]]]
        staged = ((sample.key, spool.parts(sample.key)) for sample in finished if sample.is_ok)
        written = {name for stage in resolved.stages for name in stage.writes}
        table = ledger.table_of(finished, _own_columns(rows, finished, job.plan.source), job.plan.modality, written)
        table = buried_ledger(table, is_buried(table))
        if before is None:
            _check_budget(finished, job.pipeline.run.max_transient_share)
        else:
            staged, table = before.staged_with(staged, order, scratch), before.table_with(table, order)
        with files.open(job.run.relative(job.run.staged(job.plan.shard, job.revision))) as file:
            tar = TarWriter(file.unhashed())
            for key, parts in staged:
                tar.add(key, parts)
            counters.bytes_out, sha256 = tar.close()
            file.trust(counters.bytes_out, sha256)
        files.put(job.run.relative(job.run.ledger(job.plan.shard, job.revision)), ledger.parquet_bytes(table))
        counters.samples = table.num_rows
        counters.reasons.update(table["reason"].to_pylist())
        counters.bytes_in = pc.sum(table["bytes"]).as_py() or 0
        counters.seconds = time.perf_counter() - start
    return Commit(
        part="ingest",
        shard=job.plan.shard,
        revision=job.revision,
        attempt=job.attempt,
        config_hash=job.config_hash,
        input_fingerprint=job.plan.fingerprint,
        root="run",
        files=tuple(files.records),
        counts=counters.to_json() | arrivals.to_json(),
    )


def _keys(rows: pa.Table, source: str) -> list[str]:
    return [sample_key(source, number) for number in rows["number"].to_pylist()]


def _own_columns(rows: pa.Table, finished: Sequence[Sample], source: str) -> pa.Table:
    """The source's own columns, one row a finished sample (children repeat their parent's)."""
    own = own_columns(rows)
    place = {key: index for index, key in enumerate(_keys(rows, source))}
    indices = [place[root_key(sample.key)] for sample in finished]
    table: pa.Table = rows.select(own).take(pa.array(indices, pa.int64()))
    return table


def _reasons(samples: Sequence[Sample]) -> Iterator[Reason]:
    """What became of everything that was to be fetched or read: of a document, of each of its media."""
    for sample in samples:
        if media := sample.columns.get(MEDIA_REASONS):
            yield from map(Reason, media)
        else:
            yield sample.reason


def _count_media(samples: Sequence[Sample], counters: Counters) -> None:
    """Count the media of documents as if they were given to a stage of their own."""
    documents = [sample for sample in samples if sample.columns.get(MEDIA_REASONS)]
    if documents:
        statuses = Counter(reason.status for reason in _reasons(documents))
        count = StageCount(statuses.total(), statuses[Status.OK], statuses[Status.FAILED], statuses[Status.DROPPED])
        counters.stages["media of documents"] = count


def _check_budget(samples: Sequence[Sample], limit: float) -> None:
    reasons = list(_reasons(samples))
    transient = sum(reason.is_transient for reason in reasons)
    if len(reasons) >= MIN_ROWS_FOR_BUDGET and transient > limit * len(reasons):
        raise BudgetError(
            f"{transient} of {len(reasons)} rows failed for transient causes (dns, timeouts, 5xx ...), allowed is a "
            f"share of {limit}: the network or the hosts seem to be down; run the same command again later, "
            "or raise run.max_transient_share"
        )


def _staged(
    samples: Iterable[Sample], stages: Sequence[Stage], pipeline: Pipeline, counters: Counters
) -> Iterator[list[Sample]]:
    """Batches of samples that have gone through all stages; neighbouring isolated stages share one child."""
    groups: list[list[int]] = []
    for index, stage in enumerate(stages):
        if groups and stages[groups[-1][0]].isolated == stage.isolated:
            groups[-1].append(index)
        else:
            groups.append([index])
    options = [(stage.name, values_of(stage, *ROLES)) for stage in stages]
    isolated = [group for group in groups if stages[group[0]].isolated]
    kept = kept_sandboxes(
        [[options[i] for i in group] for group in isolated],
        timeout_s=pipeline.run.decode_timeout_s,
        memory_mb=pipeline.run.decode_memory_mb,
    )
    sandboxes = {group[0]: sandbox for group, sandbox in zip(isolated, kept, strict=True)}
    for group in groups:
        if group[0] not in sandboxes:
            for index in group:
                stages[index].setup()
    size = max((stage.batch_size for stage in stages), default=16)
    try:
        for batch, waited_s in _batches(samples, size):
            counters.stage("fetch", batch, waited_s)
            for group in groups:
                batch = _through(batch, [stages[i] for i in group], sandboxes.get(group[0]), counters)
            yield batch
    except BaseException:
        for sandbox in sandboxes.values():
            sandbox.close()  # it may be in the middle of a batch
        raise


def _through(batch: list[Sample], stages: list[Stage], sandbox: Sandbox | None, counters: Counters) -> list[Sample]:
    given = [s for s in batch if any(takes(stage, s) for stage in stages)]
    rest = [s for s in batch if not any(takes(stage, s) for stage in stages)]
    counts: dict[str, StageCount] = {}
    if sandbox is not None:
        sandbox.counts = counts
        done = sandbox.process(given)
    else:
        done = []
        for sample in given:
            samples, took = run_stages(stages, sample)
            done += samples
            for name, count in took.items():
                counts.setdefault(name, StageCount()).add(count)
    for stage in stages:  # in their order, those too that had nothing to do
        counters.stages.setdefault(stage.name, StageCount()).add(counts.get(stage.name, StageCount()))
    return done + rest


def _batches(samples: Iterable[Sample], size: int) -> Iterator[tuple[list[Sample], float]]:
    """Batches of at most `size` samples or about BATCH_BYTES, and the seconds spent waiting for the samples of each."""
    iterator = iter(samples)
    while True:
        start = time.perf_counter()
        batch: list[Sample] = []
        left = BATCH_BYTES
        while len(batch) < size and left > 0 and (sample := next(iterator, None)) is not None:
            batch.append(sample)
            left -= sum(map(len, sample.parts.values()))
        if not batch:
            return
        yield batch, time.perf_counter() - start
