"""Charts of the report: histograms, the curve of right against swapped captions, sizes, small bars. All 340 wide.

One width for phone and desktop keeps their text readable at both; a wide page sets several side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from mmdata.emit.report_data import Share
from mmdata.emit.report_drawing import svg, tag
from mmdata.emit.report_scores import GRID_COLUMNS, GRID_ROWS, Bin, Curve, ScoreColumn, Sizes
from mmdata.emit.report_text import count, share, size, value

_WIDTH, _HEIGHT = 340.0, 190.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 334.0, 24.0, 160.0
_KINDS = ("kept", "lost", "waiting")


def score_chart(column: ScoreColumn) -> Markup:
    """Histogram of a score, kept below lost, each limit a line."""
    low, high = column.bins[0].low, column.bins[-1].high
    marks = _bars(column.bins)
    marks += [_tick(_place(x, low, high), value(x)) for x in _ticks(low, high)]
    for side, limit in column.limits.items():
        if low <= limit <= high:
            x = _place(limit, low, high)
            anchor = "end" if x > (_LEFT + _RIGHT) / 2 else "start"
            marks.append(tag("line", x1=x, x2=x, y1=_TOP - 6, y2=_BOTTOM, class_="limit"))
            words = f"{side} {value(limit)}"
            marks.append(
                tag(
                    "text",
                    words,
                    x=x + (4 if anchor == "start" else -4),
                    y=_TOP - 10,
                    text_anchor=anchor,
                    class_="limit-text",
                )
            )
    label = f"Histogram of {column.name} over {count(column.rows)} samples, median {value(column.quantiles[1])}"
    return svg(_WIDTH, _HEIGHT, marks, label)


def bytes_chart(sizes: Sizes) -> Markup:
    """Histogram of raw file sizes, on a scale of factors of two."""
    marks, bins = _bars(sizes.bytes_bins), sizes.bytes_bins
    step = max(len(bins) // 5, 1)
    wide = (_RIGHT - _LEFT) / len(bins)
    marks += [_tick(_LEFT + wide * i, size(round(bins[i].low))) for i in range(0, len(bins), step)]
    return svg(_WIDTH, _HEIGHT, marks, f"Histogram of file sizes, {size(sizes.bytes_total)} in all")


def _bars(bins: Sequence[Bin]) -> list[Markup]:
    most = max((each.rows for each in bins), default=0) or 1
    wide, tall = (_RIGHT - _LEFT) / len(bins), _BOTTOM - _TOP
    marks = _scale(most)
    for number, each in enumerate(bins):
        y = _BOTTOM
        parts = []
        for kind in _KINDS:
            high = tall * getattr(each, kind) / most
            if high:
                y -= high
                parts.append(
                    tag(
                        "rect",
                        x=_LEFT + number * wide,
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
        tag("line", x1=_LEFT, x2=_RIGHT, y1=_BOTTOM, y2=_BOTTOM, class_="axis"),
        tag("line", x1=_LEFT, x2=_RIGHT, y1=_TOP, y2=_TOP, class_="grid"),
        tag("text", _short(most), x=_LEFT - 5, y=_TOP + 4, text_anchor="end", class_="small"),
        tag("text", "0", x=_LEFT - 5, y=_BOTTOM + 3, text_anchor="end", class_="small"),
    ]


def _short(number: int) -> str:
    return (
        count(number) if number < 10_000 else f"{number / 1000:.0f}k" if number < 10_000_000 else f"{number / 1e6:.0f}M"
    )


def _place(x: float, low: float, high: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * (x - low) / (high - low)


def _tick(x: float, words: str) -> Markup:
    anchor = "end" if x > _RIGHT - 8 else "middle"
    return tag("text", words, x=x, y=_BOTTOM + 16, text_anchor=anchor, class_="small")


def _ticks(low: float, high: float, most: int = 6) -> list[float]:
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def curve_chart(curve: Curve) -> Markup:
    """Share of right captions kept and of swapped ones dropped, at every limit."""
    low, high = curve.points[0][0], curve.points[-1][0]
    high = high if high > low else low + 1
    tall = _BOTTOM - _TOP
    marks = _scale(100)[:2]
    for percent in (0, 50, 85, 100):
        y = _BOTTOM - tall * percent / 100
        marks.append(tag("text", f"{percent} %", x=_LEFT - 4, y=y + 4, text_anchor="end", class_="small"))
        if percent == 85:
            marks.append(tag("line", x1=_LEFT, x2=_RIGHT, y1=y, y2=y, class_="grid dashed"))
    for column, kind in ((1, "kept"), (2, "dropped")):
        places = [f"{_place(p[0], low, high):.1f},{_BOTTOM - tall * p[column]:.1f}" for p in curve.points]
        marks.append(tag("polyline", points=" ".join(places), class_=f"curve {kind}-line"))
    marks += [_tick(_place(x, low, high), value(x)) for x in _ticks(low, high)]
    if curve.limit is not None and low <= curve.limit <= high:
        x = _place(curve.limit, low, high)
        marks.append(tag("line", x1=x, x2=x, y1=_TOP - 6, y2=_BOTTOM, class_="limit"))
        marks.append(tag("text", value(curve.limit), x=x, y=_TOP - 10, text_anchor="middle", class_="limit-text"))
        for shown, kind in ((curve.right_kept, "kept"), (curve.swapped_dropped, "dropped")):
            marks.append(tag("circle", cx=x, cy=_BOTTOM - tall * (shown or 0.0), r=4, class_=f"fill {kind}"))
    return svg(_WIDTH, _HEIGHT, marks, "Share of right captions kept and of swapped captions dropped, by threshold")


def sizes_chart(sizes: Sizes) -> Markup:
    """Original width by height, both on a scale of factors of two; darker is more."""
    tall = 200.0
    wide_cell, tall_cell = (_RIGHT - _LEFT) / GRID_COLUMNS, (tall - _TOP) / GRID_ROWS
    most = max(sizes.cells.values())
    marks = [tag("rect", x=_LEFT, y=_TOP, width=_RIGHT - _LEFT, height=tall - _TOP, class_="track")]
    for (x, y), number in sizes.cells.items():
        strength = 0.25 + 0.75 * math.log1p(number) / math.log1p(most)
        marks.append(
            tag(
                "rect",
                x=_LEFT + x * wide_cell,
                y=tall - (y + 1) * tall_cell,
                width=wide_cell,
                height=tall_cell,
                fill_opacity=round(strength, 2),
                class_="fill kept",
            )
        )
    for side, axis in ((0, "x"), (1, "y")):
        for power in range(math.ceil(sizes.low[side]), math.floor(sizes.high[side]) + 1):
            part = (power - sizes.low[side]) / (sizes.high[side] - sizes.low[side])
            if axis == "x":
                marks.append(
                    tag(
                        "text",
                        f"{2**power}",
                        x=_LEFT + part * (_RIGHT - _LEFT),
                        y=tall + 14,
                        text_anchor="end" if part > 0.95 else "middle",
                        class_="small",
                    )
                )
            else:
                marks.append(
                    tag(
                        "text",
                        f"{2**power}",
                        x=_LEFT - 4,
                        y=tall - part * (tall - _TOP) + 4,
                        text_anchor="end",
                        class_="small",
                    )
                )
    marks.append(tag("text", "height", x=0, y=_TOP - 9, class_="small"))
    marks.append(tag("text", "width, px", x=_RIGHT, y=tall + 28, text_anchor="end", class_="small"))
    label = f"Original sizes of {count(sizes.rows)} pictures, median {sizes.median[0]} by {sizes.median[1]} pixels"
    return svg(_WIDTH, tall + 34, marks, label)


def share_bar(part: Share) -> Markup:
    """Kept, dropped, failed and waiting as one bar."""
    x, marks = 0.0, []
    for kind in ("kept", "waiting", "dropped", "failed"):
        wide = 120 * getattr(part, kind) / max(part.rows, 1)
        if wide:
            marks.append(tag("rect", x=x, y=0, width=wide, height=10, class_=f"fill {kind}"))
            x += wide
    label = ", ".join(f"{kind} {share(getattr(part, kind), part.rows)}" for kind in ("kept", "dropped", "failed"))
    return tag(
        "svg", *marks, viewBox="0 0 120 10", role="img", aria_label=label, class_="bar", preserveAspectRatio="none"
    )


def bar(part: float, whole: float, kind: str) -> Markup:
    """One share as a bar."""
    wide = 120 * part / whole if whole else 0.0
    track = tag("rect", x=0, y=0, width=120, height=10, class_="track")
    fill = tag("rect", x=0, y=0, width=max(wide, 1.0) if part else 0.0, height=10, class_=f"fill {kind}")
    return tag("svg", track, fill, viewBox="0 0 120 10", aria_hidden="true", class_="bar", preserveAspectRatio="none")
