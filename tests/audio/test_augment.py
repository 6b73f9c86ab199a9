"""Copies are other sounds of the same pitch, the same for the same key, and their features are their own."""

from __future__ import annotations

import numpy as np
import pytest

from mmdata.audio.audio_stats import snr_db
from mmdata.audio.augment import at_speed, augment, with_noise
from mmdata.audio.levels import frame_power
from mmdata.audio.log_mel import LogMel
from mmdata.audio.mfcc import Mfcc
from mmdata.audio.sound import read_sound
from mmdata.augment import AudioAugment, rng_of
from tests.audio import sounds as s

RATE_HZ = 16_000
QUIET = AudioAugment(noise_db=0)


def pitch_hz(wave_T: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(wave_T * np.hanning(wave_T.size))).argmax() * RATE_HZ / wave_T.size)


@pytest.mark.parametrize("speed", [0.5, 0.8, 0.97, 1.0, 1.25, 2.0])
def test_the_speed_changes_and_the_pitch_does_not(speed):
    tone_T = (0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE_HZ) / RATE_HZ)).astype(np.float32)
    made_T = at_speed(tone_T, RATE_HZ, speed)
    assert made_T.size == round(tone_T.size / speed)
    assert pitch_hz(made_T) == pytest.approx(440, abs=3)
    assert np.sqrt(np.mean(made_T**2)) == pytest.approx(np.sqrt(np.mean(tone_T**2)), rel=0.05)


@pytest.mark.parametrize("snr", [0, 10, 30])
def test_noise_is_as_far_below_as_wanted(snr):
    speech_T = s.spoken_T()
    noise_T = with_noise(speech_T, snr, rng_of("a-x02", "audio")) - speech_T
    assert 10 * np.log10(np.mean(speech_T**2) / np.mean(noise_T**2)) == pytest.approx(snr, abs=0.1)


def test_a_copy_has_its_length_in_its_columns(heard):
    sample = heard(s.spoken_T())
    columns = dict(sample.columns)
    parts = augment(sample.parts, columns, "a-000000000001-x02", QUIET)
    wave_T, rate_hz = read_sound(parts["flac"])
    assert columns["duration_s"] == wave_T.size / rate_hz
    assert columns["duration_s"] != sample.columns["duration_s"]
    assert 6 / 1.1 - 0.01 <= columns["duration_s"] <= 6 / 0.9 + 0.01
    assert parts["flac"] != sample.parts["flac"]


def test_the_same_key_gives_the_same_bytes_and_another_key_others(heard):
    sample = heard(s.spoken_T(0, 2.0))
    made = [
        augment(sample.parts, dict(sample.columns), key, AudioAugment())["flac"] for key in ("a-x02", "a-x02", "a-x03")
    ]
    assert made[0] == made[1] != made[2]


def test_noise_lies_at_least_noise_db_below(heard):
    speech_T = s.spoken_T()
    options = AudioAugment(min_speed=1, max_speed=1, noise_db=15)
    ratios = []
    for number in range(6):
        parts = augment(heard(speech_T).parts, {}, f"a-000000000001-x{number:02d}", options)
        ratios.append(snr_db(frame_power(read_sound(parts["flac"])[0], RATE_HZ)))
    assert min(ratios) > 13
    assert max(ratios) - min(ratios) > 3


def test_features_are_made_again_from_the_copy(heard):
    mel, mfcc = LogMel(), Mfcc()
    (sample,) = mfcc.process(mel.process([heard(s.spoken_T(0, 2.0))]))
    columns = dict(sample.columns)
    parts = augment({**sample.parts, "txt": b"words"}, columns, "a-x02", QUIET, [mel, mfcc])
    assert list(parts) == [*sample.parts, "txt"]
    again = heard(read_sound(parts["flac"])[0])
    mfcc.process(mel.process([again]))
    assert (parts["mel.npy"], parts["mfcc.npy"]) == (again.parts["mel.npy"], again.parts["mfcc.npy"])
    assert columns["num_mel_frames"] == again.columns["num_mel_frames"]
    with pytest.raises(ValueError, match=r"no stage to make mel\.npy, mfcc\.npy again"):
        augment(sample.parts, dict(sample.columns), "a-x02", QUIET)


def test_a_sample_without_sound_stays_as_it_is():
    assert augment({"jpg": b"x", "txt": b"y"}, {}, "a-x02", QUIET) == {"jpg": b"x", "txt": b"y"}
