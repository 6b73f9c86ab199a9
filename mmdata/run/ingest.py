"""Ingest of one shard: its rows are fetched or read, go through the stages, and become a staged tar and a ledger.

Everything is written under an attempt's own folder; the driver decides whether it counts. Samples finish in any order
and wait in a spool file, not in memory; the tar is written from it in input order, so that the bytes do not depend on
which host answered first.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from mmdata.config import Pipeline
from mmdata.counters import Counters, check_law
from mmdata.errors import BudgetError, Reason, SampleError
from mmdata.fetch.blocklist import read_hash_list
from mmdata.fetch.engine import fetch_all
from mmdata.fetch.links import Fetched, Link, check_bytes
from mmdata.options import ROLES, values_of
from mmdata.run.catalog import Resolved, resolve
from mmdata.run.child import run_stages, takes
from mmdata.run.plan import ShardPlan
from mmdata.run.sandbox import Sandbox, kept_sandbox
from mmdata.run.spool import Spool
from mmdata.sample import RAW, Sample, root_key, sample_key
from mmdata.shards import ledger
from mmdata.shards.attempt import AttemptFiles, scratch_for
from mmdata.shards.commits import Commit
from mmdata.shards.folders import RunFolder
from mmdata.shards.tar import TarWriter
from mmdata.sources.media import MediaPlace, MediaReader
from mmdata.sources.rows import ROW_FIELDS
from mmdata.stage import OWN, Stage

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


def ingest_shard(job: IngestJob) -> Commit:
    """Do one shard; returns what its commit record would say. Raises BudgetError where the network seems to be down."""
    start = time.perf_counter()
    resolved = resolve(job.pipeline)
    rows = ledger.read(job.run.rows(job.plan.shard))
    counters = Counters()
    folder = job.run.relative(job.run.attempt(job.attempt))
    with scratch_for(job.run.root, folder) as scratch, Spool(scratch) as spool:
        files = AttemptFiles(job.run.root, folder, scratch)
        samples = _samples(rows, job, resolved)
        for batch in _staged(samples, resolved.stages, job.pipeline, counters):
            for sample in batch:
                spool.keep(sample)
        finished = spool.finished
        check_law(f"ingest of shard {job.plan.shard}", _keys(rows, job.plan.source), finished)
        counters.samples = len(finished)
        counters.reasons.update(sample.reason.value for sample in finished)
        counters.bytes_in = sum(sample.columns.get("bytes") or 0 for sample in finished)
        _check_budget(finished, job.pipeline.run.max_transient_share)
        order = {key: place for place, key in enumerate(_keys(rows, job.plan.source))}
        finished.sort(key=lambda sample: (order[root_key(sample.key)], sample.key))
        with files.open(job.run.relative(job.run.staged(job.plan.shard))) as file:
            tar = TarWriter(file.unhashed())
            for sample in finished:
                if sample.is_ok:
                    tar.add(sample.key, spool.parts(sample.key))
            counters.bytes_out, sha256 = tar.close()
            file.trust(counters.bytes_out, sha256)
        written = {name for stage in resolved.stages for name in stage.writes}
        table = ledger.table_of(finished, _own_columns(rows, finished, job.plan.source), job.plan.modality, written)
        files.put(job.run.relative(job.run.ledger(job.plan.shard)), ledger.parquet_bytes(table))
        counters.seconds = time.perf_counter() - start
    return Commit(
        part="ingest",
        shard=job.plan.shard,
        revision=0,
        attempt=job.attempt,
        config_hash=job.config_hash,
        input_fingerprint=job.plan.fingerprint,
        root="run",
        files=tuple(files.records),
        counts=counters.to_json(),
    )


def _keys(rows: pa.Table, source: str) -> list[str]:
    return [sample_key(source, number) for number in rows["number"].to_pylist()]


def _own_columns(rows: pa.Table, finished: Sequence[Sample], source: str) -> pa.Table:
    """The source's own columns, one row a finished sample (children repeat their parent's)."""
    own = [name for name in rows.column_names if name not in ROW_FIELDS.names and name != "number"]
    place = {key: index for index, key in enumerate(_keys(rows, source))}
    indices = [place[root_key(sample.key)] for sample in finished]
    table: pa.Table = rows.select(own).take(pa.array(indices, pa.int64()))
    return table


def _owns(rows: pa.Table) -> Iterator[dict[str, Any]]:
    """The source's own columns of every row as plain values, for stages that read them."""
    own = [name for name in rows.column_names if name not in ROW_FIELDS.names and name != "number"]
    if not own:
        yield from ({} for _ in range(rows.num_rows))
    for row in rows.select(own).to_pylist():
        yield orjson.loads(orjson.dumps(row, default=str))


def _check_budget(samples: Sequence[Sample], limit: float) -> None:
    transient = sum(sample.reason.is_transient for sample in samples)
    if len(samples) >= MIN_ROWS_FOR_BUDGET and transient > limit * len(samples):
        raise BudgetError(
            f"{transient} of {len(samples)} rows failed for transient causes (dns, timeouts, 5xx ...), allowed is a "
            f"share of {limit}: the network or the hosts seem to be down; run the same command again later, "
            "or raise run.max_transient_share"
        )


def _samples(rows: pa.Table, job: IngestJob, resolved: Resolved) -> Iterator[Sample]:
    """A sample for every row, in the order its bytes come in: with its part `raw`, or with the reason why not."""
    linked: dict[str, tuple[Sample, Link]] = {}
    stored: list[tuple[Sample, MediaPlace, str | None]] = []
    owns = _owns(rows) if any(OWN in stage.reads for stage in resolved.stages) else itertools.repeat(None)
    for row, own in zip(rows.select([*ROW_FIELDS.names, "number"]).to_pylist(), owns, strict=False):
        sample = _sample(row, job.plan)
        if own is not None:
            sample.columns[OWN] = own
        if row["row_error"]:
            sample.end(Reason.ROW_ERROR, row["row_error"])
            yield sample
        elif row["media_path"]:
            place = MediaPlace(row["media_path"], row["media_offset"], row["media_size"], row["media_row"])
            stored.append((sample, place, row["expected_sha256"]))
        else:
            linked[sample.key] = sample, Link(sample.key, row["url"] or "", row["expected_sha256"])
    fetch = resolved.fetch
    blocked: Container[str] = read_hash_list(fetch.hash_blocklist) if fetch.hash_blocklist else ()
    column = getattr(resolved.sources[job.plan.source], "media_column", "")
    with MediaReader(column, int(fetch.max_mb * 1e6)) as reader:
        for index, data in reader.read_many(place for _, place, _ in stored):
            sample, _, expected = stored[index]
            fetched = Fetched(sample.key, attempts=1)
            if isinstance(data, SampleError):
                fetched.end(data.reason, data.detail)
            else:
                fetched.data, fetched.num_bytes = data, len(data)
            yield _had(sample, check_bytes(fetched, expected, blocked))
    at_once = max(1, fetch.per_host // job.workers)
    links = [link for _, link in linked.values()]
    for fetched in fetch_all(links, fetch, per_host=at_once, forbidden_ports=job.forbidden_ports, blocklist=blocked):
        yield _had(linked.pop(fetched.key)[0], fetched)
    for sample, _ in linked.values():
        sample.end(Reason.INTERNAL, "the fetcher gave no answer for this link")
        yield sample


def _stored_name(row: dict[str, Any]) -> str | None:
    """Where stored bytes came from, without the folder: that is this machine's own and would change the dataset."""
    if not row["media_path"]:
        return None
    name = row["media_path"].rpartition("/")[2]
    place = row["media_row"] if row["media_row"] is not None else row["media_offset"]
    return f"{name}#{place}" if place else name


def _had(sample: Sample, fetched: Fetched) -> Sample:
    sample.columns |= {
        "attempts": fetched.attempts,
        "http_code": fetched.http_code,
        "raw_sha256": fetched.sha256,
        "bytes": fetched.num_bytes if fetched.sha256 else None,
    }
    if fetched.reason is Reason.OK:
        sample.parts[RAW] = fetched.data
    else:
        sample.end(fetched.reason, fetched.detail)
    return sample


def _sample(row: dict[str, Any], plan: ShardPlan) -> Sample:
    columns = {
        "source": plan.source,
        "row": row["number"],
        "modality": plan.modality,
        "url": row["url"] or _stored_name(row),
        "caption": row["caption"],
        "language": row["language"],
    }
    return Sample(sample_key(plan.source, row["number"]), {}, columns)


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
    sandboxes = {
        group[0]: kept_sandbox(
            [options[i] for i in group],
            timeout_s=pipeline.run.decode_timeout_s,
            memory_mb=pipeline.run.decode_memory_mb,
        )
        for group in groups
        if stages[group[0]].isolated
    }
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
    seconds: dict[str, float] = {}
    if sandbox is not None:
        sandbox.seconds = seconds
        done = sandbox.process(given)
    else:
        done = []
        for sample in given:
            samples, took = run_stages(stages, sample)
            done += samples
            for name, value in took.items():
                seconds[name] = seconds.get(name, 0.0) + value
    for stage in stages:
        counters.stage(stage.name, done, seconds.get(stage.name, 0.0))
    return done + rest


def _batches(samples: Iterable[Sample], size: int) -> Iterator[tuple[list[Sample], float]]:
    """Batches, and the seconds that were spent waiting for the samples of each."""
    iterator = iter(samples)
    while True:
        start = time.perf_counter()
        batch = list(itertools.islice(iterator, size))
        if not batch:
            return
        yield batch, time.perf_counter() - start
