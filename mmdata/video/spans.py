"""Spans of time: from a table's columns, of one length, split where too long. All half-open, in seconds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mmdata.errors import Reason, SampleError

_CLOCK = re.compile(r"\s*(?:(\d+):)?(\d+):(\d+(?:[.,]\d+)?)\s*")


@dataclass(frozen=True, slots=True)
class Span:
    """[start_s, end_s) of a film, and what is said or seen in it where that is known."""

    start_s: float
    end_s: float
    text: str | None = None

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


def listed(value: Any, column: str) -> list[Span]:
    """The spans of a list, or of its JSON: [start, end], [start, end, text] or {start, end, text}.

    Raises SampleError(content.no_spans) for anything else, and for an empty list.
    """
    try:
        entries = json.loads(value) if isinstance(value, (str, bytes)) else value
        spans = [_span(entry) for entry in entries or []]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise SampleError(Reason.NO_SPANS, f"column {column}: no list of [start, end]: {error}") from None
    if not spans:
        raise SampleError(Reason.NO_SPANS, f"column {column}: no span in it")
    return spans


def single(start: Any, end: Any, columns: str) -> list[Span]:
    """The one span that two columns name. Raises SampleError(content.no_spans) where they hold no times."""
    try:
        return [Span(seconds(start), seconds(end))]
    except (ValueError, TypeError) as error:
        raise SampleError(Reason.NO_SPANS, f"columns {columns}: {error}") from None


def seconds(value: Any) -> float:
    """A time in seconds: a number, its text, or [H:]MM:SS[.fff]. Raises ValueError or TypeError for all else."""
    if isinstance(value, bool) or value is None:
        raise TypeError(f"{value!r} is no time")
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if found:
        hours, minutes, rest = found.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(rest.replace(",", "."))
    time_s = float(value)
    if not math.isfinite(time_s):
        raise ValueError(f"{value!r} is no time")
    return time_s


def fixed(duration_s: float, length_s: float, stride_s: float) -> Iterator[Span]:
    """Spans of length_s, one every stride_s, the last ones shorter where the film ends."""
    for index in range(max(1, math.ceil(duration_s / stride_s - 1e-9))):
        yield Span(index * stride_s, min(index * stride_s + length_s, duration_s))


def between(starts_s: Iterable[float], end_s: float, max_s: float) -> Iterator[Span]:
    """From each start to the next and to the end, in equal pieces where that is longer than max_s."""
    for start, after in pairwise([*starts_s, end_s]):
        pieces = max(1, math.ceil((after - start) / max_s - 1e-9))
        bounds = [start + (after - start) * index / pieces for index in range(pieces)]
        yield from (Span(*bound) for bound in pairwise([*bounds, after]))


def within(span: Span, duration_s: float) -> Span:
    """The part of a span that lies in [0, duration_s)."""
    return Span(max(0.0, span.start_s), min(span.end_s, duration_s), span.text)


def _span(entry: Any) -> Span:
    if isinstance(entry, dict):
        text = entry.get("text")
        start, end = (entry[f"{name}_s"] if f"{name}_s" in entry else entry[name] for name in ("start", "end"))
        return Span(seconds(start), seconds(end), None if text is None else str(text))
    return Span(seconds(entry[0]), seconds(entry[1]), str(entry[2]) if len(entry) > 2 else None)
