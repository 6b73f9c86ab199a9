"""Stage audio_stats: what a sound is worth, in numbers that selection can put thresholds on.

Shape suffixes: T audio samples, N frames, F frequency bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types as at
import numpy as np
from numpy.typing import NDArray

from mmdata.audio.levels import decibels, frame_power, noise_power
from mmdata.audio.sound import FULL_SCALE, sound_of
from mmdata.audio.speech import speech_frames
from mmdata.options import operational, semantic
from mmdata.sample import Sample
from mmdata.stage import Resources, one_by_one

_SNR_RANGE_DB = (-20.0, 100.0)
_WINDOW, _MAX_WINDOWS = 512, 8192
_LOUD_QUANTILE = 0.95  # of a bin over time: consonants reach high, but not often
_BELOW_PEAK_DB = 60.0
# Rounding to 16 bits is white noise of 1/12 step squared; its loud quantile is three times its mean, and twice that.
_ROUNDING_POWER = 6 / 12 / FULL_SCALE**2


@dataclass(kw_only=True)
class AudioStats:
    """Columns of a sound, each a plain number.

    snr_db: mean power over that of the quietest tenth of 20 ms frames, taken off before; from -20 to 100. True for
    steady noise under speech that pauses, too low for music and for speech without a pause. clipping_share: share of
    samples within 1% of the largest, beyond what the next percents below it let expect. silence_share: share of 20 ms
    frames below silence_db. speech_share: share of those where WebRTC's detector finds speech. bandwidth_hz: highest
    frequency that comes within 60 dB of the loudest, and above 16-bit rounding; about 4000 for 8 kHz sound that was
    resampled to 16 kHz, 0 for silence. rms_db: level of the whole, 0 is full scale, at least -100.
    """

    name: ClassVar[str] = "audio_stats"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"audio_text", "video_text"})
    reads: ClassVar[frozenset[str]] = frozenset({"sound"})
    writes: ClassVar[frozenset[str]] = frozenset(
        {"snr_db", "clipping_share", "silence_share", "speech_share", "bandwidth_hz", "rms_db"}
    )
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    silence_db: Annotated[float, at.Ge(-100), at.Le(0)] = semantic(-50.0)  # of full scale
    aggressiveness: Annotated[int, at.Ge(0), at.Le(3)] = semantic(2)  # of the detector: 3 takes least noise for speech
    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    def setup(self) -> None:
        speech_frames(np.zeros(1600, np.float32), 16_000)  # imports the detector

    def process(self, samples: list[Sample]) -> list[Sample]:
        return one_by_one(samples, self._process_one)

    def _process_one(self, sample: Sample) -> None:
        sample.columns.update(self.measure(*sound_of(sample)))

    def measure(self, wave_T: NDArray[np.float32], rate_hz: int) -> dict[str, float]:
        """The columns of a wave of at least one sample."""
        power_N = frame_power(wave_T, rate_hz)
        return {
            "snr_db": snr_db(power_N),
            "clipping_share": clipping_share(wave_T),
            "silence_share": float((decibels(power_N) < self.silence_db).mean()),
            "speech_share": float(speech_frames(wave_T, rate_hz, self.aggressiveness).mean()),
            "bandwidth_hz": bandwidth_hz(wave_T, rate_hz),
            "rms_db": float(decibels(float(power_N.mean()))),
        }


def snr_db(power_N: NDArray[np.float64]) -> float:
    """Speech over noise by the powers of short frames; 100 where there is no noise at all, -20 for noise alone."""
    noise = noise_power(power_N)
    speech = float(power_N.mean()) - noise
    if speech <= 0:
        return _SNR_RANGE_DB[0]
    return float(np.clip(10 * np.log10(speech / max(noise, 1e-30)), *_SNR_RANGE_DB))


def clipping_share(wave_T: NDArray[np.float32]) -> float:
    """Share of samples that stand at the largest level of the wave, 0 for silence.

    A wave that was clipped, at whatever level, has many samples within 1% of its peak and few just below. A sine, which
    dwells at its peak as no speech does, has 2.7 times as many in the last percent as in each of the two below.
    """
    level_T = np.abs(wave_T)
    peak = float(level_T.max(initial=0.0))
    if peak < 2 / FULL_SCALE:
        return 0.0
    at_peak = np.count_nonzero(level_T >= 0.99 * peak)
    below = (np.count_nonzero(level_T >= 0.97 * peak) - at_peak) / 2
    # Of a handful of samples at the peak, as every wave has, nothing can be said.
    return float(max(0.0, at_peak - 3 * below - 3)) / wave_T.size


def bandwidth_hz(wave_T: NDArray[np.float32], rate_hz: int) -> float:
    """Highest frequency with sound: upper edge of the last bin of 512-sample Hann windows that is loud enough."""
    padded_T = np.pad(wave_T, (0, max(0, _WINDOW - wave_T.size)))
    last = padded_T.size - _WINDOW
    starts = np.unique(np.linspace(0, last, min(_MAX_WINDOWS, 1 + last // (_WINDOW // 2))).astype(np.int64))
    hann_T = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
    views_NT = np.lib.stride_tricks.sliding_window_view(padded_T, _WINDOW)
    spectrum_NF = np.fft.rfft(views_NT[starts] * hann_T, axis=1)
    power_NF = spectrum_NF.real**2 + spectrum_NF.imag**2
    loud_F = np.quantile(power_NF, _LOUD_QUANTILE, axis=0)
    least = max(float(loud_F.max()) * 10 ** (-_BELOW_PEAK_DB / 10), _ROUNDING_POWER * float(hann_T @ hann_T))
    heard = np.flatnonzero(loud_F > least)
    return min(rate_hz / 2, float((heard[-1] + 0.5) * rate_hz / _WINDOW)) if heard.size else 0.0
