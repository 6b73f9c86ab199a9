"""Stage segment_audio: long sounds become children of bounded length, cut at pauses; transcripts go with them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import annotated_types as at
import numpy as np
from numpy.typing import NDArray

from mmdata.audio.levels import FRAME_MS, frame_power, noise_power
from mmdata.audio.pauses import cuts
from mmdata.audio.sound import replace_sound, sound_of
from mmdata.errors import Reason, SampleError
from mmdata.options import operational, semantic
from mmdata.sample import Sample, child_key
from mmdata.stage import OWN, Resources

_WIDE = ("\u3000", "\uffef")  # from here on scripts put no blank between words


@dataclass(frozen=True)
class Said:
    """Words with their place in the sound, in seconds."""

    start_s: float
    end_s: float
    text: str


@dataclass(kw_only=True)
class SegmentAudio:
    """Children of min_s to max_s seconds with clip_start_s and clip_end_s (half-open, in the sound as it was decoded).

    A sound of max_s or less stays itself. The caption of a child is what is said in it by `times`, a column of the
    source's own with a list (or its JSON) of {start_s, end_s, text}, for instance words or sentences; Whisper's names
    start, end and word are understood too. Words are not cut, and go where their middle is. Without times nobody knows
    which child says what: they have no caption then.
    """

    name: ClassVar[str] = "segment_audio"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"audio_text"})
    reads: ClassVar[frozenset[str]] = frozenset({"sound"})
    writes: ClassVar[frozenset[str]] = frozenset({"sound", "duration_s", "clip_start_s", "clip_end_s"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    max_s: Annotated[float, at.Ge(1)] = semantic(30.0)
    min_s: Annotated[float, at.Gt(0)] = semantic(1.0)
    times: str = semantic("")
    batch_size: Annotated[int, at.Ge(1)] = operational(4)

    def __post_init__(self) -> None:
        if self.max_s < 2 * self.min_s:
            raise ValueError(f"max_s: found {self.max_s:g}, but it must be twice min_s ({self.min_s:g}) at least")
        if self.times:
            object.__setattr__(self, "reads", self.reads | {OWN})

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, samples: list[Sample]) -> list[Sample]:
        done = list[Sample]()
        for sample in samples:
            try:
                done += self._pieces(sample)
            except SampleError as error:
                sample.end(error.reason, error.detail)
                done.append(sample)
        return done

    def _pieces(self, sample: Sample) -> list[Sample]:
        wave_T, rate_hz = sound_of(sample)
        offset_s = float(sample.columns.get("trimmed_start_s") or 0.0)
        if wave_T.size <= self.max_s * rate_hz:
            sample.columns.update(clip_start_s=offset_s, clip_end_s=offset_s + wave_T.size / rate_hz)
            return [sample]
        said = said_in(sample.columns.get(OWN, {}).get(self.times), self.times, offset_s) if self.times else None
        bounds = self._bounds(wave_T, rate_hz, said or [])
        done = []
        for index, (start, end) in enumerate(pairwise(bounds)):
            span = start / rate_hz, end / rate_hz
            child = Sample(child_key(sample.key, index), dict(sample.parts), dict(sample.columns))
            replace_sound(child, wave_T[start:end], rate_hz)
            child.columns.update(
                duration_s=(end - start) / rate_hz,
                clip_start_s=offset_s + span[0],
                clip_end_s=offset_s + span[1],
                caption=None if said is None else caption_of(said, *span),
            )
            done.append(child)
        return done

    def _bounds(self, wave_T: NDArray[np.float32], rate_hz: int, said: list[Said]) -> list[int]:
        power_N = frame_power(wave_T, rate_hz)
        per_s = 1000 / FRAME_MS
        spoken = [(int(word.start_s * per_s), int(np.ceil(word.end_s * per_s))) for word in said]
        frames = cuts(power_N, noise_power(power_N), int(self.min_s * per_s), int(self.max_s * per_s), spoken)
        return [0, *(frame * FRAME_MS * rate_hz // 1000 for frame in frames), wave_T.size]


def said_in(value: Any, column: str, offset_s: float) -> list[Said]:
    """The times of a row, moved to where the sound was trimmed. Raises SampleError(content.no_spans) without any."""
    try:
        entries = json.loads(value) if isinstance(value, str) else value
        said = [
            Said(
                float(_one(e, "start_s", "start")), float(_one(e, "end_s", "end")), str(_one(e, "text", "word")).strip()
            )
            for e in entries
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SampleError(Reason.NO_SPANS, f"column {column}: no list of start_s, end_s and text: {error}") from error
    if not said or not all(0 <= word.start_s <= word.end_s < float("inf") for word in said):
        raise SampleError(Reason.NO_SPANS, f"column {column}: empty, or times that are no spans")
    return [Said(max(0.0, word.start_s - offset_s), max(0.0, word.end_s - offset_s), word.text) for word in said]


def _one(entry: dict[str, Any], name: str, other: str) -> Any:
    return entry[name] if name in entry else entry[other]


def caption_of(said: list[Said], start_s: float, end_s: float) -> str:
    """What is said from start_s on and before end_s, by the middles of words; blanks where their script has them."""
    text = ""
    for word in said:
        if start_s <= (word.start_s + word.end_s) / 2 < end_s and word.text:
            text += " " + word.text if text and not (_is_wide(text[-1]) and _is_wide(word.text[0])) else word.text
    return text


def _is_wide(character: str) -> bool:
    return _WIDE[0] <= character <= _WIDE[1] and not "\uac00" <= character <= "\ud7af"  # Korean has blanks
