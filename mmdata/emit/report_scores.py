"""Score columns of the report: histograms, thresholds and what moving them would do, right against swapped captions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mmdata.emit.report_moves import Moves, Span, moves_of, round_step
from mmdata.emit.report_rows import Rows
from mmdata.emit.report_rules import AppliedRule, Limit, limits_of

BINS = 48
CURVE_POINTS = 80
GRID_COLUMNS, GRID_ROWS = 44, 32
_BECAME = ("kept", "lost", "waiting")


@dataclass(frozen=True)
class Bin:
    """Rows with a value in [low, high): kept, lost (for whatever reason), and not yet decided."""

    low: float
    high: float
    kept: int
    lost: int
    waiting: int

    @property
    def rows(self) -> int:
        return self.kept + self.lost + self.waiting


@dataclass(frozen=True)
class ScoreColumn:
    """One column with a distribution, all its limits, and what moving those that hold for all rows would do."""

    name: str
    rows: int
    quantiles: tuple[float, float, float]
    bins: list[Bin]
    limits: list[Limit]
    moves: list[Moves]


@dataclass(frozen=True)
class Curve:
    """Right against swapped captions by similarity: shares at each limit, at the one in use, and the AUC."""

    column: str
    right: int
    swapped: int
    auc: float
    points: list[tuple[float, float, float]]  # limit, share of right kept, share of swapped dropped
    limit: float | None
    right_kept: float | None
    swapped_dropped: float | None


def score_columns(rows: Rows, rules: Sequence[AppliedRule]) -> list[ScoreColumn]:
    """Every score and every other column that a threshold stands on, where any row has a value."""
    limits = limits_of(rules)
    names = dict.fromkeys([*rows.scores, *rows.added, *(limit.column for limit in limits)])
    found = (_score_column(rows, name, [each for each in limits if each.column == name], rules) for name in names)
    return [column for column in found if column is not None]


def _score_column(rows: Rows, name: str, limits: list[Limit], rules: Sequence[AppliedRule]) -> ScoreColumn | None:
    v = rows.column(name)
    (number, low, high, p10, p50, p90, whole), *_ = rows.ask(
        f"SELECT count(*), min({v}), max({v}), quantile_disc({v}, 0.1), quantile_disc({v}, 0.5),"
        f" quantile_disc({v}, 0.9), bool_and({v} = floor({v})) FROM rows WHERE isfinite({v})"
    )
    if not number:
        return None
    whole = whole and high - low > 2  # of fewer values one cannot tell: a share may be 0 and 1 only
    edges = _edges(low, high, BINS, 1.0 if whole else 0.0)
    counted: dict[tuple[int, str], int] = {}
    for place, fate, count in rows.ask(
        f"SELECT least(greatest(floor(({v} - ?) / ?), 0), ?)::INT, fate, count(*) FROM rows WHERE isfinite({v})"
        " GROUP BY 1, 2",
        [edges[0], edges[1] - edges[0], len(edges) - 2],
    ):
        became = fate if fate == "kept" else "waiting" if fate.startswith("wait") else "lost"
        counted[place, became] = counted.get((place, became), 0) + count
    bins = [
        Bin(edges[i], edges[i + 1], *(counted.get((i, became), 0) for became in _BECAME)) for i in range(len(edges) - 1)
    ]
    span = Span(low, high, max(round_step((high - low) / 40), 1.0 if whole else 0.0))
    tables = [moves_of(rows, limit, span, rules) for limit in limits if limit.value is not None and not limit.group]
    return ScoreColumn(name, number, (p10, p50, p90), bins, limits, [table for table in tables if table.moves])


def _edges(low: float, high: float, bins: int, least: float) -> list[float]:
    """Round edges that cover low to high, at least `least` apart."""
    step = max(round_step((high - low) / bins), least)
    first = math.floor(low / step)
    return [(first + i) * step for i in range(math.floor(high / step) - first + 2)]


def planted_curve(rows: Rows, limits: Sequence[Limit]) -> Curve | None:
    """How well the first score tells planted `swapped` captions from `right` ones; None where none are planted."""
    name = primary_column(rows, limits)
    if name is None:
        return None
    v = rows.column(name)
    known = (
        f"SELECT {v} AS value, planted = 'swapped' AS wrong FROM rows"
        f" WHERE planted IN ('right', 'swapped') AND isfinite({v})"
    )
    (right, swapped, low, high, ranks), *_ = rows.ask(
        f"WITH known AS ({known}), ranked AS (SELECT *, rank() OVER (ORDER BY value)"
        " + (count(*) OVER (PARTITION BY value) - 1) / 2 AS place FROM known)"
        " SELECT count_if(NOT wrong), count_if(wrong), min(value), max(value), sum(place) FILTER (NOT wrong)"
        " FROM ranked"
    )
    if not right or not swapped:
        return None
    mine = (each.value for each in limits if (each.column, each.side, each.group) == (name, "min", ""))
    limit = next((bound for bound in mine if bound is not None), None)
    values = [low + (high - low) * i / (CURVE_POINTS - 1) for i in range(CURVE_POINTS)]
    values += [limit] if limit is not None else []
    parts = ", ".join(f"count_if(NOT wrong AND value >= {x!r}), count_if(wrong AND value < {x!r})" for x in values)
    (counts,) = rows.ask(f"WITH known AS ({known}) SELECT {parts} FROM known")
    points = [(x, counts[2 * i] / right, counts[2 * i + 1] / swapped) for i, x in enumerate(values)]
    now = points.pop() if limit is not None else None
    auc = (ranks - right * (right + 1) / 2) / (right * swapped)
    return Curve(name, right, swapped, auc, points, limit, now[1] if now else None, now[2] if now else None)


def primary_column(rows: Rows, limits: Sequence[Limit]) -> str | None:
    """The score the page is ordered by: the first with a threshold, else the first there is."""
    limited = {limit.column for limit in limits}
    return next((name for name in rows.scores if name in limited), rows.scores[0] if rows.scores else None)


@dataclass(frozen=True)
class Sizes:
    """Original pictures on a grid of log2 width by log2 height, and bytes by factor of two."""

    cells: dict[tuple[int, int], int]
    low: tuple[float, float]  # log2 of width and height at the corner of the grid
    high: tuple[float, float]
    rows: int
    median: tuple[int, int]
    sides: tuple[int, int, int, int]  # least and most width, least and most height
    bytes_bins: list[Bin]  # in bytes
    bytes_total: int


def sizes_of(rows: Rows) -> Sizes | None:
    """Distribution of original width, height and bytes; None where nothing was had."""
    (number, w0, w1, h0, h1, w50, h50), *_ = rows.ask(
        "SELECT count(*), min(width_px), max(width_px), min(height_px), max(height_px),"
        " quantile_disc(width_px, 0.5), quantile_disc(height_px, 0.5) FROM rows WHERE width_px > 0 AND height_px > 0"
    )
    if not number:
        return None
    low = (math.floor(math.log2(w0) * 2) / 2, math.floor(math.log2(h0) * 2) / 2)
    high = (max(math.ceil(math.log2(w1) * 2) / 2, low[0] + 1), max(math.ceil(math.log2(h1) * 2) / 2, low[1] + 1))
    cells = rows.ask(
        "SELECT least(floor((log2(width_px) - ?) / ? * ?), ?)::INT,"
        " least(floor((log2(height_px) - ?) / ? * ?), ?)::INT, count(*)"
        " FROM rows WHERE width_px > 0 AND height_px > 0 GROUP BY 1, 2",
        [low[0], high[0] - low[0], GRID_COLUMNS, GRID_COLUMNS - 1, low[1], high[1] - low[1], GRID_ROWS, GRID_ROWS - 1],
    )
    by_size: dict[int, dict[str, int]] = {}
    for place, fate, count in rows.ask(
        "SELECT floor(log2(bytes) * 2)::INT, CASE WHEN fate = 'kept' THEN 'kept' WHEN fate LIKE 'wait%' THEN 'waiting'"
        " ELSE 'lost' END, count(*) FROM rows WHERE bytes > 0 GROUP BY 1, 2"
    ):
        by_size.setdefault(place, {})[fate] = count
    bins = [
        Bin(2 ** (i / 2), 2 ** ((i + 1) / 2), *(by_size.get(i, {}).get(name, 0) for name in _BECAME))
        for i in range(min(by_size, default=0), max(by_size, default=-1) + 1)
    ]
    (total,), *_ = rows.ask("SELECT coalesce(sum(bytes), 0)::BIGINT FROM rows")
    return Sizes({(x, y): n for x, y, n in sorted(cells)}, low, high, number, (w50, h50), (w0, w1, h0, h1), bins, total)
