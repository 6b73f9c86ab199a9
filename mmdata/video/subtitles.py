"""SubRip (SRT) and WebVTT as cues; after what FFmpeg, players and the W3C's WebVTT draft accept. Pure functions."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

_STAMP = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9}))?"
_TIMING = re.compile(rf"\s*{_STAMP}\s*-->\s*{_STAMP}(?:\s.*)?")
_NO_CUE = re.compile(r"(NOTE|STYLE|REGION)(\s|$)")  # blocks of WebVTT; WEBVTT itself has no timing either
_MARKUP = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")  # <i>, <v Speaker>, <00:01.000>, {\an8}
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Cue:
    """A line that is spoken in [start_s, end_s)."""

    start_s: float
    end_s: float
    text: str


def parse(text: str) -> list[Cue]:
    """The cues of an SRT or WebVTT text, by time; what is no cue, ends before it begins or says nothing is left out.

    Markup is taken off, entities are replaced, lines are joined by a blank.
    """
    cues = []
    for block in re.split(r"\n[ \t]*\n", _lines(text)):
        cues += _cues_of(block)
    return sorted(cues, key=lambda cue: (cue.start_s, cue.end_s))


def shifted(cues: Iterable[Cue], shift_s: float) -> list[Cue]:
    """The cues that much later; what would begin before zero begins at zero, what would end before it is left out."""
    moved = (replace(cue, start_s=max(0.0, cue.start_s + shift_s), end_s=cue.end_s + shift_s) for cue in cues)
    return [cue for cue in moved if cue.end_s > cue.start_s]


def merged(cues: Sequence[Cue], *, max_s: float, max_gap_s: float) -> list[Cue]:
    """Neighbours joined, greedily from the first, as long as the whole lasts at most max_s and no gap is longer.

    Cues that overlap (two speakers) are always one, so that no clip holds words of another.
    """
    joined: list[Cue] = []
    for cue in cues:
        last = joined[-1] if joined else None
        if last is not None and (
            cue.start_s < last.end_s
            or (cue.start_s - last.end_s <= max_gap_s and max(cue.end_s, last.end_s) - last.start_s <= max_s)
        ):
            text = last.text if cue.text == last.text else f"{last.text} {cue.text}"
            joined[-1] = Cue(last.start_s, max(last.end_s, cue.end_s), text)
        else:
            joined.append(cue)
    return joined


def _lines(text: str) -> str:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _cues_of(block: str) -> list[Cue]:
    """The cues of a block; a second timing without an empty line before it begins another cue."""
    if _NO_CUE.match(block.lstrip()):
        return []
    lines = block.split("\n")
    starts = [number for number, line in enumerate(lines) if _TIMING.fullmatch(line)]
    cues = []
    for start, after in pairwise([*starts, len(lines)]):
        found = _TIMING.fullmatch(lines[start])
        assert found is not None
        said = lines[start + 1 : after]
        if after < len(lines) and said and said[-1].strip().isdigit():
            said.pop()  # the number of the next cue
        words = _SPACE.sub(" ", html.unescape(_MARKUP.sub("", " ".join(said)))).strip()
        start_s, end_s = _seconds(found.groups()[:4]), _seconds(found.groups()[4:])
        if words and end_s > start_s:
            cues.append(Cue(start_s, end_s, words))
    return cues


def _seconds(groups: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = groups
    whole = int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return float(f"{whole}.{fraction or 0}")
