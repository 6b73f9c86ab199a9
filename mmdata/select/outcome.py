"""What the rules decided, written as one table for every shard, row-aligned with its ledger, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmdata.errors import Reason, Status
from mmdata.select.counts import KeptCount, SelectionCounts
from mmdata.select.load import all_rows
from mmdata.select.split import TRAIN, VAL, is_val_sql, join_sides
from mmdata.select.tables import Columns
from mmdata.select.workspace import ID, Workspace, quoted

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("keep", pa.bool_()),
        ("repeat", pa.int32()),  # how often the sample is in the dataset; 0 where it is not kept
        ("split", pa.string()),  # train or val; null where it is not kept
        ("duplicate_group", pa.string()),  # key of the row that stands for a group of duplicates; null outside any
    ]
)  # and the columns that rules have added
_BATCH_ROWS = 100_000
_AHEAD = 4  # tables that wait to be written


def write_tables(
    work: Workspace,
    columns: Columns,
    counts: SelectionCounts,
    val_share: float,
    write: Callable[[int, pa.Table], None],
) -> None:
    """Give `write` every shard's table in order, in one other thread, and add them to the counts."""
    given = _InOrder(all_rows(work, columns))
    drops = _by_id(work, "reason, detail", "drops")
    repeats = _by_id(work, "repeat", "repeats")
    groups = _by_id(work, "leader", "groups")
    added = _by_id(work, ", ".join(["1", *map(quoted, work.added)]), "added")
    join_sides(work)
    is_val = is_val_sql("key", seed=work.seed, val_share=val_share)
    vals = _by_id(
        work, "1", f"(SELECT {ID}, coalesce(side, key) AS key FROM kept LEFT JOIN sides USING ({ID})) WHERE {is_val}"
    )
    first = 0
    waiting: list[Future[None]] = []
    with ThreadPoolExecutor(1) as writer:
        for shard, rows in (
            (shard, n) for chunk in columns.chunks for shard, n in zip(chunk.shards, chunk.rows, strict=True)
        ):
            end = first + rows
            before = given.take(rows)
            table = _table(before, first, drops.until(end), repeats.until(end), groups.until(end), vals.until(end))
            made = added.until(end)
            for name, kind in work.added.items():
                table = table.append_column(name, _spread(rows, _places(made, first), made[name].cast(kind)))
            _count(shard.shard, before, table, counts)
            waiting.append(writer.submit(write, shard.shard, table))
            if len(waiting) > _AHEAD:
                waiting.pop(0).result()
            first = end
        for future in waiting:
            future.result()


class _InOrder:
    """Batches of rows in order, taken shard by shard without holding them all."""

    def __init__(self, batches: Iterator[pa.Table]) -> None:
        self._batches = batches
        self._rest: list[pa.Table] = []

    def take(self, rows: int) -> pa.Table:
        """The next `rows` rows."""
        have = sum(table.num_rows for table in self._rest)
        while have < rows:
            self._rest.append(next(self._batches))
            have += self._rest[-1].num_rows
        whole = pa.concat_tables(self._rest) if self._rest else pa.table({})
        self._rest = [whole.slice(rows)]
        return whole.slice(0, rows).combine_chunks()

    def until(self, end: int) -> pa.Table:
        """The next rows with mmdata_id < end."""
        while not self._rest or not self._rest[-1].num_rows or self._rest[-1][ID][-1].as_py() < end:
            table = next(self._batches, None)
            if table is None:
                break
            self._rest.append(table)
        whole = pa.concat_tables(self._rest)
        cut = int(np.searchsorted(whole[ID].to_numpy(), end))
        self._rest = [whole.slice(cut)]
        return whole.slice(0, cut).combine_chunks()


def _by_id(work: Workspace, columns: str, table: str) -> _InOrder:
    reader: Any = (
        work.db.cursor().sql(f"SELECT {ID}, {columns} FROM {table} ORDER BY {ID}").to_arrow_reader(_BATCH_ROWS)
    )

    def batches() -> Iterator[pa.Table]:
        yield reader.schema.empty_table()
        yield from (pa.Table.from_batches([batch]) for batch in reader)

    return _InOrder(batches())


def _places(table: pa.Table, first: int) -> NDArray[np.int64]:
    places: NDArray[np.int64] = table[ID].to_numpy() - first
    return places


def _table(
    before: pa.Table, first: int, drops: pa.Table, repeats: pa.Table, groups: pa.Table, vals: pa.Table
) -> pa.Table:
    rows = before.num_rows
    gone = _places(drops, first)
    status, reason, detail = (before[name].combine_chunks() for name in ("status", "reason", "detail"))
    status = _replace(status, gone, pa.array([Status.DROPPED.value] * len(gone), pa.string()))
    reason = _replace(reason, gone, drops["reason"])
    detail = _replace(detail, gone, drops["detail"])
    keep = pc.equal(status, Status.OK.value)
    kept = keep.to_numpy(zero_copy_only=False)
    repeat = kept.astype(np.int32)
    repeat[_places(repeats, first)] = repeats["repeat"].to_numpy()
    repeat[~kept] = 0
    val = np.zeros(rows, dtype=bool)
    val[_places(vals, first)] = True
    split = pc.if_else(keep, pc.if_else(pa.array(val), VAL, TRAIN), pa.scalar(None, pa.string()))
    group = _spread(rows, _places(groups, first), groups["leader"])
    return pa.table([before["key"], status, reason, detail, keep, pa.array(repeat), split, group], schema=SCHEMA)


def _one(values: pa.ChunkedArray) -> pa.Array:
    return values.chunk(0) if values.num_chunks == 1 else pa.concat_arrays(values.chunks or [pa.nulls(0, values.type)])


def _spread(rows: int, places: NDArray[np.int64], values: pa.ChunkedArray) -> pa.Array:
    """Values at their places, null elsewhere."""
    return _replace(pa.nulls(rows, values.type), places, values)


def _replace(values: pa.Array, places: NDArray[np.int64], by: pa.Array | pa.ChunkedArray) -> pa.Array:
    if not len(places):
        return values
    mask = np.zeros(len(values), dtype=bool)
    mask[places] = True
    one = _one(by) if isinstance(by, pa.ChunkedArray) else by
    return pc.replace_with_mask(values, pa.array(mask), one.cast(values.type))


def _count(shard: int, given: pa.Table, table: pa.Table, counts: SelectionCounts) -> None:
    """Add a shard to the counts, and check the law: rows = ok + failed + dropped, and kept rows are the ok ones."""
    columns = {name: given[name] for name in ("source", "modality", "parts")}
    columns |= {name: table[name] for name in ("status", "reason", "keep", "split", "repeat")}
    names = [name for name in columns if name != "repeat"]
    groups = pa.table(columns).group_by(names, use_threads=False).aggregate([([], "count_all"), ("repeat", "sum")])
    true = kept = 0
    placed: Counter[tuple[str, str, str]] = Counter()
    samples: Counter[tuple[str, str, str]] = Counter()
    for group in groups.to_pylist():
        rows, reason = group["count_all"], group["reason"]
        counts.funnel[group["source"], group["modality"], reason] += rows
        counts.reasons[reason] += rows
        status = Reason(reason).status
        true += rows if status.value == group["status"] and group["keep"] == (status is Status.OK) else 0
        if group["keep"]:
            place = group["modality"], group["split"], group["parts"]
            kept += rows
            placed[place] += rows
            samples[place] += group["repeat_sum"]
    if true != given.num_rows:
        raise AssertionError(f"shard {shard}: of {given.num_rows} rows only {true} have one reason, {kept} are kept")
    counts.rows += given.num_rows
    for place in sorted(placed):
        counts.kept.append(KeptCount(shard, *place, placed[place], samples[place]))
