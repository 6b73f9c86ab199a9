"""Rule `thresholds`: least and greatest values of any number column of ledgers or scores, as numbers or as shares."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

import annotated_types as at
import pyarrow as pa

from mmdata.errors import ConfigError, Reason
from mmdata.options import build, semantic
from mmdata.select.rules import Needs
from mmdata.select.workspace import ID, Workspace, literal, quoted

_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
_SIDES = {"width_px", "height_px", "original_width_px", "original_height_px"}
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?|100)")
_MOST_SHOWN = 50  # bounds of groups told in the facts


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What one column may be; both ends are inside.

    min, max: a number, or a percentile of the rows given to the rule: p10. top_share: the share of rows with the
    greatest values, and what is equal to the least of them. per: columns whose every combination has a percentile or
    share of its own.
    """

    min: float | Annotated[str, at.MinLen(1)] | None = semantic(None)
    max: float | Annotated[str, at.MinLen(1)] | None = semantic(None)
    top_share: Annotated[float, at.Gt(0), at.Le(1)] | None = semantic(None)
    per: str | list[str] = semantic(factory=list)
    missing: Literal["drop", "keep"] = semantic("drop")  # a row without a value (null or NaN)

    @property
    def groups(self) -> list[str]:
        return [self.per] if isinstance(self.per, str) else self.per

    @property
    def is_relative(self) -> bool:
        return self.top_share is not None or isinstance(self.min, str) or isinstance(self.max, str)

    def check(self, where: str) -> None:
        """Raise ConfigError for bounds that do not go together."""
        if self.min is None and self.max is None and self.top_share is None:
            raise ConfigError(f"{where}: found neither min nor max (nor top_share), one of them is required")
        if self.top_share is not None and self.min is not None:
            raise ConfigError(f"{where}: found min and top_share, allowed is one of them")
        for name, bound in (("min", self.min), ("max", self.max)):
            if isinstance(bound, str) and not _PERCENTILE.fullmatch(bound):
                raise ConfigError(f"{where}.{name}: found {bound!r}, allowed are numbers and percentiles such as p10")
        if isinstance(self.min, float) and isinstance(self.max, float) and self.min > self.max:
            raise ConfigError(f"{where}: found min {self.min:g} above max {self.max:g}")
        if self.groups and not self.is_relative:
            raise ConfigError(f"{where}.per: is for percentiles and top_share, found numbers")


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Drop rows whose value in a column is below `min` or above `max`.

    limits: by column, the options of Limit. A row outside several limits is counted for the first column by name.
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
            limit.check(f"{where}.{column}")
            # What is not used is left out, so that a rule without new options has the hash it always had.
            used = {name: value for name, value in asdict(limit).items() if name in _ALWAYS or value not in (None, [])}
            limits[str(column)] = used
        return cls(limits=limits)

    def needs(self) -> Needs:
        groups = {name for limit in self.limits.values() for name in Limit(**limit).groups}
        return Needs(frozenset({*self.limits, *groups} - {"key"}))

    def apply(self, work: Workspace) -> None:
        limits = {column: Limit(**limit) for column, limit in self.limits.items()}
        joins, cases, facts = "", [], {}
        for number, (column, limit) in enumerate(limits.items()):
            _check_kind(column, work)
            low, high = _number(limit.min), _number(limit.max)
            if limit.is_relative:
                facts[column] = _find_bounds(work, number, column, limit)
                same = [
                    f"kept.{quoted(g)} IS NOT DISTINCT FROM bounds_{number}.g{i}" for i, g in enumerate(limit.groups)
                ]
                joins += f" LEFT JOIN bounds_{number} ON {' AND '.join(same) if same else 'true'}"
                low, high = low or f"bounds_{number}.low", high or f"bounds_{number}.high"
            cases += _cases(column, limit, low, high)
        ends = " ".join(f"WHEN {test} THEN {number}" for number, (test, _, _) in enumerate(cases))
        reasons = " ".join(f"WHEN {number} THEN {literal(reason.value)}" for number, (_, reason, _) in enumerate(cases))
        details = " ".join(f"WHEN {number} THEN {detail}" for number, (_, _, detail) in enumerate(cases))
        columns = ", ".join(f"kept.{quoted(column)}" for column in [ID, *limits])
        work.drop(
            f"SELECT {ID}, CASE mmdata_case {reasons} END AS reason, CASE mmdata_case {details} END AS detail FROM "
            f"(SELECT {columns}, CASE {ends} END AS mmdata_case FROM kept{joins}) WHERE mmdata_case IS NOT NULL"
        )
        for number, limit in enumerate(limits.values()):
            if limit.is_relative:
                work.db.execute(f"DROP TABLE bounds_{number}")
        if facts:
            work.tell({"bounds": facts})


_ALWAYS = ("min", "max", "missing")


def _check_kind(column: str, work: Workspace) -> None:
    kind = work.types[column]
    if not any(is_one(kind) for is_one in _NUMBERS):
        raise ConfigError(f"thresholds: {column}: found a column of {kind}, allowed are numbers")


def _number(bound: float | str | None) -> str:
    return f"{float(bound)!r}::DOUBLE" if isinstance(bound, (int, float)) else ""


def _find_bounds(work: Workspace, number: int, column: str, limit: Limit) -> list[dict[str, Any]]:
    """Make table bounds_<number>: a row a group, with the values at the ranks asked for; returns some of it."""
    value = f"{quoted(column)}::DOUBLE"
    groups = [f"{quoted(name)} AS g{index}" for index, name in enumerate(limit.groups)]
    by = ", ".join(f"g{index}" for index in range(len(groups)))
    over = f"PARTITION BY {by}" if by else ""
    low = _rank(limit.min) if limit.top_share is None else f"num - greatest(1, round(num * {limit.top_share!r})) + 1"
    work.db.execute(
        f"CREATE OR REPLACE TEMP TABLE bounds_{number} AS SELECT {by + ', ' if by else ''}"
        f"max(v) FILTER (place = {low}) AS low, max(v) FILTER (place = {_rank(limit.max)}) AS high, max(num) AS rows "
        f"FROM (SELECT *, row_number() OVER ({over} ORDER BY v) AS place, count(*) OVER ({over}) AS num "
        f"FROM (SELECT {', '.join([*groups, f'{value} AS v'])} FROM kept WHERE NOT coalesce(isnan({value}), true))) "
        f"{'GROUP BY ' + by if by else ''}"
    )
    order = ", ".join(["rows DESC", *(f"g{index}" for index in range(len(groups)))])
    rows = work.db.execute(f"SELECT * FROM bounds_{number} ORDER BY {order} LIMIT {_MOST_SHOWN}").fetchall()
    return [
        {"group": [str(v) if v is not None else None for v in row[: len(groups)]], "min": row[-3], "max": row[-2]}
        for row in rows
    ]


def _rank(bound: float | str | None) -> str:
    """Rank from 1 of a percentile among `num` values: the least value that this part of them does not exceed."""
    if not isinstance(bound, str):
        return "NULL"
    share = float(bound[1:]) / 100
    return f"greatest(1, ceil(round(num * {share!r}, 6)))"


def _cases(column: str, limit: Limit, low: str, high: str) -> list[tuple[str, Reason, str]]:
    """Test, reason and detail, in the order they are tried."""
    name = f"kept.{quoted(column)}"
    inner = quoted(column)
    # Compared as doubles: every float32 is one exactly, so the outcome does not hang on a cast of the limit.
    value = f"{name}::DOUBLE"
    shown = f"format('{{:.6g}}', {inner}::DOUBLE)"
    cases = []
    if limit.missing == "drop":
        reason = _reason(column, low=limit.min is not None or limit.top_share is not None, missing=True)
        cases.append((f"{name} IS NULL OR isnan({value})", reason, literal(f"{column} is missing")))
    for is_low, bound, told in ((True, low, limit.min), (False, high, limit.max)):
        if bound:
            sign = "<" if is_low else ">"
            # isnan once more: DuckDB holds NaN to be the greatest number.
            test = f"NOT coalesce(isnan({value}), true) AND {value} {sign} {bound}"
            if isinstance(told, (int, float)):
                end = literal(f" {sign} {told:g}")
            elif is_low and limit.top_share is not None:
                end = literal(f" is not in the top {limit.top_share:g}")
            else:
                end = literal(f" {sign} {told}")
            cases.append((test, _reason(column, low=is_low), f"concat({literal(column + ' ')}, {shown}, {end})"))
    return cases


def _reason(column: str, *, low: bool, missing: bool = False) -> Reason:
    if column.endswith(("similarity", "_score")):
        return Reason.SCORE_LOW if low else Reason.SCORE_HIGH
    if column in _SIDES and low and not missing:
        return Reason.TOO_SMALL
    return Reason.THRESHOLD
