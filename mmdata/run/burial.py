"""What stays of rows that are removed: that there were such rows, so that every count still adds up, and no more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmdata.errors import Reason, Status
from mmdata.run.plan import Plan, ShardPlan
from mmdata.run.removals import Removals
from mmdata.sample import sample_key
from mmdata.shards import ledger, storage
from mmdata.shards.commits import CommitLog
from mmdata.shards.folders import RunFolder

_KEPT = ("key", "source", "row", "modality", "number")  # of a row that is removed


def buried(table: pa.Table, mask: NDArray[np.bool_], values: Mapping[str, Any]) -> pa.Table:
    """The table with nothing left of the rows in `mask` but their key or number, source and modality, and `values`."""
    if not mask.any():
        return table
    gone = pa.array(mask)
    places = pa.array(np.arange(len(mask)), pa.int64(), mask=mask)
    emptied = table.take(places)  # a null place gives a null row, whatever the types are
    arrays = []
    for name in table.column_names:
        column = table[name] if name in _KEPT else emptied[name]
        if name in values:
            column = pc.if_else(gone, pa.scalar(values[name], column.type), column)
        arrays.append(column)
    return pa.Table.from_arrays(arrays, schema=table.schema)


def buried_ledger(table: pa.Table, mask: NDArray[np.bool_]) -> pa.Table:
    """A ledger whose rows in `mask` say no more than that they were removed."""
    said = {"status": Status.DROPPED.value, "reason": Reason.REMOVED.value, "detail": "", "retryable": False}
    return buried(table, mask, {**said, "parts": ""})


def is_buried(table: pa.Table) -> NDArray[np.bool_]:
    """The rows of a ledger that say no more than that they were removed."""
    return np.array([reason == Reason.REMOVED.value for reason in table["reason"].to_pylist()], bool)


def bury_rows(run: RunFolder, plan: Plan) -> None:
    """Empty the listed rows of shards that are not ingested: what was purged is not to come back with new inputs."""
    removals = Removals.of(run, purged_only=True)
    ingested = CommitLog(run, "ingest").commits if removals else {}
    for shard in plan.shards if removals else ():
        if shard.shard not in ingested:
            bury_in_plan(run, shard, removals.input_roots(ledger.read(run.rows(shard.shard)), shard.source))


def bury_in_plan(run: RunFolder, shard: ShardPlan, roots: Collection[str]) -> None:
    """Empty these rows of a shard of the plan, unless they are."""
    table = ledger.read(run.rows(shard.shard))
    errors = table["row_error"].to_pylist()
    keys = [sample_key(shard.source, number) for number in table["number"].to_pylist()]
    mask = np.array([key in roots for key in keys], bool)
    if any(listed and error != Reason.REMOVED.value for listed, error in zip(mask, errors, strict=True)):
        data = ledger.parquet_bytes(buried(table, mask, {"row_error": Reason.REMOVED.value}))
        storage.write_whole(run.rows(shard.shard), data)
