"""What augmentation promises: drawn from the sample alone, within its strength, and nothing where it is off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.train import augment
from mmdata.train.augment import AugmentOptions, rng_of
from tests.builders import picture_HWC

OFF = AugmentOptions()
PICTURE = picture_HWC(1, 40, 30)


def test_nothing_changes_where_everything_is_off() -> None:
    wave_T = np.linspace(-1, 1, 500, dtype=np.float32)
    mel_MN = np.arange(80 * 50, dtype=np.float32).reshape(80, 50)
    for seed in range(5):
        np.testing.assert_array_equal(augment.picture(OFF, PICTURE, rng_of(seed)), PICTURE)
        np.testing.assert_array_equal(augment.sound(OFF, wave_T, rng_of(seed)), wave_T)
        np.testing.assert_array_equal(augment.spectrogram(OFF, mel_MN, rng_of(seed)), mel_MN)
        assert augment.kept_frames(OFF, 6, rng_of(seed)) == list(range(6))


@pytest.mark.parametrize("options", [{"crop": 0.3}, {"flip": 1.0}, {"rotate_deg": 20.0}, {"colour": 0.4}])
def test_pictures_vary_by_the_key_and_by_nothing_else(options: dict[str, Any]) -> None:
    made = AugmentOptions(**options)
    found = [augment.picture(made, PICTURE, rng_of(3, 0, key)) for key in ("a", "a", "b")]
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0].dtype == np.uint8
    assert found[0].shape != PICTURE.shape or not np.array_equal(found[0], PICTURE)
    if "flip" not in options:
        assert found[0].shape != found[2].shape or not np.array_equal(found[0], found[2])


def test_a_flip_mirrors_and_frames_of_a_video_are_varied_alike() -> None:
    np.testing.assert_array_equal(augment.picture(AugmentOptions(flip=1.0), PICTURE, rng_of(0)), PICTURE[:, ::-1])
    made = AugmentOptions(crop=0.4, flip=0.5)
    big = picture_HWC(2, 40, 30)
    for seed in range(4):
        first, second = (augment.picture(made, frame, rng_of(seed)) for frame in (PICTURE, big))
        assert first.shape == second.shape


@settings(max_examples=40, deadline=None)
@given(crop=st.floats(0, 1), width=st.integers(1, 60), height=st.integers(1, 60), seed=st.integers(0, 9))
def test_a_crop_keeps_at_least_its_share_of_each_side(crop: float, width: int, height: int, seed: int) -> None:
    found = augment.picture(AugmentOptions(crop=crop), picture_HWC(0, width, height), rng_of(seed))
    assert max(1, round(height * (1 - crop)) - 1) <= found.shape[0] <= height
    assert max(1, round(width * (1 - crop)) - 1) <= found.shape[1] <= width


def test_shares_are_probabilities() -> None:
    flipped = sum(
        not np.array_equal(augment.picture(AugmentOptions(flip=0.3), PICTURE, rng_of(seed)), PICTURE)
        for seed in range(400)
    )
    assert flipped / 400 == pytest.approx(0.3, abs=0.07)
    dropped = [len(augment.kept_frames(AugmentOptions(frame_drop=0.25), 8, rng_of(seed))) for seed in range(200)]
    assert np.mean(dropped) / 8 == pytest.approx(0.75, abs=0.04)
    assert all(len(augment.kept_frames(AugmentOptions(frame_drop=1.0), 5, rng_of(seed))) == 1 for seed in range(5))


def test_noise_is_as_far_below_the_sound_as_asked() -> None:
    wave_T = np.sin(np.arange(16_000) / 10).astype(np.float32)
    noise_T = augment.sound(AugmentOptions(noise_db=20.0), wave_T, rng_of(1)) - wave_T
    ratio_db = 10 * np.log10(np.mean(wave_T**2) / np.mean(noise_T**2))
    assert ratio_db == pytest.approx(20, abs=0.3)


@settings(max_examples=8, deadline=None)
@given(stretch=st.floats(0.01, 0.3), seed=st.integers(0, 50))
def test_a_stretched_sound_is_never_longer_than_the_plan_was_told(stretch: float, seed: int) -> None:
    made = AugmentOptions(stretch=stretch)
    wave_T = np.sin(np.arange(8_000) / 10).astype(np.float32)
    found = augment.sound(made, wave_T, rng_of(seed))
    assert len(wave_T) / (1 + stretch) - 1 <= len(found) <= augment.longest_s(made, len(wave_T)) + 1


def test_spec_augment_masks_bands_and_frames_with_the_mean() -> None:
    mel_MN = np.random.default_rng(0).standard_normal((80, 300)).astype(np.float32)
    made = AugmentOptions(spec_masks=2, spec_mask_frames=40, spec_mask_bands=10)
    found = [augment.spectrogram(made, mel_MN, rng_of(seed)) for seed in range(20)]
    for masked in found:
        changed = masked != mel_MN
        bands, frames = changed.all(axis=1).sum(), changed.all(axis=0).sum()
        assert bands <= 20
        assert frames <= 80
        assert np.unique(masked[changed]).size <= 4
    assert any((masked != mel_MN).any() for masked in found)
