"""The funnel as a picture: inline SVG, once for wide screens and once for narrow ones.

Every mark gets its colour from a class of the page's style sheet, so that light and dark need one picture, and all text
passes through `tag`, which escapes it.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from mmdata.emit.report_data import Loss, Step
from mmdata.emit.report_text import count, share

MOST_LOSSES = 5  # lines per step; the rest is summed up in one
_TWO_LINES = 35.0  # from one loss's words to the next one's
_CLASS = {"failed": "failed", "dropped": "dropped", "waiting": "waiting"}


def tag(name: str, *inside: str | Markup, **attributes: str | float) -> Markup:
    """One SVG element; text and attribute values are escaped, `class_` is written as `class`, `_` as `-`."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(f"{value:.6g}" if isinstance(value, float) else value)}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{written}>{''.join(str(escape(part)) for part in inside)}</{name}>")


def svg(width: float, height: float, inside: Sequence[Markup], label: str, class_: str = "") -> Markup:
    """The picture; `label` is what a screen reader says in its place."""
    box = f"0 0 {width:g} {height:g}"
    return tag("svg", *inside, viewBox=box, role="img", aria_label=label, class_=f"chart {class_}".strip())


def shown_losses(step: Step) -> list[Loss]:
    """The largest losses of a step, waiting rows always among them, the others as one."""
    waiting = [loss for loss in step.losses if loss.status == "waiting"]
    lost = [loss for loss in step.losses if loss.status != "waiting"]
    if len(lost) > MOST_LOSSES:
        rest = lost[MOST_LOSSES - 1 :]
        status = max(rest, key=lambda loss: loss.rows).status
        lost = [*lost[: MOST_LOSSES - 1], Loss(f"{len(rest)} other reasons", sum(loss.rows for loss in rest), status)]
    return [*lost, *waiting]


def funnel(steps: Sequence[Step], splits: Sequence[tuple[str, int, int]]) -> Markup:
    """Both pictures of the funnel; the style sheet shows the one that fits."""
    label = "Funnel: " + ", ".join(f"{step.name} {count(step.rows)}" for step in steps)
    return _wide(steps, splits, label) + _narrow(steps, label)


def _wide(steps: Sequence[Step], splits: Sequence[tuple[str, int, int]], label: str) -> Markup:
    """From left to right: the band of what goes on, and below it what is lost at each step."""
    total = max(steps[0].rows, 1)
    left, top, node, full = 10.0, 54.0, 10.0, 190.0
    gap = (1120 - left - 130) / max(len(steps) - 1, 1)
    bands, marks = [], []
    bottom = top + full
    for number, step in enumerate(steps):
        x, high = left + number * gap, full * step.rows / total
        marks.append(tag("rect", x=x, y=top, width=node, height=max(high, 1.5), rx=2, class_="node"))
        marks.append(tag("text", count(step.rows), x=x, y=top - 24, class_="big"))
        of_all = f" {share(step.rows, total)}" if number else ""
        marks.append(tag("text", f"{step.name}{of_all}", x=x, y=top - 8, class_="soft"))
        if number + 1 == len(steps):
            for line, (split, rows, _) in enumerate(splits):
                marks.append(tag("text", f"{split or 'all'} {count(rows)}", x=x + 18, y=top + 16 + 18 * line))
            break
        on = full * steps[number + 1].rows / total
        bands.append(band(x + node, top, x + gap, top, max(on, 1.0), "flow kept"))
        y, place, last = top + on, top + on + 44, 0.0
        for loss in shown_losses(step):
            thick = full * loss.rows / total
            place = max(place, last + _TWO_LINES - max(thick, 1.5) / 2)
            title = tag("title", f"{loss.reason}: {count(loss.rows)}")
            bands.append(band(x + node, y, x + 62, place, max(thick, 1.5), f"flow {_CLASS[loss.status]}", title))
            middle = last = place + max(thick, 1.5) / 2
            marks.append(
                tag("text", count(loss.rows), x=x + 68, y=middle - 1, class_=f"strong {_CLASS[loss.status]}-text")
            )
            marks.append(tag("text", loss.reason, x=x + 68, y=middle + 12, class_="small"))
            y += thick
            place += thick + 10
            bottom = max(bottom, place)
    return svg(1120, bottom + 6, [*bands, *marks], label, "wide")


def band(x0: float, y0: float, x1: float, y1: float, thick: float, class_: str, *inside: Markup) -> Markup:
    """A band of one thickness from one place to another, both its upper ends."""
    middle = (x0 + x1) / 2
    path = (
        f"M{x0:.1f} {y0:.1f}C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}V{y1 + thick:.1f}"
        f"C{middle:.1f} {y1 + thick:.1f} {middle:.1f} {y0 + thick:.1f} {x0:.1f} {y0 + thick:.1f}Z"
    )
    return tag("path", *inside, d=path, class_=class_)


def _narrow(steps: Sequence[Step], label: str) -> Markup:
    """From top to bottom: a bar per step, and between two the losses, each with a bar of its own."""
    total, width, y = max(steps[0].rows, 1), 330.0, 0.0
    marks = []
    for number, step in enumerate(steps):
        long = width * step.rows / total
        marks.append(tag("text", step.name, x=0, y=y + 15, class_="strong"))
        of_all = f"  {share(step.rows, total)}" if number else ""
        marks.append(tag("text", f"{count(step.rows)}{of_all}", x=width, y=y + 15, text_anchor="end"))
        marks.append(tag("rect", x=0, y=y + 22, width=width, height=14, rx=3, class_="track"))
        marks.append(tag("rect", x=0, y=y + 22, width=max(long, 2.0), height=14, rx=3, class_="fill kept"))
        y += 44
        for loss in shown_losses(step):
            bar = max(width * loss.rows / total, 2.0)
            marks.append(tag("text", loss.reason, x=14, y=y + 12, class_="small"))
            marks.append(
                tag(
                    "text", count(loss.rows), x=width, y=y + 12, text_anchor="end", class_=f"{_CLASS[loss.status]}-text"
                )
            )
            marks.append(
                tag(
                    "rect",
                    x=14,
                    y=y + 17,
                    width=min(bar, width - 14),
                    height=4,
                    rx=2,
                    class_=f"fill {_CLASS[loss.status]}",
                )
            )
            y += 27
        y += 10
    return svg(width, y, marks, label, "narrow")
