"""Stage loudness: every sound at the same loudness after EBU R128, measured by FFmpeg's ebur128."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types as at

from mmdata.audio.levels import FLOOR_DB
from mmdata.audio.sound import replace_sound, sound_of
from mmdata.media import ffmpeg
from mmdata.media.memory_file import memory_file, read_back
from mmdata.options import operational, semantic
from mmdata.sample import Sample
from mmdata.stage import Resources, one_by_one

_SILENT_LUFS = -70.0  # what the meter says where no block of 400 ms passes its gate
_VALUES = re.compile(rb"lavfi\.r128\.(I|true_peak)=(\S+)")


@dataclass(kw_only=True)
class Loudness:
    """One gain over the whole sound, so that its integrated loudness is target_lufs; dynamics stay as they are.

    loudness_lufs and true_peak_db (dBTP) are those before; gain_db is what was applied. The gain is less where true
    peaks would pass max_true_peak_db. Sounds below 0.4 s and silence have no loudness: null, and a gain of 0.
    """

    name: ClassVar[str] = "loudness"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"audio_text", "video_text"})
    reads: ClassVar[frozenset[str]] = frozenset({"sound"})
    writes: ClassVar[frozenset[str]] = frozenset({"sound", "loudness_lufs", "true_peak_db", "gain_db"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    target_lufs: Annotated[float, at.Ge(-60), at.Le(-5)] | None = semantic(-23.0)  # None measures and changes nothing
    max_true_peak_db: Annotated[float, at.Ge(-20), at.Le(0)] = semantic(-1.0)
    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    def setup(self) -> None:
        ffmpeg.executable()

    def process(self, samples: list[Sample]) -> list[Sample]:
        return one_by_one(samples, self._process_one)

    def _process_one(self, sample: Sample) -> None:
        wave_T, rate_hz = sound_of(sample)
        part = sample.sound_part or ""
        loudness_lufs, true_peak_db = measure(sample.parts[part], part)
        gain_db = 0.0
        if loudness_lufs is not None and self.target_lufs is not None:
            gain_db = min(self.target_lufs - loudness_lufs, self.max_true_peak_db - true_peak_db)
            replace_sound(sample, wave_T * 10 ** (gain_db / 20), rate_hz)
        sample.columns.update(loudness_lufs=loudness_lufs, true_peak_db=true_peak_db, gain_db=gain_db)


def measure(data: bytes, part: str) -> tuple[float | None, float]:
    """(integrated loudness in LUFS or None, true peak in dBTP) of a mono sound in a file of kind `part`."""
    with memory_file(data) as path, memory_file() as log:
        graph = ffmpeg.source(path, part).filter("ebur128", metadata=1, peak="true")
        ffmpeg.run(graph.filter("ametadata", mode="print", file=log), "null")
        last = dict(_VALUES.findall(read_back(log)))  # values are of all that came so far
    loudness_lufs, true_peak = float(last.get(b"I", _SILENT_LUFS)), float(last.get(b"true_peak", 0))
    true_peak_db = 20 * math.log10(true_peak) if true_peak > 0 else FLOOR_DB
    return (None if loudness_lufs <= _SILENT_LUFS else loudness_lufs), true_peak_db
