"""What becomes of rows that are the same: the best of a group is kept, the others are dropped or recorded beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmdata.errors import Reason
from mmdata.select.neighbours import stars
from mmdata.select.workspace import ID, Identity, Workspace, literal, quoted, root_key_sql

_LARGEST_TOLD = 10  # groups


@dataclass(frozen=True)
class Best:
    """Which row of a group stands for it: that with the greatest value of a column, then the first key.

    drops: whether the others are dropped.
    """

    column: str
    drops: bool

    def order(self, work: Workspace) -> str:
        """For ORDER BY."""
        if not self.column:
            return "key"
        value = quoted(self.column)
        if pa.types.is_floating(work.types[self.column]):
            value = f"CASE WHEN isnan({value}) THEN NULL ELSE {value} END"  # DuckDB holds NaN to be the greatest
        return f"{value} DESC NULLS LAST, key"


def settle_same(work: Workspace, same: Identity, best: Best, reason: Reason) -> None:
    """Groups of rows with an equal identity; those cut from one and the same input row are told apart."""
    name = quoted(same.name)
    # Two passes: what occurs twice is little, so only those rows are grouped.
    work.db.execute(
        f"CREATE OR REPLACE TEMP TABLE twice AS SELECT {name} AS h FROM kept WHERE {name} IS NOT NULL "
        "GROUP BY h HAVING count(*) > 1"
    )
    work.db.execute(
        f"CREATE OR REPLACE TEMP TABLE member AS SELECT {ID}, key, "
        f"first_value(key) OVER (PARTITION BY {name} ORDER BY {best.order(work)}) AS leader "
        f"FROM kept WHERE {name} IN (SELECT h FROM twice)"
    )
    work.db.execute("DROP TABLE twice")
    # Clips of one film share its link and its bytes, and are not the same.
    work.db.execute(f"DELETE FROM member WHERE leader <> key AND {root_key_sql('leader')} = {root_key_sql('key')}")
    _settle(work, best, reason)


def settle_pairs(
    work: Workspace,
    ids: NDArray[np.int64],
    nodes: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    best: Best,
    reason: Reason,
) -> None:
    """Star groups of rows at the same node or at nodes that are a pair. nodes: of the rows `ids`."""
    in_pair = np.bincount(nodes, minlength=1) > 1
    in_pair[left] = in_pair[right] = True
    involved = in_pair[nodes]
    with work.registered("placed", pa.table({ID: ids[involved], "node": nodes[involved]})):
        ranked = work.db.sql(
            f"SELECT {ID}, key, node FROM kept JOIN placed USING ({ID}) ORDER BY {best.order(work)}"
        ).to_arrow_table()
    node = ranked["node"].to_numpy()
    present, first_row = np.unique(node, return_index=True)  # rows come best first: the first of a node is its best
    rank = np.empty(len(in_pair), np.int64)
    rank[present[np.argsort(first_row)]] = np.arange(len(present))
    leader = stars(rank[left], rank[right], len(present))
    leader_row = np.sort(first_row)[leader[rank[node]]]
    keys = ranked["key"].combine_chunks()
    member = pa.table({ID: ranked[ID], "key": keys, "leader": keys.take(pa.array(leader_row))})
    with work.registered("found", member):
        work.db.execute("CREATE OR REPLACE TEMP TABLE member AS SELECT * FROM found")
    _settle(work, best, reason)


def drop_leaked(work: Workspace, ids: NDArray[np.int64], against: str) -> None:
    """Drop rows that another dataset has."""
    with work.registered("leaked", pa.table({ID: ids})):
        work.drop(f"SELECT {ID}, {literal(Reason.LEAKAGE.value)} AS reason, {literal(against)} AS detail FROM leaked")


def _settle(work: Workspace, best: Best, reason: Reason) -> None:
    """Table `member`: mmdata_id, key, and leader, the key of the row that stands for it."""
    work.db.execute("DELETE FROM member WHERE leader NOT IN (SELECT leader FROM member WHERE leader <> key)")
    sizes = work.db.execute(
        "SELECT leader, count(*) AS n FROM member GROUP BY leader ORDER BY n DESC, leader"
    ).fetchmany(_LARGEST_TOLD)
    groups, rows = work.db.execute("SELECT count(DISTINCT leader), count(*) FROM member").fetchone()
    work.tell({"groups": groups, "rows": rows, "largest": [[leader, number] for leader, number in sizes]})
    work.group("SELECT * FROM member")
    if best.drops:
        work.drop(f"SELECT {ID}, {literal(reason.value)} AS reason, leader AS detail FROM member WHERE leader <> key")
    work.db.execute("DROP TABLE member")
