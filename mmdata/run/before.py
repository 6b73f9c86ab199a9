"""The revision of a shard that a refetch starts from: rows that are tried again, and the rest, which stays."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmdata.sample import root_key
from mmdata.shards import ledger, storage, tar
from mmdata.shards.folders import RunFolder
from mmdata.sources.messages import MEDIA_REASONS

Staged = Iterable[tuple[str, dict[str, bytes]]]


class Before:
    """Ledger and staged tar of the revision before. again: keys of the input rows that are tried again.

    A row is one of them where it, one of its children, or one of its media ended for one of `reasons`; its children go
    with it.
    """

    def __init__(self, run: RunFolder, shard: int, revision: int, reasons: Collection[str]) -> None:
        table = ledger.read(run.ledger(shard, revision))
        self._staged = run.staged(shard, revision)
        self.again = keys_to_try(table, reasons)
        roots = [root_key(key) for key in table["key"].to_pylist()]
        self._table = table.filter(pa.array([root not in self.again for root in roots], pa.bool_()))

    def table_with(self, fresh: pa.Table, order: Mapping[str, int]) -> pa.Table:
        """The new ledger: rows that stay and rows tried again, in input order."""
        both = pa.concat_tables([self._table, fresh.cast(self._table.schema)])
        keys = both["key"].to_pylist()
        places = sorted(range(len(keys)), key=lambda place: (order[root_key(keys[place])], keys[place]))
        return both.take(pa.array(np.array(places, np.int64)))

    def staged_with(self, fresh: Staged, order: Mapping[str, int], scratch: Path) -> Staged:
        """Parts of all ok samples, those that stay and `fresh` ones, in input order; one sample in memory at a time."""
        return heapq.merge(self._kept(scratch), fresh, key=lambda item: (order[root_key(item[0])], item[0]))

    def _kept(self, scratch: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
        with storage.local_copy(self._staged, scratch).open("rb") as file:
            for key, parts in tar.read_samples(file, self._staged):
                if root_key(key) not in self.again:
                    yield key, parts


def keys_to_try(table: pa.Table, reasons: Collection[str]) -> set[str]:
    """Keys of the input rows of a ledger that ended, or lost a child or a medium, for one of the reasons."""
    media = table[MEDIA_REASONS].to_pylist() if MEDIA_REASONS in table.column_names else [None] * table.num_rows
    rows = zip(table["key"].to_pylist(), table["reason"].to_pylist(), media, strict=True)
    return {root_key(key) for key, reason, lost in rows if reason in reasons or set(lost or ()) & set(reasons)}
