"""Stage trim_silence: silence before and behind a sound is cut off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import annotated_types as at
import numpy as np
from numpy.typing import NDArray

from mmdata.audio.levels import FRAME_MS, decibels, frame_power
from mmdata.audio.sound import replace_sound, sound_of
from mmdata.audio.speech import speech_frames
from mmdata.errors import Reason, SampleError
from mmdata.options import operational, semantic
from mmdata.sample import Sample
from mmdata.stage import Resources, one_by_one

_SILENT_DB = -70.0  # a sound that is nowhere louder is silence as a whole


@dataclass(kw_only=True)
class TrimSilence:
    """Keep what lies between the first and the last 20 ms frame that is loud, or spoken, with a margin around it.

    by energy: frames less than below_peak_db under the loudest one. by speech: frames in which WebRTC's detector finds
    a voice. trimmed_start_s and trimmed_end_s say what went; silence as a whole is dropped (filtered.silent).
    """

    name: ClassVar[str] = "trim_silence"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"audio_text"})  # a sound track would fall out of step
    reads: ClassVar[frozenset[str]] = frozenset({"sound"})
    writes: ClassVar[frozenset[str]] = frozenset({"sound", "duration_s", "trimmed_start_s", "trimmed_end_s"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    by: Literal["energy", "speech"] = semantic("energy")
    below_peak_db: Annotated[float, at.Gt(0)] = semantic(40.0)
    aggressiveness: Annotated[int, at.Ge(0), at.Le(3)] = semantic(2)  # of the detector: 3 takes least noise for speech
    margin_s: Annotated[float, at.Ge(0)] = semantic(0.1)
    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    def setup(self) -> None:
        speech_frames(np.zeros(1600, np.float32), 16_000)  # imports the detector

    def process(self, samples: list[Sample]) -> list[Sample]:
        return one_by_one(samples, self._process_one)

    def _process_one(self, sample: Sample) -> None:
        wave_T, rate_hz = sound_of(sample)
        start, end = self.span(wave_T, rate_hz)
        if end - start < wave_T.size:
            replace_sound(sample, wave_T[start:end], rate_hz)
        sample.columns.update(
            duration_s=(end - start) / rate_hz,
            trimmed_start_s=start / rate_hz,
            trimmed_end_s=(wave_T.size - end) / rate_hz,
        )

    def span(self, wave_T: NDArray[np.float32], rate_hz: int) -> tuple[int, int]:
        """First sample to keep and the one behind the last. Raises SampleError(filtered.silent) where none is."""
        level_N = decibels(frame_power(wave_T, rate_hz))
        if self.by == "speech":
            kept = np.flatnonzero(speech_frames(wave_T, rate_hz, self.aggressiveness))
        else:
            kept = np.flatnonzero(
                level_N > max(_SILENT_DB, float(level_N.max(initial=_SILENT_DB)) - self.below_peak_db)
            )
        if not kept.size:
            raise SampleError(Reason.SILENT, "no speech" if self.by == "speech" else "silence only")
        margin = round(self.margin_s * rate_hz)
        start = max(0, int(kept[0]) * FRAME_MS * rate_hz // 1000 - margin)
        end = min(wave_T.size, (int(kept[-1]) + 1) * FRAME_MS * rate_hz // 1000 + margin)
        return start, end
