"""Stage denoise: steady noise taken out of a sound by FFmpeg's afftdn, and how much of it went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types as at
import numpy as np
from numpy.typing import NDArray

from mmdata.audio.levels import decibels, frame_power, noise_power
from mmdata.audio.sound import read_sound, replace_sound, sound_of
from mmdata.media import ffmpeg
from mmdata.media.memory_file import memory_file
from mmdata.options import operational, semantic
from mmdata.sample import Sample
from mmdata.stage import Resources, one_by_one

_HALF_DELAY_HZ = 80  # the filter gives everything 25 ms late, an even number of samples
_FLOOR_DB, _CEILING_DB = -80.0, -20.0  # what it takes as the level of noise


@dataclass(kw_only=True)
class Denoise:
    """Spectral reduction of white-like noise at the level found in the sound; its length and position stay.

    The level is that of the quietest tenth of the 20 ms frames: with the filter's own guess, or its noise tracking, it
    takes out next to nothing. noise_reduction_db: how far those frames sank, 0 where there was nothing to take out.
    """

    name: ClassVar[str] = "denoise"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"audio_text", "video_text"})
    reads: ClassVar[frozenset[str]] = frozenset({"sound"})
    writes: ClassVar[frozenset[str]] = frozenset({"sound", "noise_reduction_db"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    reduction_db: Annotated[float, at.Ge(0.01), at.Le(97)] = semantic(12.0)  # at most; more of it harms speech
    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    def setup(self) -> None:
        ffmpeg.executable()

    def process(self, samples: list[Sample]) -> list[Sample]:
        return one_by_one(samples, self._process_one)

    def _process_one(self, sample: Sample) -> None:
        wave_T, rate_hz = sound_of(sample)
        part = sample.sound_part or ""
        noise_db = _noise_db(wave_T, rate_hz)
        delay = 2 * (rate_hz // _HALF_DELAY_HZ)
        with memory_file(sample.parts[part]) as path:
            padded = ffmpeg.source(path, part).filter("apad", pad_len=delay)
            graph = padded.filter("afftdn", nr=self.reduction_db, nf=min(max(noise_db, _FLOOR_DB), _CEILING_DB))
            cleaned_T, _ = read_sound(ffmpeg.run(graph, "wav", acodec="pcm_s16le"))
        cleaned_T = cleaned_T[delay : delay + wave_T.size]
        sample.columns["noise_reduction_db"] = max(0.0, noise_db - _noise_db(cleaned_T, rate_hz))
        replace_sound(sample, cleaned_T, rate_hz)


def _noise_db(wave_T: NDArray[np.float32], rate_hz: int) -> float:
    return float(decibels(noise_power(frame_power(wave_T, rate_hz))))
