"""Rule `thresholds`: least and greatest values of any number column of ledgers or scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pyarrow as pa

from mmdata.errors import ConfigError, Reason
from mmdata.options import build, semantic
from mmdata.select.workspace import ID, Workspace, literal, quoted

_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
_SIDES = {"width_px", "height_px", "original_width_px", "original_height_px"}


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What one column may be; both ends are inside."""

    min: float | None = semantic(None)
    max: float | None = semantic(None)
    missing: Literal["drop", "keep"] = semantic("drop")  # a row without a value (null or NaN)


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Drop rows whose value in a column is below `min` or above `max`.

    limits: by column, {min, max, missing}. A row outside several limits is counted for the first column by name.
    """

    name: ClassVar[str] = "thresholds"
    version: ClassVar[int] = 1
    limits: dict[str, dict[str, Any]] = semantic(factory=dict)

    @classmethod
    def parse(cls, options: Mapping[str, Any] | None, where: str) -> Thresholds:
        """The rule from `{column: {min: .., max: .., missing: ..}}`. Raises ConfigError naming what is allowed."""
        if not isinstance(options, Mapping) or not options:
            raise ConfigError(f"{where}: found {options!r}, allowed is a mapping: column: {{min: ..., max: ...}}")
        limits = {}
        for column in sorted(options, key=str):
            limit = build(Limit, options[column], f"{where}.{column}")
            if limit.min is None and limit.max is None:
                raise ConfigError(f"{where}.{column}: found neither min nor max, one of them is required")
            if limit.min is not None and limit.max is not None and limit.min > limit.max:
                raise ConfigError(f"{where}.{column}: found min {limit.min:g} above max {limit.max:g}")
            limits[str(column)] = {"min": limit.min, "max": limit.max, "missing": limit.missing}
        return cls(limits=limits)

    def columns(self) -> frozenset[str]:
        return frozenset(self.limits)

    def apply(self, work: Workspace) -> None:
        cases = [case for column, limit in self.limits.items() for case in _cases(column, Limit(**limit), work)]
        ends = " ".join(f"WHEN {test} THEN {number}" for number, (test, _, _) in enumerate(cases))
        reasons = " ".join(f"WHEN {number} THEN {literal(reason.value)}" for number, (_, reason, _) in enumerate(cases))
        details = " ".join(f"WHEN {number} THEN {detail}" for number, (_, _, detail) in enumerate(cases))
        columns = ", ".join(quoted(column) for column in self.limits)
        work.drop(
            f"SELECT {ID}, CASE which {reasons} END AS reason, CASE which {details} END AS detail FROM "
            f"(SELECT {ID}, {columns}, CASE {ends} END AS which FROM kept) WHERE which IS NOT NULL"
        )


def _cases(column: str, limit: Limit, work: Workspace) -> list[tuple[str, Reason, str]]:
    """Test, reason and detail, in the order they are tried."""
    kind = work.types[column]
    if not any(is_one(kind) for is_one in _NUMBERS):
        raise ConfigError(f"thresholds: {column}: found a column of {kind}, allowed are numbers")
    name = quoted(column)
    # Compared as doubles: every float32 is one exactly, so the outcome does not hang on a cast of the limit.
    value = f"{name}::DOUBLE"
    shown = f"format('{{:.6g}}', {value})"
    cases = []
    absent = f"{name} IS NULL OR isnan({value})"
    if limit.missing == "drop":
        reason = _reason(column, low=limit.min is not None, missing=True)
        cases.append((absent, reason, literal(f"{column} is missing")))
    for low, bound in ((True, limit.min), (False, limit.max)):
        if bound is not None:
            sign = "<" if low else ">"
            # isnan once more: DuckDB holds NaN to be the greatest number.
            test = f"NOT coalesce(isnan({value}), true) AND {value} {sign} {float(bound)!r}::DOUBLE"
            detail = f"concat({literal(column + ' ')}, {shown}, {literal(f' {sign} {bound:g}')})"
            cases.append((test, _reason(column, low=low), detail))
    return cases


def _reason(column: str, *, low: bool, missing: bool = False) -> Reason:
    if column.endswith(("similarity", "_score")):
        return Reason.SCORE_LOW if low else Reason.SCORE_HIGH
    if column in _SIDES and low and not missing:
        return Reason.TOO_SMALL
    return Reason.THRESHOLD
