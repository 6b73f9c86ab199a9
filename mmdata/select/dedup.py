"""Rule `dedup`: of the rows that are the same, one is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pyarrow as pa

from mmdata.errors import Reason
from mmdata.options import semantic
from mmdata.select.rules import Needs
from mmdata.select.workspace import ID, Workspace, identity, literal, quoted

_COLUMN = {"sha256": "raw_sha256", "url": "url"}
_REASON = {"sha256": Reason.DUPLICATE_CONTENT, "url": Reason.DUPLICATE_URL}


@dataclass(frozen=True, kw_only=True)
class Dedup:
    """Keep one row of those with the same raw bytes (sha256) or link (url). Rows without a value are never the same.

    keep_best: column whose greatest value is kept; without it, and between equals, the first key in order.
    """

    name: ClassVar[str] = "dedup"
    version: ClassVar[int] = 1
    by: Literal["sha256", "url"] = semantic("sha256")
    keep_best: str = semantic("")

    def needs(self) -> Needs:
        return Needs(frozenset([self.keep_best] if self.keep_best else []), frozenset({_COLUMN[self.by]}))

    def apply(self, work: Workspace) -> None:
        same = quoted(identity(_COLUMN[self.by]))
        best = ""
        if self.keep_best:
            best = quoted(self.keep_best)
            if pa.types.is_floating(work.types[self.keep_best]):
                best = f"CASE WHEN isnan({best}) THEN NULL ELSE {best} END"  # DuckDB holds NaN to be the greatest
            best += " DESC NULLS LAST, "
        # Two passes: hashes that occur twice are few, so only their rows are grouped, and by the value itself.
        work.db.execute(
            f"CREATE OR REPLACE TEMP TABLE twice AS SELECT h FROM "
            f"(SELECT hash({same}) AS h FROM kept WHERE {same} IS NOT NULL) GROUP BY h HAVING count(*) > 1"
        )
        work.drop(
            f"SELECT {ID}, {literal(_REASON[self.by].value)} AS reason, first AS detail FROM (SELECT {ID}, key, "
            f"first_value(key) OVER (PARTITION BY {same} ORDER BY {best}key) AS first FROM kept "
            f"WHERE {same} IS NOT NULL AND hash({same}) IN (SELECT h FROM twice)) WHERE key <> first"
        )
        work.db.execute("DROP TABLE twice")
