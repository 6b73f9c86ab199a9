"""trim_silence takes off what is silent at both ends and says how much."""

from __future__ import annotations

import numpy as np
import pytest

from mmdata.audio.sound import read_sound
from mmdata.audio.trim_silence import TrimSilence
from mmdata.errors import Reason
from tests.audio import sounds as s

RATE_HZ = 16_000


@pytest.mark.parametrize("by", ["energy", "speech"])
@pytest.mark.parametrize(("before_s", "after_s"), [(0.0, 0.0), (1.0, 0.5), (0.0, 2.0)])
def test_silence_at_the_ends_goes_and_columns_say_how_much(heard, by, before_s, after_s):
    speech_T = s.spoken_T(0, 3.0)
    noise_T = np.random.default_rng(1).normal(size=int((3 + before_s + after_s) * RATE_HZ)) * 1e-4
    noise_T[int(before_s * RATE_HZ) :][: speech_T.size] += speech_T
    (done,) = TrimSilence(by=by).process([heard(noise_T)])
    columns = done.columns
    assert columns["trimmed_start_s"] == pytest.approx(before_s, abs=0.45)  # the first word has its own pause
    assert columns["trimmed_end_s"] == pytest.approx(after_s, abs=0.45)
    kept_T, _ = read_sound(done.parts["flac"])
    assert kept_T.size == round(columns["duration_s"] * RATE_HZ)
    assert columns["duration_s"] + columns["trimmed_start_s"] + columns["trimmed_end_s"] == pytest.approx(
        3 + before_s + after_s
    )
    start = round(columns["trimmed_start_s"] * RATE_HZ)
    np.testing.assert_allclose(kept_T, noise_T[start : start + kept_T.size], atol=1 / 32768)


@pytest.mark.parametrize("margin_s", [0.0, 0.1, 0.25])
def test_the_margin_is_kept_around_a_tone(heard, margin_s):
    wave_T = np.concatenate([np.zeros(RATE_HZ), s.sweep_T(RATE_HZ, RATE_HZ), np.zeros(RATE_HZ)])
    (done,) = TrimSilence(margin_s=margin_s).process([heard(wave_T)])
    assert done.columns["trimmed_start_s"] == pytest.approx(1 - margin_s, abs=0.021)
    assert done.columns["trimmed_end_s"] == pytest.approx(1 - margin_s, abs=0.021)


def test_a_sound_without_silence_keeps_its_bytes(heard):
    sample = heard(s.sweep_T(RATE_HZ, RATE_HZ))
    before = dict(sample.parts)
    (done,) = TrimSilence().process([sample])
    assert done.parts == before
    assert (done.columns["trimmed_start_s"], done.columns["trimmed_end_s"]) == (0, 0)


@pytest.mark.parametrize("by", ["energy", "speech"])
@pytest.mark.parametrize("wave_T", [np.zeros(8000), np.full(8000, 1e-4)], ids=["silence", "nearly"])
def test_silence_as_a_whole_is_dropped(heard, by, wave_T):
    (done,) = TrimSilence(by=by).process([heard(wave_T)])
    assert done.reason is Reason.SILENT
    assert not done.parts
