"""loudness is EBU R128's, the gain lands on the target, and true peaks stay below their limit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mmdata.audio.loudness import Loudness, measure
from mmdata.audio.sound import read_sound
from tests.audio import sounds as s

RATE_HZ = 16_000


def tone_T(level_db: float, seconds: float = 3.0) -> np.ndarray:
    at_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return 10 ** (level_db / 20) * np.sin(2 * np.pi * 997 * at_s)


@pytest.mark.parametrize("level_db", [-40, -20, -6])
@pytest.mark.parametrize("part", ["flac", "wav"])
def test_a_tone_of_997_hz_has_the_loudness_that_the_standard_says(heard, level_db, part):
    """ITU-R BS.1770: a sine of 0 dBFS in one channel reads -3.01 LKFS."""
    sample = heard(tone_T(level_db), part=part)
    loudness_lufs, true_peak_db = measure(sample.parts[part], part)
    assert loudness_lufs == pytest.approx(level_db - 3.01, abs=0.1)
    assert true_peak_db == pytest.approx(level_db, abs=0.3)


@pytest.mark.parametrize("target_lufs", [-30, -23, -16])
def test_speech_lands_on_the_target(heard, target_lufs):
    sample = heard(s.spoken_T() * 0.1)
    (done,) = Loudness(target_lufs=target_lufs, max_true_peak_db=0).process([sample])
    before, gain_db = done.columns["loudness_lufs"], done.columns["gain_db"]
    assert gain_db == pytest.approx(target_lufs - before, abs=1e-6)
    assert measure(done.parts["flac"], "flac")[0] == pytest.approx(target_lufs, abs=0.1)


def test_one_gain_is_all_that_changes(heard):
    wave_T = s.spoken_T() * 0.1
    (done,) = Loudness().process([heard(wave_T)])
    made_T, rate_hz = read_sound(done.parts["flac"])
    assert rate_hz == RATE_HZ
    np.testing.assert_allclose(made_T, wave_T * 10 ** (done.columns["gain_db"] / 20), atol=2e-4)


def test_a_true_peak_at_its_limit_holds_the_gain_back(heard):
    clicks_T = tone_T(-50)
    clicks_T[::8000] = 0.5
    (done,) = Loudness(target_lufs=-10, max_true_peak_db=-1).process([heard(clicks_T)])
    assert done.columns["gain_db"] == pytest.approx(-1 - done.columns["true_peak_db"])
    assert measure(done.parts["flac"], "flac")[1] <= -0.9


@pytest.mark.parametrize("wave_T", [np.zeros(RATE_HZ), tone_T(-20, 0.3)], ids=["silence", "0.3 s"])
def test_what_has_no_loudness_stays_as_it_is(heard, wave_T):
    sample = heard(wave_T)
    before = dict(sample.parts)
    (done,) = Loudness().process([sample])
    assert (done.columns["loudness_lufs"], done.columns["gain_db"]) == (None, 0.0)
    assert math.isfinite(done.columns["true_peak_db"])
    assert done.parts == before


def test_without_a_target_it_only_measures(heard):
    sample = heard(tone_T(-20))
    before = dict(sample.parts)
    (done,) = Loudness(target_lufs=None).process([sample])
    assert done.parts == before
    assert (round(done.columns["loudness_lufs"]), done.columns["gain_db"]) == (-23, 0.0)


def test_features_of_the_sound_before_are_let_go_of(heard):
    sample = heard(tone_T(-20))
    sample.parts["mel.npy"] = b"of the sound before"
    (done,) = Loudness().process([sample])
    assert list(done.parts) == ["flac"]
