"""Varied copies of pictures: same key same bytes, sizes told, no option no change, limits kept."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmdata.augment import ImageAugment, rng_of
from mmdata.errors import Reason, SampleError
from mmdata.image.augment import augment, vary
from mmdata.media.write import write
from tests.builders import jpeg, picture_HWC

KEY = "pictures-000000000001-x02"
STILL = ImageAugment(crop=0, flip=0, colour=0)
FLIP = ImageAugment(crop=0, flip=1, colour=0)


def test_the_same_key_gives_the_same_bytes_and_another_key_others() -> None:
    options = ImageAugment(crop=0.3, flip=0.5, colour=0.3)
    made = [augment({"jpg": jpeg(1)}, {}, f"a-x{number:02d}", options)["jpg"] for number in (2, 2, 3)]
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_without_any_change_the_pixels_stay() -> None:
    picture = picture_HWC(3)
    assert np.array_equal(vary(picture, STILL, rng_of(KEY, "image")), picture)


def test_a_flip_is_a_mirror_and_only_that() -> None:
    picture = picture_HWC(3)
    assert np.array_equal(vary(picture, FLIP, rng_of(KEY, "image")), picture[:, ::-1])


@settings(max_examples=40, deadline=None)
@given(st.text("abc0123456789-x", min_size=1), st.floats(0, 0.5), st.integers(1, 60), st.integers(1, 60))
def test_a_crop_keeps_what_it_promises(key: str, crop: float, width: int, height: int) -> None:
    picture = np.arange(width * height * 3, dtype=np.uint32).astype(np.uint8).reshape(height, width, 3)
    varied = vary(picture, ImageAugment(crop=crop, colour=0), rng_of(key, "image"))
    assert round(height * (1 - crop)) <= varied.shape[0] <= height
    assert round(width * (1 - crop)) <= varied.shape[1] <= width
    assert any(
        np.array_equal(varied, picture[top : top + varied.shape[0], left : left + varied.shape[1]])
        for top in range(height - varied.shape[0] + 1)
        for left in range(width - varied.shape[1] + 1)
    )


def test_colours_change_by_no_more_than_was_asked_and_size_does_not() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    for number in range(50):
        varied = vary(grey, ImageAugment(crop=0, colour=0.2), rng_of(f"a-x{number:02d}", "image"))
        assert varied.shape == grey.shape
        assert 80 <= varied.min() <= varied.max() <= 120


@pytest.mark.parametrize("part", ["jpg", "png", "webp"])
def test_the_copy_has_the_same_format_and_its_size_is_told(part: str) -> None:
    columns: dict[str, Any] = {"width_px": 64, "height_px": 48, "caption": "x"}
    data = write(picture_HWC(1), part, 6 if part == "png" else 95)
    varied = augment({part: data}, columns, KEY, ImageAugment(crop=0.5))
    with Image.open(io.BytesIO(varied[part])) as picture:
        assert picture.format == {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[part]
        assert picture.size == (columns["width_px"], columns["height_px"]) != (64, 48)
    assert columns["caption"] == "x"


def test_other_parts_stay_and_a_broken_picture_is_a_sample_error() -> None:
    assert augment({"000.jpg": b"frame"}, {}, KEY, FLIP) == {"000.jpg": b"frame"}
    with pytest.raises(SampleError) as error:
        augment({"jpg": jpeg(1)[:50]}, {}, KEY, FLIP)
    assert error.value.reason in (Reason.TRUNCATED, Reason.CORRUPT)
