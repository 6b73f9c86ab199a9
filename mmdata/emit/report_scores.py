"""Score columns of the report: histograms, thresholds and what moving them would do, right against swapped captions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmdata.emit.report_rows import Rows

BINS = 48
CURVE_POINTS = 80
MOVES = 4  # other values shown on each side of a threshold
GRID_COLUMNS, GRID_ROWS = 44, 32
_BECAME = ("kept", "lost", "waiting")
_BY_THRESHOLD = "('filtered.score_low', 'filtered.score_high', 'filtered.threshold')"


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
class Move:
    """What another limit would do: rows that pass it, and rows kept (at most, where it lets more through)."""

    limit: float
    passing: int
    kept: int
    at_most: bool
    is_now: bool


@dataclass(frozen=True)
class ScoreColumn:
    """One column with a distribution; `moves` by `min` or `max`."""

    name: str
    rows: int
    quantiles: tuple[float, float, float]
    bins: list[Bin]
    limits: dict[str, float]
    moves: dict[str, list[Move]]


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


def score_columns(rows: Rows, thresholds: dict[str, dict[str, float]]) -> list[ScoreColumn]:
    """Every score and every other column that a threshold stands on, where any row has a value."""
    found = (_score_column(rows, name, thresholds.get(name, {})) for name in rows.values)
    return [column for column in found if column is not None]


def _score_column(rows: Rows, name: str, limits: dict[str, float]) -> ScoreColumn | None:
    v = rows.column(name)
    (number, low, high, p10, p50, p90), *_ = rows.ask(
        f"SELECT count(*), min({v}), max({v}),"
        f" quantile_disc({v}, 0.1), quantile_disc({v}, 0.5), quantile_disc({v}, 0.9) FROM rows WHERE isfinite({v})"
    )
    if not number:
        return None
    edges = _edges(low, high, BINS)
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
    step = _round_step((high - low) / 40)
    moves = {side: _moves(rows, v, side, limit, step) for side, limit in limits.items() if side in ("min", "max")}
    return ScoreColumn(name, number, (p10, p50, p90), bins, limits, moves)


def _edges(low: float, high: float, bins: int) -> list[float]:
    """Round edges that cover low to high."""
    step = _round_step((high - low) / bins)
    first = math.floor(low / step)
    return [(first + i) * step for i in range(math.floor(high / step) - first + 2)]


def _round_step(raw: float) -> float:
    """The next round number: 1, 2, 2.5, 3, 4 or 5 times a power of ten."""
    if raw <= 0 or not math.isfinite(raw):
        return 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 2.5, 3, 4, 5, 10) if factor * power >= raw * 0.999)


def _moves(rows: Rows, v: str, side: str, limit: float, step: float) -> list[Move]:
    """Kept is exact where the limit gets stricter; looser, rules after the threshold may still drop some."""
    sign, passes = (1.0, ">=") if side == "min" else (-1.0, "<=")
    values = [round(limit + sign * i * step, 10) for i in range(-MOVES, MOVES + 1)]
    parts = ", ".join(
        f"count_if({v} {passes} {value!r}),"
        f" count_if({v} {passes} {value!r} AND (fate = 'kept' OR fate = 'select' AND reason IN {_BY_THRESHOLD}"
        f" AND NOT {v} {passes} {limit!r}))"
        for value in values
    )
    (counts,) = rows.ask(f"SELECT {parts} FROM rows WHERE isfinite({v})")
    return [
        Move(value, counts[2 * i], counts[2 * i + 1], sign * value < sign * limit, value == limit)
        for i, value in enumerate(values)
    ]


def planted_curve(rows: Rows, thresholds: dict[str, dict[str, float]]) -> Curve | None:
    """How well the first score tells planted `swapped` captions from `right` ones; None where none are planted."""
    name = primary_column(rows, thresholds)
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
    limit = thresholds.get(name, {}).get("min")
    values = [low + (high - low) * i / (CURVE_POINTS - 1) for i in range(CURVE_POINTS)]
    values += [limit] if limit is not None else []
    parts = ", ".join(f"count_if(NOT wrong AND value >= {x!r}), count_if(wrong AND value < {x!r})" for x in values)
    (counts,) = rows.ask(f"WITH known AS ({known}) SELECT {parts} FROM known")
    points = [(x, counts[2 * i] / right, counts[2 * i + 1] / swapped) for i, x in enumerate(values)]
    now = points.pop() if limit is not None else None
    auc = (ranks - right * (right + 1) / 2) / (right * swapped)
    return Curve(name, right, swapped, auc, points, limit, now[1] if now else None, now[2] if now else None)


def primary_column(rows: Rows, thresholds: dict[str, dict[str, float]]) -> str | None:
    """The score the page is ordered by: the first with a threshold, else the first there is."""
    return next((name for name in rows.scores if name in thresholds), rows.scores[0] if rows.scores else None)


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
