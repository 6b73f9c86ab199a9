"""How the report writes numbers and foreign text.

Captions, links and details come from strangers. Markup is escaped by the template; what escaping leaves (control
characters, lone surrogates, marks that turn the reading direction, a megabyte of text) is taken out here.
"""

from __future__ import annotations

import re

from markupsafe import Markup, escape

CAPTION_CHARS = 160
KEY_CHARS = 80

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufff9-\ufffb\ufffe\uffff]+")
_BAD = re.compile(r"[\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def clean(text: str | None, chars: int = CAPTION_CHARS) -> str:
    """`text` on one line of at most `chars` characters, harmless marks in place of what could disturb the page."""
    if not text:
        return ""
    cut = text[: 4 * chars]
    line = " ".join(_BAD.sub("\ufffd", _CONTROL.sub(" ", cut)).split())
    return line if len(line) <= chars and len(cut) == len(text) else line[: chars - 1].rstrip() + "\u2026"


def breakable(reason: str) -> Markup:
    """A reason that may go on in the next line after a dot or a low line."""
    return Markup(re.sub(r"(?<=[._])", "<wbr>", str(escape(reason))))


def clean_lines(text: str, chars: int = 200_000) -> str:
    """Text that keeps its lines, for the configuration and the notes."""
    lines = text[:chars].replace("\r\n", "\n").split("\n")
    return "\n".join(_BAD.sub("\ufffd", _CONTROL.sub(" ", line)) for line in lines)


def count(number: int) -> str:
    """`12,345`"""
    return f"{number:,}"


def share(part: float, whole: float) -> str:
    """`12.3 %`; never `0.0 %` where there is something, nor `100.0 %` where something is missing."""
    if not whole:
        return "-"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.1f} %" if percent not in (0, 100) else f"{percent:.0f} %"


def size(number: float) -> str:
    """Bytes with a decimal unit: `1.2 MB`."""
    for unit in _UNITS:
        if number < 1000 or unit == _UNITS[-1]:
            return f"{number:.0f} B" if unit == "B" else f"{number:.3g} {unit}"
        number /= 1000
    raise AssertionError("the last unit takes any number")


def amount(number: float) -> str:
    """Samples, tokens or hours: whole numbers as they are, others with three digits."""
    return f"{number:,.0f}" if number == round(number) or number >= 1000 else f"{number:.3g}"


def seconds(number: float) -> str:
    """`0.42 s`, `3 min 20 s`, `5 h 12 min`."""
    if number < 60:
        return f"{number:.3g} s"
    minutes, rest_s = divmod(round(number), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def value(number: float) -> str:
    """A score or a limit, three digits after the point at most."""
    if abs(number) >= 1000:
        return f"{number:,.0f}"
    return f"{number:.3f}".rstrip("0").rstrip(".") if abs(number) < 10 else f"{number:.4g}"
