"""Rule `subset`: a random part of the rows, by a seeded hash of their keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import annotated_types as at

from mmdata.errors import ConfigError, Reason
from mmdata.options import build, semantic
from mmdata.select.rules import Needs
from mmdata.select.workspace import ID, Workspace, below_share_sql, literal, stable_hash_sql


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Keep a random part. One of the two is given.

    share: every row is kept with this chance, whatever other rows there are: shards added later change nothing.
    count: exactly this many rows, or all where there are fewer.
    """

    name: ClassVar[str] = "subset"
    version: ClassVar[int] = 1
    share: Annotated[float, at.Ge(0), at.Le(1)] | None = semantic(None)
    count: Annotated[int, at.Ge(0)] | None = semantic(None)

    @classmethod
    def parse(cls, options: Mapping[str, Any] | None, where: str) -> Subset:
        rule = build(cls, options, where)
        if (rule.share is None) == (rule.count is None):
            raise ConfigError(f"{where}: found {dict(options or {})!r}, allowed is one of share and count")
        return rule

    def needs(self) -> Needs:
        return Needs()

    def apply(self, work: Workspace) -> None:
        number = stable_hash_sql(work.seed, "subset", "key")
        if self.share is not None:
            test = f"NOT {below_share_sql(number, self.share)}"
            detail = f"not in the random share of {self.share:g}"
        elif self.count is None or self.count >= work.num_kept:
            return
        elif self.count == 0:
            test, detail = "true", "not in the random 0"
        else:
            last_hash, last_key = work.db.execute(
                f"SELECT {number} AS h, key FROM kept ORDER BY h, key LIMIT 1 OFFSET {self.count - 1}"
            ).fetchone()
            test = f"({number}, key) > ({last_hash}::UBIGINT, {literal(last_key)})"
            detail = f"not in the random {self.count}"
        reason = literal(Reason.SUBSET.value)
        work.drop(f"SELECT {ID}, {reason} AS reason, {literal(detail)} AS detail FROM kept WHERE {test}")
