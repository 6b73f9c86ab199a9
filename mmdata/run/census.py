"""Counting the rows of a pipeline's sources, and drawing some of them by a seeded hash of their keys, in one pass."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pyarrow as pa

from mmdata.config import Pipeline
from mmdata.errors import SourceError
from mmdata.run.catalog import Resolved
from mmdata.run.own_types import joined
from mmdata.run.plan import PLAN, fingerprint_of, numbered
from mmdata.sample import sample_key
from mmdata.shards import ledger, storage
from mmdata.shards.folders import RunFolder

_SHORT_ROWS, _LONG_ROWS = 8, 200


@dataclass
class SourceRows:
    """One source: its rows, the shards of work they make, and the drawn rows, in the order of their numbers."""

    name: str
    kind: str
    modality: str
    inputs: list[dict[str, object]] = field(default_factory=list)
    rows: int = 0
    shards: int = 0
    drawn: list[pa.Table] = field(default_factory=list)

    @property
    def num_drawn(self) -> int:
        return sum(table.num_rows for table in self.drawn)


def take_census(
    pipeline: Pipeline, resolved: Resolved, draw: int = 0, tell: Callable[[int], None] = lambda _: None
) -> list[SourceRows]:
    """Every source with its number of rows; `draw` rows of all of them, each as likely as any other.

    tell: called now and then with the number of rows read so far. Raises SourceError where there is no row at all.
    """
    salt = f"{pipeline.seed}:pilot".encode()[:64]
    chosen: list[tuple[int, str, int, pa.Table]] = []  # the `draw` smallest hashes: a heap of their negatives
    sources, total = [], 0
    for name, source in resolved.sources.items():
        found = SourceRows(name, source.kind, source.modality)
        for table in numbered(name, source, source.inputs(), 0, found.inputs):
            found.rows += table.num_rows
            for place, number in enumerate(table["number"].to_pylist() if draw else ()):
                key = sample_key(name, number)
                rank = -int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8, key=salt).digest(), "big")
                if len(chosen) < draw:
                    heapq.heappush(chosen, (rank, key, number, _row(table, place)))
                elif rank > chosen[0][0]:
                    heapq.heapreplace(chosen, (rank, key, number, _row(table, place)))
            tell(total + found.rows)
        total += found.rows
        found.shards = -(-found.rows // pipeline.plan.rows_per_shard)
        sources.append(found)
    if not total:
        raise SourceError(f"{pipeline.path}: sources: found no row in any of {', '.join(resolved.sources)}")
    by_name = {source.name: source for source in sources}
    for _, key, _, row in sorted(chosen, key=lambda item: item[1]):
        by_name[key.rpartition("-")[0]].drawn.append(row)
    return sources


def _row(table: pa.Table, place: int) -> pa.Table:
    """One row as a table of its own: a slice would hold the whole batch in memory."""
    return table.take(pa.array([place]))


def write_plan(run: RunFolder, sources: list[SourceRows], workers: int) -> None:
    """A plan of the drawn rows alone, which says of every input that it is planned, so that no more is read.

    Its first shards are short, one for each of `workers`: they load what the others find loaded.
    """
    records: list[dict[str, object]] = []
    for source in (source for source in sources if source.drawn):
        rows = joined(source.drawn)
        for start, end in _cuts(rows.num_rows, 0 if records else workers, workers):
            data = ledger.parquet_bytes(rows.slice(start, end - start).combine_chunks())
            storage.write_whole(run.rows(len(records)), data)
            records.append(
                {
                    "shard": len(records),
                    "source": source.name,
                    "modality": source.modality,
                    "rows": end - start,
                    "fingerprint": fingerprint_of(data),
                    "inputs": source.inputs,
                }
            )
    table = pa.Table.from_pylist(records, schema=PLAN)
    storage.write_whole(storage.join(run.plan, "000000.parquet"), ledger.parquet_bytes(table))


def _cuts(rows: int, short: int, workers: int) -> list[tuple[int, int]]:
    """Beginning and end of every shard: `short` ones of a few rows, then as many as workers, none much below 200."""
    few = min(_SHORT_ROWS, rows // (2 * short)) if short else 0
    start = few * short
    number = max(1, min(workers, (rows - start) // _LONG_ROWS))
    ends = [few * (place + 1) for place in range(short)]
    ends += [start + (rows - start) * (place + 1) // number for place in range(number)]
    return [(first, last) for first, last in pairwise([0, *ends]) if last > first]


def only_drawn(pipeline: Pipeline, sources: list[SourceRows]) -> Pipeline:
    """The pipeline with the sources that have drawn rows."""
    drawn = {source.name for source in sources if source.drawn}
    return replace(pipeline, sources={name: entry for name, entry in pipeline.sources.items() if name in drawn})
