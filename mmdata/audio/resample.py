"""Another sampling rate, by librosa with the SoX resampler; piece by piece where a sound is long.

librosa imports numba and scipy: about 2.5 s once a process, so it is imported in a stage's `setup`, never with a
module. Shape suffix: T audio samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

QUALITY = "soxr_hq"  # flat to 0.91 of the lower half rate, images below -100 dB
WHOLE_SAMPLES = 1 << 23  # up to here one call for all: 32 MB; librosa has no form that works in pieces


def resampled(wave_T: NDArray[np.float32], rate_hz: int, to_rate_hz: int) -> NDArray[np.float32]:
    """The wave at another rate, round(T * to_rate_hz / rate_hz) samples."""
    if rate_hz == to_rate_hz or not wave_T.size:
        return wave_T
    import librosa

    made_T = librosa.resample(wave_T, orig_sr=rate_hz, target_sr=to_rate_hz, res_type=QUALITY)
    return np.asarray(made_T[: length_at(wave_T.size, rate_hz, to_rate_hz)], np.float32)


def resampled_pieces(
    pieces: Iterable[NDArray[np.float32]], rate_hz: int, to_rate_hz: int
) -> Iterator[NDArray[np.float32]]:
    """The pieces of one wave at another rate: in all round(T * to_rate_hz / rate_hz) samples, whatever the pieces.

    Holds WHOLE_SAMPLES in memory at most; beyond, the same filter runs over one piece after the other.
    """
    if rate_hz == to_rate_hz:
        yield from pieces
        return
    source = iter(pieces)
    held: list[NDArray[np.float32]] = []
    held_samples = 0
    for piece_T in source:
        held.append(piece_T)
        held_samples += piece_T.size
        if held_samples > WHOLE_SAMPLES:
            yield from _streamed(_then(held, source), rate_hz, to_rate_hz)
            return
    if held:
        yield resampled(np.concatenate(held), rate_hz, to_rate_hz)


def length_at(num_samples: int, rate_hz: int, to_rate_hz: int) -> int:
    """round(num_samples * to_rate_hz / rate_hz) in whole numbers, halves upwards."""
    return (2 * num_samples * to_rate_hz + rate_hz) // (2 * rate_hz)


def _then(first: list[NDArray[np.float32]], rest: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    while first:
        yield first.pop(0)
    yield from rest


def _streamed(pieces: Iterator[NDArray[np.float32]], rate_hz: int, to_rate_hz: int) -> Iterator[NDArray[np.float32]]:
    import soxr

    stream = soxr.ResampleStream(rate_hz, to_rate_hz, 1, dtype="float32", quality=QUALITY)
    taken = given = 0
    for piece_T in pieces:
        taken += piece_T.size
        made_T = stream.resample_chunk(piece_T)
        given += made_T.size
        yield made_T
    made_T = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    wanted = max(0, length_at(taken, rate_hz, to_rate_hz) - given)
    yield np.pad(made_T[:wanted], (0, max(0, wanted - made_T.size)))
