"""Copies of rare sounds that differ: another speed with the pitch kept, and white noise. T audio samples.

One function over the parts of a sample, as mmdata/augment.py describes. The speed is changed by FFmpeg's atempo
(waveform similarity, good for speech); everything random comes from the copy's key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdata.audio.sound import read_sound, replace_sound, sound_of, write_sound
from mmdata.augment import AudioAugment, rng_of
from mmdata.media import ffmpeg
from mmdata.media.memory_file import memory_file
from mmdata.sample import Sample
from mmdata.stage import Stage

_FEATURES = {"mel.npy", "mfcc.npy"}
_NOISE_RANGE_DB = 20.0  # noise lies from noise_db to this much further below the sound


def augment(
    parts: dict[str, bytes],
    columns: dict[str, Any],
    key: str,
    options: AudioAugment,
    features: Sequence[Stage] = (),
) -> dict[str, bytes]:
    """The parts with another sound; duration_s and num_mel_frames of `columns` become those of the copy.

    features: the stages, set up, that made mel.npy or mfcc.npy, as the pipeline has them; they make them again. Raises
    ValueError where a feature has no stage: it would be that of another sound.
    """
    sample = Sample(key, dict(parts), columns)
    if sample.sound_part is None:
        return sample.parts
    rng = rng_of(key, "audio")
    wave_T, rate_hz = sound_of(sample)
    copy_T = at_speed(wave_T, rate_hz, float(rng.uniform(options.min_speed, options.max_speed)))
    if options.noise_db > 0:
        copy_T = with_noise(copy_T, options.noise_db + float(rng.uniform(0, _NOISE_RANGE_DB)), rng)
    replace_sound(sample, copy_T, rate_hz)
    columns["duration_s"] = copy_T.size / rate_hz
    for stage in features:
        stage.process([sample])
    if missing := (_FEATURES & parts.keys()) - sample.parts.keys():
        raise ValueError(f"{key}: no stage to make {', '.join(sorted(missing))} again of the changed sound")
    return {name: sample.parts[name] for name in parts}


def at_speed(wave_T: NDArray[np.float32], rate_hz: int, speed: float) -> NDArray[np.float32]:
    """The wave `speed` times as fast, round(T / speed) samples, at the same pitch; speed from 0.5 to 2."""
    wanted = round(wave_T.size / speed)
    with memory_file(write_sound(wave_T, rate_hz, "wav")) as path:
        graph = ffmpeg.source(path, "wav").filter("atempo", speed)
        changed_T, _ = read_sound(ffmpeg.run(graph, "wav", acodec="pcm_f32le"))
    return np.pad(changed_T[:wanted], (0, max(0, wanted - changed_T.size)))


def with_noise(wave_T: NDArray[np.float32], snr_db: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """The wave with white noise snr_db below its mean power."""
    power = float(np.mean(wave_T.astype(np.float64) ** 2)) if wave_T.size else 0.0
    noise_T = rng.standard_normal(wave_T.size).astype(np.float32)
    return wave_T + noise_T * np.float32(np.sqrt(power / 10 ** (snr_db / 10)))
