"""Whether subtitles lie where somebody speaks, and how far they would have to move. T steps of STEP_S."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmdata.video.subtitles import Cue

STEP_S = 0.01
RATE_HZ = 16_000
_STEP = round(STEP_S * RATE_HZ)
_FULL_SCALE = 32768.0
_SILENCE_DB = -50.0  # the detector goes on saying "speech" for a while after it; what is that silent is none


@dataclass(frozen=True)
class Alignment:
    """speech_share: share of subtitle time that is speech, 0 to 1. shift_s: what subtitles would have to be moved by
    to fit best, later where positive. shifted_share: speech_share after that."""

    speech_share: float
    shift_s: float
    shifted_share: float


def speech_steps(pieces: Iterable[bytes], aggressiveness: int) -> NDArray[np.bool_]:
    """Which steps of 10 ms hold speech, bool [T], of pieces of 16-bit mono sound at 16 kHz (WebRTC's detector)."""
    import webrtcvad

    detector = webrtcvad.Vad(aggressiveness)
    spoken: list[bool] = []
    rest = b""
    for piece in pieces:
        data = rest + piece
        whole = len(data) // (2 * _STEP)
        steps_TS = np.frombuffer(data, np.int16, whole * _STEP).reshape(whole, _STEP).astype(np.float32) / _FULL_SCALE
        is_loud_T = (steps_TS**2).mean(axis=1) > 10 ** (_SILENCE_DB / 10)
        said = (
            detector.is_speech(data[2 * _STEP * step : 2 * _STEP * (step + 1)], RATE_HZ)  # it remembers what was before
            for step in range(whole)
        )
        spoken += [is_speech and bool(loud) for is_speech, loud in zip(said, is_loud_T, strict=True)]
        rest = data[2 * _STEP * whole :]
    return np.array(spoken, bool)


def align(cues: Sequence[Cue], spoken_T: NDArray[np.bool_], max_shift_s: float) -> Alignment:
    """The shift of at most max_shift_s either way with the highest correlation of subtitles and speech.

    Correlation, not the share alone, so that speech without subtitles counts against a shift too; of shifts that are
    as good the middle one, of ranges the one nearest to none. No shift without speech or without subtitles.
    """
    under_T = np.zeros(spoken_T.size, np.float64)
    for cue in cues:
        under_T[max(0, round(cue.start_s / STEP_S)) : max(0, round(cue.end_s / STEP_S))] = 1.0
    time = under_T.sum()
    if not time or not spoken_T.any() or spoken_T.all():
        return Alignment(float(spoken_T[under_T > 0].mean()) if time else 0.0, 0.0, 0.0)
    most = min(round(max_shift_s / STEP_S), spoken_T.size - 1)
    scores = _correlation(under_T, spoken_T - spoken_T.mean(), most)
    shift = _middle_of_best(scores) - most
    shares = [_correlation(under_T, spoken_T.astype(np.float64), most)[most + steps] / time for steps in (0, shift)]
    return Alignment(float(np.clip(shares[0], 0, 1)), shift * STEP_S, float(np.clip(shares[1], 0, 1)))


def _correlation(under_T: NDArray[np.float64], sound_T: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Sum of under[t] * sound[t + shift] for shifts from -most to most; zeros outside."""
    size = 1 << (under_T.size + most).bit_length()
    spectrum = np.conj(np.fft.rfft(under_T, size)) * np.fft.rfft(sound_T, size)
    circular = np.fft.irfft(spectrum, size)
    return np.round(np.concatenate([circular[size - most :], circular[: most + 1]]), 6)


def _middle_of_best(scores: NDArray[np.float64]) -> int:
    best = np.flatnonzero(scores >= scores.max() - 1e-6)
    runs = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    centre = scores.size // 2
    run = min(runs, key=lambda run: (abs(int(run[run.size // 2]) - centre), int(run[0])))
    return int(run[run.size // 2])
