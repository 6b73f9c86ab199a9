"""mfcc gives librosa's own numbers, as float16."""

from __future__ import annotations

import io

import librosa
import numpy as np
import pytest

from mmdata.audio.mfcc import Mfcc
from mmdata.errors import ConfigError
from mmdata.options import build
from tests.audio import sounds as s


@pytest.mark.parametrize("coefficients", [13, 20, 40])
@pytest.mark.parametrize("num_samples", [1300, 16_000, 40_123])
def test_librosas_own_numbers_and_derivatives(coefficients, num_samples):
    wave_T = s.sweep_T(num_samples, 16_000).astype(np.float32)
    expected = librosa.feature.mfcc(y=wave_T, sr=16_000, n_mfcc=coefficients, n_fft=400, hop_length=160)
    changes = [librosa.feature.delta(expected, order=order) for order in (1, 2)]
    made = Mfcc(coefficients=coefficients, deltas=2).features(wave_T, 16_000)
    np.testing.assert_allclose(made, np.concatenate([expected, *changes]), atol=5e-3)
    np.testing.assert_array_equal(Mfcc(coefficients=coefficients).features(wave_T, 16_000), made[:coefficients])


def test_other_bands_and_windows():
    wave_T = s.sweep_T(9000, 8000).astype(np.float32)
    expected = librosa.feature.mfcc(
        y=wave_T, sr=8000, n_mfcc=20, n_fft=256, hop_length=64, n_mels=40, fmin=50, fmax=3800
    )
    made = Mfcc(coefficients=20, mel_bands=40, window_ms=32, hop_ms=8, fmin_hz=50, fmax_hz=3800)
    np.testing.assert_allclose(made.features(wave_T, 8000), expected, atol=5e-3)


@pytest.mark.parametrize("num_samples", [1, 200, 800])
def test_a_sound_of_few_frames_has_derivatives_too(num_samples):
    made = Mfcc(deltas=2).features(s.sweep_T(num_samples, 16_000).astype(np.float32), 16_000)
    assert made.shape == (39, 1 + num_samples // 160)
    assert np.isfinite(made).all()


def test_the_part_is_float16(heard):
    (done,) = Mfcc(deltas=1).process([heard(s.sweep_T(16_000, 16_000))])
    mfcc_KN = np.load(io.BytesIO(done.parts["mfcc.npy"]), allow_pickle=False)
    assert (mfcc_KN.dtype, mfcc_KN.shape) == (np.float16, (26, 101))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"coefficients": 12}, "coefficients"),
        ({"coefficients": 20, "mel_bands": 16}, "need as many"),
        ({"deltas": 3}, "deltas"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, says):
    with pytest.raises(ConfigError) as caught:
        build(Mfcc, options, "stages[0].mfcc")
    assert says in str(caught.value)
