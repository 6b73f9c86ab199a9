"""Selection of a whole run: rows that are ok go through the rules in order, then every shard gets its final table.

Three passes over row-aligned shards, a few of them in memory at a time: schemas, the columns that rules read (into
DuckDB, which spills), and the table written for each shard. The result does not depend on the order of rows or threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa

from mmdata.errors import ConfigError
from mmdata.select.counts import RuleCount, SelectionCounts
from mmdata.select.load import load_kept
from mmdata.select.outcome import SCHEMA, write_tables
from mmdata.select.rules import Rule, check_columns
from mmdata.select.tables import Columns, ShardTables, is_vector
from mmdata.select.vectors import ScoreVectors
from mmdata.select.workspace import Workspace

__all__ = ["SCHEMA", "apply_rules", "opened", "select"]
LEAST_MEMORY_MB = 3072  # ten million rows need no more
MEMORY_SHARE = 0.4  # of what is free
_CGROUP = Path("/sys/fs/cgroup")


def select(
    shards: Sequence[ShardTables],
    rules: Sequence[Rule],
    *,
    seed: int,
    val_share: float,
    scratch: Path,
    write: Callable[[int, pa.Table], None],
    memory_mb: int = 0,
    threads: int = 2,
) -> SelectionCounts:
    """Decide about every row of the shards; `write(shard, table)` gets each shard's table, in the order of `shards`.

    memory_mb: that DuckDB may take before it spills; 0: as much as this machine can spare. scratch: local folder for
    what does not fit; used by nobody else, and removed. Raises ConfigError for a column that there is not, ShardError
    for tables that do not belong together.
    """
    if not shards:
        return SelectionCounts()
    columns = Columns.of(shards)
    check_columns(rules, columns.types)
    with opened(columns, rules, seed=seed, scratch=scratch, memory_mb=memory_mb, threads=threads) as work:
        counts = SelectionCounts(own=columns.own)
        apply_rules(work, rules, counts)
        write_tables(work, columns, counts, val_share, write)
    return counts


@contextmanager
def opened(
    columns: Columns,
    rules: Sequence[Rule],
    also: Sequence[str] = (),
    *,
    seed: int,
    scratch: Path,
    memory_mb: int = 0,
    threads: int = 2,
) -> Iterator[Workspace]:
    """A workspace with the rows that are ok and the columns that the rules need, and `also` these."""
    needs = [rule.needs() for rule in rules]
    added = {name for need in needs for name in need.adds}
    optional = {name: kind for need in needs for name, kind in need.optional.items()}
    wanted = sorted({*also, *optional, *(name for need in needs for name in need.columns)} - {"key"} - added)
    identities = sorted({name for need in needs for name in need.identities})
    _check_names(wanted)
    types = {name: columns.types[name] if name in columns.types else optional[name] for name in wanted}
    vectors = ScoreVectors(columns)
    memory_mb = memory_mb or spare_memory_mb()
    work = Workspace(scratch, seed, types, identities, memory_mb=memory_mb, threads=threads, vectors=vectors)
    try:
        load_kept(work, columns, wanted, identities)
        yield work
    finally:
        work.close()


def spare_memory_mb() -> int:
    """MEMORY_SHARE of the memory that is free here and that the container allows, at least LEAST_MEMORY_MB."""
    import psutil

    free_bytes = psutil.virtual_memory().available
    with suppress(OSError, ValueError):  # no such file, or "max": no limit
        used_bytes = int((_CGROUP / "memory.current").read_text())
        free_bytes = min(free_bytes, int((_CGROUP / "memory.max").read_text()) - used_bytes)
    return max(LEAST_MEMORY_MB, int(free_bytes * MEMORY_SHARE) >> 20)


def apply_rules(work: Workspace, rules: Sequence[Rule], counts: SelectionCounts, first: int = 0) -> None:
    """Apply rules in order and count what each drops. first: number of the first of them in the pipeline."""
    for number, rule in enumerate(rules, first):
        given = work.num_kept
        work.begin(number)
        rule.apply(work)
        query = f"SELECT reason, count(*) FROM drops WHERE rule = {number} GROUP BY reason ORDER BY reason"
        reasons = dict(work.db.execute(query).fetchall())
        counts.rules.append(RuleCount(rule.name, given, reasons, work.facts.get(number, {})))


def _check_names(wanted: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for name in wanted:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise ConfigError(
                f"select: columns {other} and {name} differ in case only, allowed is one of them in a run"
            )


def vectors_of(columns: Columns) -> list[str]:
    """Columns of embeddings."""
    return sorted(name for name, kind in columns.types.items() if is_vector(kind))
