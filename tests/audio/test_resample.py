"""Another rate: exact lengths, and the same numbers whether a sound comes whole or in pieces."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.audio import resample
from mmdata.audio.resample import length_at, resampled, resampled_pieces
from tests.audio import sounds as s


@given(num_samples=st.integers(0, 10**9), rate_hz=st.integers(1, 10**6), to_hz=st.integers(1, 10**6))
def test_a_length_is_rounded_exactly(num_samples, rate_hz, to_hz):
    exact = Fraction(num_samples * to_hz, rate_hz)
    assert abs(length_at(num_samples, rate_hz, to_hz) - exact) <= Fraction(1, 2)


@settings(max_examples=40, deadline=None)
@given(
    num_samples=st.integers(1, 30_000),
    rate_hz=st.sampled_from([8000, 11_025, 22_050, 44_100, 48_000, 192_000, 12_345]),
    pieces=st.integers(1, 9),
    whole=st.sampled_from([1, 5000, 1 << 23]),
)
def test_pieces_give_the_numbers_of_the_whole(num_samples, rate_hz, pieces, whole):
    wave_T = np.random.default_rng(num_samples).normal(size=num_samples).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resample, "WHOLE_SAMPLES", whole)
        made = list(resampled_pieces(iter(np.array_split(wave_T, pieces)), rate_hz, 16_000))
    made_T = np.concatenate(made)
    assert made_T.size == length_at(num_samples, rate_hz, 16_000)
    np.testing.assert_allclose(made_T, resampled(wave_T, rate_hz, 16_000), atol=1e-6)


def test_the_same_rate_changes_nothing():
    wave_T = s.sweep_T(1000, 16_000).astype(np.float32)
    assert resampled(wave_T, 16_000, 16_000) is wave_T
    assert next(iter(resampled_pieces([wave_T], 16_000, 16_000))) is wave_T


def test_no_pieces_give_no_pieces():
    assert list(resampled_pieces([], 8000, 16_000)) == []


def test_what_lies_above_half_the_rate_is_gone():
    at_s = np.arange(48_000) / 48_000
    made_T = resampled(np.sin(2 * np.pi * 9500 * at_s).astype(np.float32), 48_000, 16_000)
    assert np.abs(made_T[500:-500]).max() < 1e-4
