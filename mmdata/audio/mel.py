"""Mel power spectrograms in librosa's definition, with window and filters made once.

Shape suffixes: T audio samples, F frequency bins, M mel bands, N mel frames.
librosa.feature.melspectrogram makes its filters anew for every call, which takes longer than the transform of a short
sound; the numbers are the same.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FLOOR = 1e-10  # librosa's `amin` and Whisper's least power
_BLOCK_FRAMES = 1024  # of one transform: an hour of complex spectrum would take half a gigabyte, and leave the cache


@dataclass(frozen=True)
class MelScale:
    """Bands, window and hop of a Mel spectrogram; fmax_hz None, or beyond it, is half the rate of the sound."""

    bands: int
    window_ms: float
    hop_ms: float
    fmin_hz: float = 0.0
    fmax_hz: float | None = None

    def power(
        self, wave_T: NDArray[np.float32], rate_hz: int, pad: Literal["constant", "reflect"] = "constant"
    ) -> NDArray[np.float32]:
        """Power in every band, float32 [M, N]; frame n is centred at sample n * hop, N is 1 + T // hop.

        A periodic Hann window, as librosa.feature.melspectrogram has it. pad: what stands before the first and behind
        the last sample; librosa's features take zeros ("constant"), Whisper mirrors the sound ("reflect").
        """
        window, hop = samples_of(self.window_ms, rate_hz), samples_of(self.hop_ms, rate_hz)
        fmax_hz = None if self.fmax_hz is None else min(self.fmax_hz, rate_hz / 2)
        filters_MF = mel_filters(rate_hz, window, self.bands, self.fmin_hz, fmax_hz)
        frames = 1 + max(0, wave_T.size - window % 2) // hop
        if wave_T.size < window:  # as if silence followed
            wave_T = np.pad(wave_T, (0, window - wave_T.size))
        padded_T = np.pad(wave_T, window // 2, mode=pad)
        power_MN = np.empty((self.bands, frames), np.float32)
        for first in range(0, frames, _BLOCK_FRAMES):
            last = min(first + _BLOCK_FRAMES, frames)
            block_T = padded_T[first * hop : (last - 1) * hop + window]
            np.matmul(filters_MF, _power(block_T, window, hop), out=power_MN[:, first:last])
        return power_MN


def _power(wave_T: NDArray[np.float32], window: int, hop: int) -> NDArray[np.float32]:
    import librosa

    spectrum_FN: NDArray[Any] = librosa.stft(wave_T, n_fft=window, hop_length=hop, window="hann", center=False)
    power_FN: NDArray[np.float32] = spectrum_FN.real**2
    power_FN += spectrum_FN.imag**2
    return power_FN


@lru_cache(maxsize=16)
def mel_filters(rate_hz: int, window: int, bands: int, fmin_hz: float, fmax_hz: float | None) -> NDArray[np.float32]:
    """Triangles of equal area on Slaney's mel scale, float32 [M, F]; fmax_hz None is half the rate."""
    import librosa

    filters_MF: NDArray[np.float32] = librosa.filters.mel(
        sr=rate_hz, n_fft=window, n_mels=bands, fmin=fmin_hz, fmax=fmax_hz
    )
    return filters_MF


def samples_of(duration_ms: float, rate_hz: int) -> int:
    """Whole samples of a span given in milliseconds."""
    return round(duration_ms * rate_hz / 1000)


def npy_bytes(array: NDArray[np.float32]) -> bytes:
    """The array as a float16 npy file, C order."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array, np.float16), allow_pickle=False)
    return stream.getvalue()
