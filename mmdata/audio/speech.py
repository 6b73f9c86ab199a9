"""Where somebody speaks: the voice activity detector of WebRTC, held to frames that are not silent.

Shape suffixes: T audio samples, N frames of FRAME_MS.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmdata.audio.levels import decibels, frame_power
from mmdata.audio.resample import resampled
from mmdata.audio.sound import int16_of

FRAME_MS = 20
_DETECTOR_HZ = (8000, 16_000, 32_000, 48_000)
_OTHERS_HZ = 16_000
_BLOCK_FRAMES = 4096


def speech_frames(
    wave_T: NDArray[np.float32], rate_hz: int, aggressiveness: int = 2, silence_db: float = -60.0
) -> NDArray[np.bool_]:
    """Which frames of FRAME_MS hold speech, bool [N]; the last frame may be shorter, and counts as the one before it.

    aggressiveness: 0 to 3; higher ones take less noise for speech and lose more of soft speech. Frames below silence_db
    (of full scale) are never speech: the detector itself takes a while to notice that a voice has ended.
    """
    import webrtcvad

    if rate_hz not in _DETECTOR_HZ:
        wave_T, rate_hz = resampled(wave_T, rate_hz, _OTHERS_HZ), _OTHERS_HZ
    power_N = frame_power(wave_T, rate_hz, FRAME_MS)
    spoken_N = np.zeros(power_N.size, bool)
    detector = webrtcvad.Vad(aggressiveness)
    pcm = b""
    size = rate_hz * FRAME_MS // 1000
    for index in range(wave_T.size // size):
        place = index % _BLOCK_FRAMES * 2 * size
        if not place:  # an hour of sound is not held twice
            pcm = int16_of(wave_T[index * size : (index + _BLOCK_FRAMES) * size]).tobytes()
        spoken_N[index] = detector.is_speech(pcm[place : place + 2 * size], rate_hz)
    if wave_T.size % size and spoken_N.size > 1:
        spoken_N[-1] = spoken_N[-2]
    return spoken_N & (decibels(power_N) > silence_db)
