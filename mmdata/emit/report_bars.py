"""Small bars in tables, bars before and after against a target, and the curve of the long tail."""

from __future__ import annotations

import math

from markupsafe import Markup

from mmdata.emit.report_balance import Balance, Part
from mmdata.emit.report_charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, labels_along
from mmdata.emit.report_data import Share
from mmdata.emit.report_drawing import svg, tag
from mmdata.emit.report_tail import Tail
from mmdata.emit.report_text import count, share

_BAR = 120


def share_bar(part: Share) -> Markup:
    """Kept, dropped, failed and waiting as one bar."""
    x, marks = 0.0, []
    for kind in ("kept", "waiting", "dropped", "failed"):
        wide = _BAR * getattr(part, kind) / max(part.rows, 1)
        if wide:
            marks.append(tag("rect", x=x, y=0, width=wide, height=10, class_=f"fill {kind}"))
            x += wide
    label = ", ".join(f"{kind} {share(getattr(part, kind), part.rows)}" for kind in ("kept", "dropped", "failed"))
    return tag(
        "svg", *marks, viewBox="0 0 120 10", role="img", aria_label=label, class_="bar", preserveAspectRatio="none"
    )


def bar(part: float, whole: float, kind: str) -> Markup:
    """One share as a bar."""
    wide = _BAR * part / whole if whole else 0.0
    track = tag("rect", x=0, y=0, width=_BAR, height=10, class_="track")
    fill = tag("rect", x=0, y=0, width=max(wide, 1.0) if part else 0.0, height=10, class_=f"fill {kind}")
    return tag("svg", track, fill, viewBox="0 0 120 10", aria_hidden="true", class_="bar", preserveAspectRatio="none")


def before_after(balance: Balance, part: Part) -> Markup:
    """Share before above share after, and a mark where the target is; drawn to the widest share of all groups."""

    def wide(amount: float, total: float | None) -> float:
        return _BAR * amount / (total or 1) / balance.widest

    marks = [tag("rect", x=0, y=0, width=_BAR, height=16, class_="track")]
    for y, amount, total, kind in (
        (1, part.before, balance.total_before, "waiting"),
        (9, part.after, balance.total_after, "kept"),
    ):
        marks.append(tag("rect", x=0, y=y, width=wide(amount, total), height=6, class_=f"fill {kind}"))
    label = f"{share(part.before, balance.total_before)} before, {share(part.after, balance.total_after)} after"
    if part.target is not None:
        x = min(max(wide(part.target, balance.total_target), 1.0), _BAR - 1.0)
        marks.append(tag("line", x1=x, x2=x, y1=0, y2=16, class_="target"))
        label += f", target {share(part.target, balance.total_target or 0)}"
    return tag(
        "svg", *marks, viewBox="0 0 120 16", role="img", aria_label=label, class_="bar tall", preserveAspectRatio="none"
    )


def tail_chart(tail: Tail) -> Markup:
    """Captions of a concept by its rank, both on scales of factors of ten, before and after."""
    most = max((before for _, before, _ in tail.curve), default=1)
    far, top = math.log10(max(tail.concepts, 2)), math.log10(max(most, 2))

    def at(rank: int, number: float) -> tuple[float, float]:
        high = math.log10(max(number, 1)) / top
        return LEFT + (RIGHT - LEFT) * math.log10(rank) / far, BOTTOM - (BOTTOM - TOP) * min(high, 1.0)

    marks = [
        tag("line", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM, class_="axis"),
        tag("text", "captions", x=0, y=TOP - 12, class_="small"),
        tag("text", "rank of the concept", x=RIGHT, y=BOTTOM + 29, text_anchor="end", class_="small"),
    ]
    for power in range(math.floor(top) + 1):
        _, y = at(1, 10**power)
        marks.append(tag("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_="grid"))
        marks.append(tag("text", _short(10**power), x=LEFT - 5, y=y + 4, text_anchor="end", class_="small"))
    ranks = [10**power for power in range(math.floor(far) + 1)]
    marks += labels_along([(at(rank, 1)[0], _short(rank)) for rank in ranks], BOTTOM + 15)
    if tail.t is not None and tail.t <= most:
        _, y = at(1, tail.t)
        marks.append(tag("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_="limit"))
        marks.append(tag("text", f"t {count(tail.t)}", x=RIGHT, y=y - 4, text_anchor="end", class_="limit-text"))
    for column, kind in ((1, "waiting"), (2, "kept")):
        places = [at(point[0], point[column]) for point in tail.curve]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        marks.append(tag("polyline", points=line, class_=f"curve {kind}-line"))
        marks += [tag("circle", cx=x, cy=y, r=2.5, class_=f"fill {kind}") for x, y in places]
    label = f"Captions by rank of their concepts, before and after; {count(tail.concepts)} concepts"
    return svg(WIDTH, HEIGHT + 4, marks, label)


def _short(number: int) -> str:
    return f"{number // 1_000_000}M" if number >= 1_000_000 else f"{number // 1000}k" if number >= 1000 else str(number)
