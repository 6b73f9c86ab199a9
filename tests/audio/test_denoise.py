"""denoise takes steady noise out of speech, leaves clean speech alone, and moves nothing."""

from __future__ import annotations

import numpy as np
import pytest

from mmdata.audio.denoise import Denoise
from mmdata.audio.sound import read_sound
from tests.audio import sounds as s

RATE_HZ = 16_000


def ratio_db(clean_T: np.ndarray, other_T: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(clean_T**2) / np.mean((other_T - clean_T) ** 2)))


@pytest.mark.parametrize("snr", [5, 10, 20])
@pytest.mark.parametrize("speaker", [0, 5])
def test_speech_in_white_noise_comes_out_cleaner(heard, snr, speaker):
    clean_T = s.spoken_T(speaker)
    noise_T = np.random.default_rng(1).normal(size=clean_T.size)
    noisy_T = (clean_T + noise_T * np.sqrt(np.mean(clean_T**2) / 10 ** (snr / 10))).astype(np.float32)
    (done,) = Denoise().process([heard(noisy_T)])
    made_T, _ = read_sound(done.parts["flac"])
    assert made_T.size == clean_T.size
    assert ratio_db(clean_T, made_T) > snr + 4  # would be below 0 if the sound had moved by a quarter of a millisecond
    assert 6 < done.columns["noise_reduction_db"] < 13


def test_clean_speech_is_hardly_touched(heard):
    clean_T = s.spoken_T(1)
    (done,) = Denoise().process([heard(clean_T)])
    assert ratio_db(clean_T, read_sound(done.parts["flac"])[0]) > 30


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 22_050, 44_100])
@pytest.mark.parametrize("part", ["flac", "wav"])
def test_length_and_position_stay_at_every_rate(heard, rate_hz, part):
    wave_T = s.sweep_T(rate_hz + 11, rate_hz)
    (done,) = Denoise().process([heard(wave_T, rate_hz, part)])
    made_T, made_hz = read_sound(done.parts[part])
    assert (made_T.size, made_hz) == (wave_T.size, rate_hz)
    assert np.corrcoef(made_T, wave_T)[0, 1] > 0.98


@pytest.mark.parametrize("num_samples", [1, 100, 16_000])
def test_silence_stays_silence(heard, num_samples):
    (done,) = Denoise().process([heard(np.zeros(num_samples))])
    assert done.columns["noise_reduction_db"] == 0
    assert not read_sound(done.parts["flac"])[0].any()


def test_a_stronger_reduction_takes_out_more(heard):
    noisy_T = s.spoken_T() + np.random.default_rng(2).normal(size=s.spoken_T().size) * 0.01
    sank = [Denoise(reduction_db=db).process([heard(noisy_T)])[0].columns["noise_reduction_db"] for db in (3, 12, 30)]
    assert sank == sorted(sank)
    assert sank[0] < 4
