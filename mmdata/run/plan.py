"""The plan: which rows make which shard. Append-only: new input files add shards, old shards never change.

The rows of a source are read once, in windows of a bounded number of shards; inside a window they change places by a
hash of their key, so that neighbours in a table (one host, one album) are spread. Each shard's rows are written to
`plan/rows/00042.parquet`, so that a table of any format and size is parsed once and a worker reads its shard alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mmdata.config import Pipeline, PlanOptions
from mmdata.errors import ChangedError, SourceError
from mmdata.run.catalog import Resolved
from mmdata.run.own_types import joined, make_alike
from mmdata.sample import sample_key
from mmdata.shards import ledger, storage
from mmdata.shards.folders import RunFolder
from mmdata.sources.rows import ROW_FIELDS, InputFile, Source, batches_of, own_names

_INPUT = pa.struct(
    [("path", pa.string()), ("fingerprint", pa.string()), ("first_number", pa.int64()), ("rows", pa.int64())]
)
PLAN = pa.schema(
    [
        ("shard", pa.int64()),
        ("source", pa.string()),
        ("modality", pa.string()),
        ("rows", pa.int64()),
        ("fingerprint", pa.string()),  # of the shard's rows
        ("inputs", pa.list_(_INPUT)),  # the input files that were read for the shard's window
    ]
)


@dataclass(frozen=True)
class ShardPlan:
    """One shard of work."""

    shard: int
    source: str
    modality: str
    rows: int
    fingerprint: str


@dataclass(frozen=True)
class Plan:
    """All shards of a run, in order, and the input files they were made from."""

    shards: list[ShardPlan]
    inputs: list[dict[str, object]]

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)


def read_plan(run: RunFolder) -> Plan:
    """The plan as it stands in the run folder; empty before the first planning."""
    shards, inputs = [], {}
    for name in storage.list_names(run.plan):
        if not name.endswith(".parquet"):
            continue
        for record in ledger.read(storage.join(run.plan, name)).to_pylist():
            shards.append(
                ShardPlan(record["shard"], record["source"], record["modality"], record["rows"], record["fingerprint"])
            )
            for entry in record["inputs"]:
                inputs[record["source"], entry["path"]] = {"source": record["source"], **entry}
    return Plan(sorted(shards, key=lambda shard: shard.shard), list(inputs.values()))


def extend_plan(
    run: RunFolder, pipeline: Pipeline, resolved: Resolved, tell: Callable[[int], None] = lambda _: None
) -> Plan:
    """The plan, with shards appended for input files it does not know yet.

    tell: called now and then with the number of rows read so far.
    Raises SourceError where an input cannot be read or no source has a row, ChangedError where a planned file changed.
    """
    plan = read_plan(run)
    records: list[dict[str, object]] = []
    fresh_of = {name: _fresh_inputs(plan, name, source) for name, source in resolved.sources.items()}
    for name, fresh in fresh_of.items():
        known = [entry for entry in plan.inputs if entry["source"] == name]
        first_number = max((int(e["first_number"]) + int(e["rows"]) for e in known), default=0)  # type: ignore[call-overload]
        if fresh:
            first_shard = len(plan.shards) + len(records)
            rows_before = sum(int(record["rows"]) for record in records)  # type: ignore[call-overload]
            source = resolved.sources[name]
            for record in _plan_source(run, pipeline, name, source, fresh, first_number, first_shard):
                records.append(record)
                rows_before += int(record["rows"])  # type: ignore[call-overload]
                tell(rows_before)
    if not plan.shards and not records:
        raise SourceError(f"{pipeline.path}: sources: found no row in any of {', '.join(resolved.sources)}")
    if records:
        fresh_shards = {int(record["shard"]): record for record in records}  # type: ignore[call-overload]
        rewritten = make_alike(run, [shard.shard for shard in plan.shards], list(fresh_shards))
        for shard, data in rewritten.items():
            fresh_shards[shard]["fingerprint"] = fingerprint_of(data)
        table = ledger.parquet_bytes(pa.Table.from_pylist(records, schema=PLAN))
        number = sum(name.endswith(".parquet") for name in storage.list_names(run.plan))
        storage.create_if_absent(storage.join(run.plan, f"{number:06d}.parquet"), table)
    return read_plan(run)


def _fresh_inputs(plan: Plan, name: str, source: Source) -> list[InputFile]:
    by_fingerprint = {entry["fingerprint"] for entry in plan.inputs if entry["source"] == name}
    by_path = {entry["path"]: entry["fingerprint"] for entry in plan.inputs if entry["source"] == name}
    fresh = [file for file in source.inputs() if file.fingerprint not in by_fingerprint]
    for file in fresh:
        if file.path in by_path:
            raise ChangedError(
                f"{file.path}: this input of source {name} changed since the run was planned with it "
                f"(fingerprint {by_path[file.path]} -> {file.fingerprint}); give the new rows in a file of their own, "
                "or choose another RUN"
            )
    return fresh


def _plan_source(
    run: RunFolder,
    pipeline: Pipeline,
    name: str,
    source: Source,
    inputs: list[InputFile],
    first_number: int,
    first_shard: int,
) -> Iterator[dict[str, object]]:
    """Write the rows of all new shards of one source; gives their records, the last with the inputs."""
    last: dict[str, object] | None = None
    shard = first_shard
    read: list[dict[str, object]] = []
    for window in _windows(numbered(name, source, inputs, first_number, read), pipeline.plan):
        ordered = _shuffled(window, name, pipeline.seed) if pipeline.plan.shuffle else window
        for start in range(0, ordered.num_rows, pipeline.plan.rows_per_shard):
            rows = ordered.slice(start, pipeline.plan.rows_per_shard).combine_chunks()
            data = ledger.parquet_bytes(rows)
            storage.write_whole(run.rows(shard), data)
            if last is not None:
                yield last
            last = {
                "shard": shard,
                "source": name,
                "modality": source.modality,
                "rows": rows.num_rows,
                "fingerprint": fingerprint_of(data),
                "inputs": [],
            }
            shard += 1
    if last is not None:
        yield last | {"inputs": read}


def fingerprint_of(rows: bytes) -> str:
    return hashlib.sha256(rows).hexdigest()[:16]


def numbered(
    name: str, source: Source, inputs: list[InputFile], first_number: int, read: list[dict[str, object]]
) -> Iterator[pa.Table]:
    """Batches of all inputs with a column `number` (row number within the source); notes in `read` what was read."""
    number = first_number
    for file in inputs:
        read.append({"path": file.path, "fingerprint": file.fingerprint, "first_number": number, "rows": 0})
    entries = {entry["path"]: entry for entry in read}
    for file, batch in batches_of(source, inputs, rows_before=first_number):
        table = pa.Table.from_batches([batch])
        own = own_names(table.column_names[len(ROW_FIELDS) :], (*ROW_FIELDS.names, *ledger.RESERVED, "number"))
        numbers = pa.array(range(number, number + table.num_rows), pa.int64())
        yield table.rename_columns([*ROW_FIELDS.names, *own]).append_column("number", numbers)
        entry = entries[file.path]
        if not entry["rows"]:
            entry["first_number"] = number
        entry["rows"] += table.num_rows
        number += table.num_rows


def _windows(tables: Iterator[pa.Table], options: PlanOptions) -> Iterator[pa.Table]:
    """The same rows in tables of exactly one window, the last one shorter."""
    limit = options.rows_per_shard * options.shuffle_window_shards
    waiting: list[pa.Table] = []
    have = 0
    for table in tables:
        waiting.append(table)
        have += table.num_rows
        while have >= limit:
            whole = joined(waiting)
            yield whole.slice(0, limit)
            waiting = [whole.slice(limit)]
            have -= limit
    if have:
        yield joined(waiting)


def _shuffled(window: pa.Table, source: str, seed: int) -> pa.Table:
    """The rows in an order that depends on seed and keys alone, whatever library version runs."""
    salt = str(seed).encode()[:64]
    ranks = [
        hashlib.blake2b(sample_key(source, number).encode(), digest_size=8, key=salt).digest()
        for number in window["number"].to_pylist()
    ]
    order = pc.sort_indices(pa.array(ranks, pa.binary(8)))
    return window.take(order)
