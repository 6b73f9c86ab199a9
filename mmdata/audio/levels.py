"""Levels of a sound over time: mean power of short frames, in decibels below full scale, and the noise beneath it.

Shape suffixes: T audio samples, N frames. Levels are of the mean square; a full-scale square wave has 0 dB, a sine -3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FRAME_MS = 20
FLOOR_DB = -100.0  # what digital silence counts as; 16 bits end at -98
_QUIET_SHARE = 0.1


def frame_power(wave_T: NDArray[np.float32], rate_hz: int, frame_ms: int = FRAME_MS) -> NDArray[np.float64]:
    """Mean square of frames that follow each other, float64 [N]; the last one may be shorter. Empty for no samples."""
    size = max(1, rate_hz * frame_ms // 1000)
    whole = wave_T.size // size
    frames_NT = wave_T[: whole * size].reshape(whole, size)
    power_N = np.einsum("nt,nt->n", frames_NT, frames_NT, dtype=np.float64)
    rest_T = wave_T[whole * size :].astype(np.float64)
    rest = [float(rest_T @ rest_T) / rest_T.size] if rest_T.size else []
    return np.concatenate([power_N / size, rest])


def decibels(power: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Level of a mean square, at least FLOOR_DB."""
    return np.asarray(10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10))))


def noise_power(power_N: NDArray[np.float64]) -> float:
    """Mean power of the quietest tenth of the frames, at least of one: what is there while nobody speaks.

    Holds for steady noise and speech that pauses; music and speech without a pause have no frames of noise alone.
    """
    count = max(1, int(_QUIET_SHARE * power_N.size))
    return float(np.sort(power_N)[:count].mean())
