"""Sizes: as img2dataset's in all five modes, and as Pillow reads them from headers."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.image.read import read_header
from mmdata.media.geometry import MODES, plan
from tests.image import pictures as p


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries that img2dataset calls
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("only_if_bigger", [False, True])
def test_sizes_are_those_of_img2dataset(decode, mode, only_if_bigger):
    resizer_of = pytest.importorskip("img2dataset.resizer")
    resizer = resizer_of.Resizer(64, mode, only_if_bigger)
    rng = np.random.default_rng(3)
    sizes = [*rng.integers(20, 200, (25, 2)).tolist(), [64, 64], [63, 65], [64, 100], [128, 37], [33, 64]]
    for width, height in sizes:
        data = p.encode(np.zeros((height, width, 3), np.uint8))
        _, *want, error = resizer(io.BytesIO(data))
        sample = decode(data, side_px=64, resize=mode, resize_only_if_bigger=only_if_bigger)
        columns = ("width_px", "height_px", "original_width_px", "original_height_px")
        assert error is None
        assert [sample.columns[name] for name in columns] == want
        assert p.load(sample.parts["jpg"]).size == tuple(want[:2])


def test_the_border_is_white_and_the_picture_in_its_middle(decode):
    sample = decode(p.encode(np.zeros((40, 100, 3), np.uint8), "PNG"), resize="border", side_px=50, format="png")
    shown = p.rgb(sample.parts["png"])
    assert (shown[:15] == 255).all()
    assert (shown[15:35] == 0).all()
    assert (shown[35:] == 255).all()


def test_the_crop_is_the_middle(decode):
    image = np.zeros((50, 150, 3), np.uint8)
    image[:, 50:100] = 255
    assert (
        p.rgb(decode(p.encode(image, "PNG"), resize="center_crop", side_px=50, format="png").parts["png"]) == 255
    ).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["JPEG", "PNG", "WEBP", "GIF"]), st.booleans())
def test_header_sizes_are_those_that_pillow_reads(width, height, kind, fancy):
    options = {"JPEG": {"progressive": fancy}, "WEBP": {"lossless": fancy, "method": 0}}.get(kind, {})
    image = np.zeros((height, width, 4 if fancy and kind in ("PNG", "WEBP") else 3), np.uint8)
    data = p.encode(image, kind, **options)
    header = read_header(data)
    assert (header.width_px, header.height_px) == p.load(data).size
    assert header.upright_size == (width, height)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 120), st.sampled_from(["JPEG", "PNG"]))
def test_any_size_comes_out_as_planned_and_flat_stays_flat(decode, width, height, side, kind):
    data = p.encode(np.full((height, width, 3), (90, 120, 150), np.uint8), kind)
    sample = decode(data, side_px=side, format="png")
    geometry = plan(width, height, "keep_ratio", side, False)
    shown = p.rgb(sample.parts["png"])
    assert shown.shape == (geometry.height, geometry.width, 3)
    assert np.abs(shown.astype(int) - (90, 120, 150)).max() <= 3
