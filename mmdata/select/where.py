"""Rule `where`: rows for which an SQL expression over their columns is true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import annotated_types as at

from mmdata.errors import ConfigError, Reason
from mmdata.options import build, semantic
from mmdata.select.expression import parse_expression
from mmdata.select.rules import Needs
from mmdata.select.workspace import ID, Workspace, literal

_SHOWN = 120


@dataclass(frozen=True, kw_only=True)
class Where:
    """Keep rows for which `expr` is true: "width_px * height_px > 65536 and clip_similarity > 0.2".

    missing: what becomes of rows for which it is neither true nor false, as a column in it has no value.
    """

    name: ClassVar[str] = "where"
    version: ClassVar[int] = 1
    expr: Annotated[str, at.MinLen(1)] = semantic()
    missing: Literal["drop", "keep"] = semantic("drop")

    @classmethod
    def parse(cls, options: Mapping[str, Any] | None, where: str) -> Where:
        rule = build(cls, options, where)
        parse_expression(rule.expr, f"{where}.expr")
        return rule

    def needs(self) -> Needs:
        return Needs(parse_expression(self.expr, "where.expr").columns)

    def apply(self, work: Workspace) -> None:
        import duckdb

        sql = parse_expression(self.expr, "where.expr").sql
        short = self.expr if len(self.expr) <= _SHOWN else self.expr[:_SHOWN] + " ..."
        false, missing = literal(f"not: {short}"), literal(f"a value is missing: {short}")
        test = "truth IS NOT TRUE" if self.missing == "drop" else "truth IS FALSE"
        try:
            work.drop(
                f"SELECT {ID}, {literal(Reason.EXPRESSION.value)} AS reason, "
                f"CASE WHEN truth IS NULL THEN {missing} ELSE {false} END AS detail "
                f"FROM (SELECT {ID}, {sql}::BOOLEAN AS truth FROM kept) WHERE {test}"
            )
        except duckdb.Error as error:
            raise ConfigError(f"where.expr: {self.expr!r} cannot be computed: {error}") from error
