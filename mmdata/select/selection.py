"""Selection of a whole run: rows that are ok go through the rules in order, then every shard gets its final table.

Three passes over row-aligned shards, one shard in memory at a time: schemas, the columns that rules read (into DuckDB,
which spills), and the table written for each shard. The result does not depend on the order of rows or on threads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmdata.errors import Reason, Status
from mmdata.select.counts import KeptCount, RuleCount, SelectionCounts
from mmdata.select.rules import Rule, check_columns
from mmdata.select.split import TRAIN, VAL, is_val_sql
from mmdata.select.tables import LEDGER, Columns, ShardTables, ok_rows, read_shard, statuses
from mmdata.select.workspace import ID, Workspace

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("keep", pa.bool_()),
        ("repeat", pa.int32()),  # how often the sample is in the dataset; 0 where it is not kept
        ("split", pa.string()),  # train or val; null where it is not kept
    ]
)
MEMORY_MB = 2048


def select(
    shards: Sequence[ShardTables],
    rules: Sequence[Rule],
    *,
    seed: int,
    val_share: float,
    scratch: Path,
    write: Callable[[int, pa.Table], None],
    memory_mb: int = MEMORY_MB,
    threads: int = 2,
) -> SelectionCounts:
    """Decide about every row of the shards; `write(shard, table)` gets each shard's table, in the order of `shards`.

    scratch: local folder for what does not fit into memory_mb; used by nobody else. Raises ConfigError for a column
    that there is not, ShardError for tables that do not belong together.
    """
    if not shards:
        return SelectionCounts()
    columns = Columns.of(shards)
    check_columns(rules, columns.types)
    wanted = sorted({name for rule in rules for name in rule.columns()} - {"key"})
    work = Workspace(scratch, seed, {name: columns.types[name] for name in wanted}, memory_mb, threads)
    try:
        work.db.execute("BEGIN")
        for rows in ok_rows(shards, wanted, columns):
            work.load(rows)
        work.db.execute("COMMIT")
        counts = SelectionCounts(own=columns.own)
        for number, rule in enumerate(rules):
            given = work.num_kept
            work.begin(number)
            rule.apply(work)
            counts.rules.append(RuleCount(rule.name, given, _reasons_of(work, number)))
        _write_tables(shards, work, counts, val_share, write)
    finally:
        work.close()
    return counts


def _reasons_of(work: Workspace, rule: int) -> dict[str, int]:
    query = f"SELECT reason, count(*) FROM drops WHERE rule = {rule} GROUP BY reason ORDER BY reason"
    return dict(work.db.execute(query).fetchall())


def _write_tables(
    shards: Sequence[ShardTables],
    work: Workspace,
    counts: SelectionCounts,
    val_share: float,
    write: Callable[[int, pa.Table], None],
) -> None:
    drops = _InOrder(work, f"SELECT {ID}, reason, detail FROM drops ORDER BY {ID}")
    repeats = _InOrder(work, f"SELECT {ID}, repeat FROM repeats ORDER BY {ID}")
    is_val = is_val_sql("key", seed=work.seed, val_share=val_share)
    vals = _InOrder(work, f"SELECT {ID} FROM kept WHERE {is_val} ORDER BY {ID}")
    first = 0
    for shard in shards:
        given, scores = read_shard(shard, {LEDGER: ("source", "modality", "parts")})
        end = first + given.num_rows
        status, reason, detail = statuses(given, scores)
        gone = drops.until(end)
        places = gone[ID].to_numpy() - first
        status = _replace(status, places, pa.array([Status.DROPPED.value] * len(places), pa.string()))
        reason = _replace(reason, places, gone["reason"].combine_chunks())
        detail = _replace(detail, places, gone["detail"].combine_chunks())
        keep = pc.equal(status, Status.OK.value)
        kept = keep.to_numpy(zero_copy_only=False)
        repeat = kept.astype(np.int32)
        again = repeats.until(end)
        repeat[again[ID].to_numpy() - first] = again["repeat"].to_numpy()
        repeat[~kept] = 0
        val = np.zeros(given.num_rows, dtype=bool)
        val[vals.until(end)[ID].to_numpy() - first] = True
        split = pc.if_else(keep, pc.if_else(pa.array(val), VAL, TRAIN), pa.scalar(None, pa.string()))
        table = pa.table([given["key"], status, reason, detail, keep, pa.array(repeat), split], schema=SCHEMA)
        _count(shard.shard, given, table, counts)
        write(shard.shard, table)
        first = end


class _InOrder:
    """Rows of an ordered query, taken shard by shard without holding them all."""

    def __init__(self, work: Workspace, query: str) -> None:
        self._reader: Any = work.db.cursor().sql(query).to_arrow_reader(100_000)
        self._rest: pa.Table = self._reader.schema.empty_table()

    def until(self, end: int) -> pa.Table:
        """The next rows with mmdata_id < end."""
        taken = [self._rest]
        while not taken[-1].num_rows or taken[-1][ID][-1].as_py() < end:
            try:
                taken.append(pa.Table.from_batches([self._reader.read_next_batch()]))
            except StopIteration:
                break
        last = taken.pop()
        cut = int(np.searchsorted(last[ID].to_numpy(), end))
        self._rest = last.slice(cut)
        return pa.concat_tables([*taken, last.slice(0, cut)])


def _replace(values: pa.Array, places: np.ndarray[Any, Any], by: pa.Array) -> pa.Array:
    if not len(places):
        return values
    mask = np.zeros(len(values), dtype=bool)
    mask[places] = True
    return pc.replace_with_mask(values, pa.array(mask), by.cast(values.type))


def _count(shard: int, given: pa.Table, table: pa.Table, counts: SelectionCounts) -> None:
    """Add a shard to the counts, and check the law: rows = ok + failed + dropped, and kept rows are the ok ones."""
    names = ["source", "modality", "status", "reason"]
    rows = pa.table([given["source"], given["modality"], table["status"], table["reason"]], names=names)
    by_status: Counter[Status] = Counter()
    for source, modality, status, reason, number in _groups(rows, names):
        counts.funnel[source, modality, reason] += number
        counts.reasons[reason] += number
        if Reason(reason).status.value == status:
            by_status[Status(status)] += number
    kept = int(pc.sum(table["keep"]).as_py() or 0)
    if by_status.total() != given.num_rows or kept != by_status[Status.OK]:
        raise AssertionError(f"shard {shard}: {given.num_rows} rows came to {dict(by_status)}, of which {kept} kept")
    counts.rows += given.num_rows
    placed = pa.table(
        {
            "modality": given["modality"],
            "split": table["split"],
            "parts": given["parts"],
            "repeat": table["repeat"],
        }
    ).filter(table["keep"])
    names = ["modality", "split", "parts"]
    groups = placed.group_by(names).aggregate([([], "count_all"), ("repeat", "sum")])
    for group in groups.sort_by([(name, "ascending") for name in names]).to_pylist():
        counts.kept.append(
            KeptCount(shard, group["modality"], group["split"], group["parts"], group["count_all"], group["repeat_sum"])
        )


def _groups(table: pa.Table, names: list[str]) -> list[tuple[Any, ...]]:
    counted = table.group_by(names).aggregate([([], "count_all")])
    return list(zip(*(counted[name].to_pylist() for name in [*names, "count_all"]), strict=True))
