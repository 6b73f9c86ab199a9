"""Charts of the report: histograms, the curve of right against swapped captions, sizes, small bars. All 340 wide.

One width for phone and desktop keeps their text readable at both; a wide page sets several side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from mmdata.emit.report_drawing import svg, tag
from mmdata.emit.report_rules import Limit
from mmdata.emit.report_scores import GRID_COLUMNS, GRID_ROWS, Bin, Curve, ScoreColumn, Sizes
from mmdata.emit.report_text import clean, count, size, value

WIDTH, HEIGHT = 340.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 334.0, 24.0, 160.0
_CHAR = 6.8  # width of a letter in a label, at the most: on phones, which show them larger
_KINDS = ("kept", "lost", "waiting")


def score_chart(column: ScoreColumn) -> Markup:
    """Histogram of a score, kept below lost, each limit a line."""
    low, high = column.bins[0].low, column.bins[-1].high
    marks = _bars(column.bins)
    marks += labels_along([(_place(x, low, high), value(x)) for x in _ticks(low, high)], BOTTOM + 16)
    marks += _limits(column.limits, low, high)
    label = f"Histogram of {column.name} over {count(column.rows)} samples, median {value(column.quantiles[1])}"
    return svg(WIDTH, HEIGHT, marks, label)


def _limits(limits: Sequence[Limit], low: float, high: float) -> list[Markup]:
    """A line a bound; words beside it where there is room, those that hold for all rows first."""
    marks, taken = [], list[tuple[float, float]]()
    for limit in sorted(limits, key=lambda limit: limit.group):
        if limit.value is None or not low <= limit.value <= high:
            continue
        x = _place(limit.value, low, high)
        bound = f"{limit.side} {value(limit.value)}"
        words = ": ".join(
            filter(None, [clean(limit.group, 16), f"{bound} ({limit.said})" if limit.is_relative else bound])
        )
        line = tag("line", tag("title", words), x1=x, x2=x, y1=TOP - 6, y2=BOTTOM, class_="limit")
        marks.append(line)
        is_right = x > (LEFT + RIGHT) / 2
        start, end = (x - 4 - _CHAR * len(words), x - 4) if is_right else (x + 4, x + 4 + _CHAR * len(words))
        if all(end < left or start > right for left, right in taken):
            taken.append((start, end))
            anchor = "end" if is_right else "start"
            at = x - 4 if is_right else x + 4
            marks.append(tag("text", words, x=at, y=TOP - 10, text_anchor=anchor, class_="limit-text"))
    return marks


def bytes_chart(sizes: Sizes) -> Markup:
    """Histogram of raw file sizes, on a scale of factors of two."""
    marks, bins = _bars(sizes.bytes_bins), sizes.bytes_bins
    step = max(len(bins) // 5, 1)
    wide = (RIGHT - LEFT) / len(bins)
    places = [(LEFT + wide * i, size(round(bins[i].low))) for i in range(0, len(bins), step)]
    marks += labels_along(places, BOTTOM + 16)
    return svg(WIDTH, HEIGHT, marks, f"Histogram of file sizes, {size(sizes.bytes_total)} in all")


def _bars(bins: Sequence[Bin]) -> list[Markup]:
    most = max((each.rows for each in bins), default=0) or 1
    wide, tall = (RIGHT - LEFT) / len(bins), BOTTOM - TOP
    marks = _scale(most)
    for number, each in enumerate(bins):
        y = BOTTOM
        parts = []
        for kind in _KINDS:
            high = tall * getattr(each, kind) / most
            if high:
                y -= high
                parts.append(
                    tag(
                        "rect",
                        x=LEFT + number * wide,
                        y=y,
                        width=max(wide - 0.6, 0.5),
                        height=high,
                        class_=f"fill {_COLOURS[kind]}",
                    )
                )
        if parts:
            words = f"{value(each.low)} to {value(each.high)}: {count(each.kept)} kept, {count(each.lost)} lost"
            marks.append(tag("g", tag("title", words), *parts))
    return marks


_COLOURS = {"kept": "kept", "lost": "dropped", "waiting": "waiting"}


def _scale(most: int) -> list[Markup]:
    """The ground line, and a line at the highest bar with its count."""
    return [
        tag("line", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM, class_="axis"),
        tag("line", x1=LEFT, x2=RIGHT, y1=TOP, y2=TOP, class_="grid"),
        tag("text", _short(most), x=LEFT - 5, y=TOP + 4, text_anchor="end", class_="small"),
        tag("text", "0", x=LEFT - 5, y=BOTTOM + 3, text_anchor="end", class_="small"),
    ]


def _short(number: int) -> str:
    return (
        count(number) if number < 10_000 else f"{number / 1000:.0f}k" if number < 10_000_000 else f"{number / 1e6:.0f}M"
    )


def _place(x: float, low: float, high: float) -> float:
    return LEFT + (RIGHT - LEFT) * (x - low) / (high - low)


def labels_along(places: Sequence[tuple[float, str]], y: float) -> list[Markup]:
    """Words below a horizontal axis, from left to right; those that would run into the one before are left out."""
    marks, free = [], -math.inf
    for x, words in places:
        wide = _CHAR * len(words)
        at = min(max(x, wide / 2), WIDTH - wide / 2)  # at the edges of the picture, moved in
        if at - wide / 2 > free:
            free = at + wide / 2 + _CHAR
            marks.append(tag("text", words, x=at, y=y, text_anchor="middle", class_="small"))
    return marks


def _ticks(low: float, high: float, most: int = 6) -> list[float]:
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def curve_chart(curve: Curve) -> Markup:
    """Share of right captions kept and of swapped ones dropped, at every limit."""
    low, high = curve.points[0][0], curve.points[-1][0]
    high = high if high > low else low + 1
    tall = BOTTOM - TOP
    marks = _scale(100)[:2]
    for percent in (0, 50, 85, 100):
        y = BOTTOM - tall * percent / 100
        marks.append(tag("text", f"{percent} %", x=LEFT - 4, y=y + 4, text_anchor="end", class_="small"))
        if percent == 85:
            marks.append(tag("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_="grid dashed"))
    for column, kind in ((1, "kept"), (2, "dropped")):
        places = [f"{_place(p[0], low, high):.1f},{BOTTOM - tall * p[column]:.1f}" for p in curve.points]
        marks.append(tag("polyline", points=" ".join(places), class_=f"curve {kind}-line"))
    marks += labels_along([(_place(x, low, high), value(x)) for x in _ticks(low, high)], BOTTOM + 16)
    if curve.limit is not None and low <= curve.limit <= high:
        x = _place(curve.limit, low, high)
        marks.append(tag("line", x1=x, x2=x, y1=TOP - 6, y2=BOTTOM, class_="limit"))
        marks.append(tag("text", value(curve.limit), x=x, y=TOP - 10, text_anchor="middle", class_="limit-text"))
        for shown, kind in ((curve.right_kept, "kept"), (curve.swapped_dropped, "dropped")):
            marks.append(tag("circle", cx=x, cy=BOTTOM - tall * (shown or 0.0), r=4, class_=f"fill {kind}"))
    return svg(WIDTH, HEIGHT, marks, "Share of right captions kept and of swapped captions dropped, by threshold")


def sizes_chart(sizes: Sizes) -> Markup:
    """Original width by height, both on a scale of factors of two; darker is more."""
    tall = 200.0
    wide_cell, tall_cell = (RIGHT - LEFT) / GRID_COLUMNS, (tall - TOP) / GRID_ROWS
    most = max(sizes.cells.values())
    marks = [tag("rect", x=LEFT, y=TOP, width=RIGHT - LEFT, height=tall - TOP, class_="track")]
    for (x, y), number in sizes.cells.items():
        strength = 0.25 + 0.75 * math.log1p(number) / math.log1p(most)
        marks.append(
            tag(
                "rect",
                x=LEFT + x * wide_cell,
                y=tall - (y + 1) * tall_cell,
                width=wide_cell,
                height=tall_cell,
                fill_opacity=round(strength, 2),
                class_="fill kept",
            )
        )
    columns, lines = ([(2**power, _part(sizes, side, power)) for power in _powers(sizes, side)] for side in (0, 1))
    marks += labels_along([(LEFT + part * (RIGHT - LEFT), f"{width_px}") for width_px, part in columns], tall + 14)
    apart = max(math.ceil(14 * len(lines) / (tall - TOP)), 1)  # of so many heights one is written
    for height_px, part in lines[::apart]:
        below = tall - part * (tall - TOP) + 4
        marks.append(tag("text", f"{height_px}", x=LEFT - 4, y=below, text_anchor="end", class_="small"))
    marks.append(tag("text", "height", x=0, y=TOP - 9, class_="small"))
    marks.append(tag("text", "width, px", x=RIGHT, y=tall + 28, text_anchor="end", class_="small"))
    label = f"Original sizes of {count(sizes.rows)} pictures, median {sizes.median[0]} by {sizes.median[1]} pixels"
    return svg(WIDTH, tall + 34, marks, label)


def _powers(sizes: Sizes, side: int) -> range:
    return range(math.ceil(sizes.low[side]), math.floor(sizes.high[side]) + 1)


def _part(sizes: Sizes, side: int, power: int) -> float:
    """Where a power of two lies on the axis of a side, from 0 to 1."""
    return (power - sizes.low[side]) / (sizes.high[side] - sizes.low[side])
