"""Sizes: each resize mode keeps its promise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mmdata.media.geometry import plan

sides = st.integers(1, 3000)


@given(sides, sides, st.integers(1, 1024), st.booleans())
def test_each_mode_keeps_its_promise(width, height, side, only):
    kept = plan(width, height, "no", side, only)
    assert (kept.out_width, kept.out_height) == (width, height)
    for mode, measure in (("keep_ratio", min), ("keep_ratio_largest", max)):
        geometry = plan(width, height, mode, side, only)
        if only and measure(width, height) <= side:
            assert (geometry.out_width, geometry.out_height) == (width, height)
        else:
            assert measure(geometry.out_width, geometry.out_height) == side
            scale = side / measure(width, height)
            assert abs(geometry.width - max(1, width * scale)) <= 0.5 + 1e-6
            assert abs(geometry.height - max(1, height * scale)) <= 0.5 + 1e-6
    for mode in ("center_crop", "border"):
        geometry = plan(width, height, mode, side, False)
        assert (geometry.out_width, geometry.out_height) == (side, side)
