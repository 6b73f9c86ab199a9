"""Where a long sound may be cut: in its pauses, and not within what is said. N frames of levels.FRAME_MS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PAUSE_FRAMES = 10  # 200 ms: shorter silences are within words
_ABOVE_NOISE = 4.0  # a pause has at most this many times the power of the quietest frames


def cuts(
    power_N: NDArray[np.float64], noise: float, min_frames: int, max_frames: int, spoken: Sequence[tuple[int, int]] = ()
) -> list[int]:
    """Frames at which to cut so that no piece has more than max_frames, nor fewer than min_frames; ascending.

    Each cut is in the middle of the last pause that leaves a piece within bounds; without a pause, at the quietest
    frame. spoken: half-open spans of frames that stay whole where possible. max_frames must be 2 * min_frames at least.
    """
    is_pause_N = _pauses(power_N, noise)
    is_free_N = np.ones(power_N.size, bool)
    for start, end in spoken:
        is_free_N[start + 1 : end] = False
    found, start = list[int](), 0
    while power_N.size - start > max_frames:
        first, last = start + min_frames, min(start + max_frames, power_N.size - min_frames)
        start = first + _best(power_N[first : last + 1], is_pause_N[first : last + 1], is_free_N[first : last + 1])
        found.append(start)
    return found


def _best(power_N: NDArray[np.float64], is_pause_N: NDArray[np.bool_], is_free_N: NDArray[np.bool_]) -> int:
    if not is_free_N.any():
        is_free_N = np.ones(is_free_N.size, bool)
    good = np.flatnonzero(is_pause_N & is_free_N)
    if good.size:
        first_of_last = good[np.flatnonzero(np.diff(good, prepend=-2) > 1)[-1]]
        return int(first_of_last + good[-1]) // 2
    return int(power_N.size - 1 - np.where(is_free_N, power_N, np.inf)[::-1].argmin())


def _pauses(power_N: NDArray[np.float64], noise: float) -> NDArray[np.bool_]:
    """Frames of runs of PAUSE_FRAMES at least that are hardly louder than the noise."""
    is_quiet_N = power_N <= max(noise, 1e-10) * _ABOVE_NOISE
    edges = np.flatnonzero(np.diff(is_quiet_N.astype(np.int8), prepend=0, append=0))
    is_pause_N = np.zeros(power_N.size, bool)
    for start, end in edges.reshape(-1, 2):
        is_pause_N[start:end] = end - start >= PAUSE_FRAMES
    return is_pause_N
