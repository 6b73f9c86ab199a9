"""Rule `mixture`: weights of sources, or of any groups, written into manifest.json. It drops and repeats nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import annotated_types as at

from mmdata.errors import ConfigError
from mmdata.options import build, nearest, semantic
from mmdata.select.rules import Needs
from mmdata.select.workspace import Workspace, literal, quoted


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Weights by name, written into manifest.json for whoever trains, as shares of 1.

    mmdata's own trainer has weights in its training file: `data[].weight` and `plan.quotas`.

    by: the column that the names are values of; every value that is kept needs a weight.
    """

    name: ClassVar[str] = "mixture"
    version: ClassVar[int] = 1
    weights: dict[str, Annotated[float, at.Gt(0)]] = semantic(factory=dict)
    by: Annotated[str, at.MinLen(1)] = semantic("source")

    @classmethod
    def parse(cls, options: Mapping[str, Any] | None, where: str) -> Mixture:
        rule = build(cls, options, where)
        if not rule.weights:
            raise ConfigError(f"{where}.weights: is required: {{name: weight, ...}}")
        return rule

    def needs(self) -> Needs:
        return Needs(frozenset({self.by}))

    def apply(self, work: Workspace) -> None:
        name = f"coalesce({quoted(self.by)}::VARCHAR, {literal('none')})"
        rows = dict(work.db.execute(f"SELECT {name} AS n, count(*) FROM kept GROUP BY n ORDER BY n").fetchall())
        for wrong, known, said in (
            (sorted(set(self.weights) - set(rows)), rows, "no rows are kept of it"),
            (sorted(set(rows) - set(self.weights)), self.weights, "has rows and no weight"),
        ):
            if wrong:
                raise ConfigError(
                    f"mixture.weights: {wrong[0]}: {said}{nearest(wrong[0], known)}; "
                    f"there are {', '.join(rows) or 'none'}"
                )
        total = math.fsum(self.weights.values())
        shares = {name: self.weights[name] / total for name in sorted(self.weights)}
        work.tell({"by": self.by, "weights": shares, "rows": {name: rows[name] for name in shares}})
