"""Sizes: what each resize mode makes of a picture. The five modes mean what they mean in img2dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

ResizeMode = Literal["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"]
MODES: tuple[str, ...] = get_args(ResizeMode)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Upright sizes in pixels: resized to width x height, then cropped or padded to out_width x out_height."""

    width: int
    height: int
    out_width: int
    out_height: int

    @property
    def left(self) -> int:
        """Columns to cut off on the left, or, below zero, to add."""
        return _offset(self.width, self.out_width)

    @property
    def top(self) -> int:
        """Rows to cut off at the top, or, below zero, to add."""
        return _offset(self.height, self.out_height)

    @property
    def num_pixels(self) -> int:
        return max(self.width * self.height, self.out_width * self.out_height)


def _offset(size: int, out: int) -> int:
    return (size - out) // 2 if size >= out else -((out - size) // 2)


def plan(width: int, height: int, mode: ResizeMode, side_px: int, only_if_bigger: bool) -> Geometry:
    """Geometry of an upright picture of width x height.

    keep_ratio and center_crop bring the shorter side to side_px, border and keep_ratio_largest the longer one. Sizes
    are rounded half to even, as Python's round and so img2dataset do, and are at least 1.
    """
    by_shorter = mode in ("keep_ratio", "center_crop")
    side = min(width, height) if by_shorter else max(width, height)
    if mode == "no" or (only_if_bigger and side <= side_px):
        return Geometry(width, height, width, height)
    scale = side_px / side
    resized = max(1, round(width * scale)), max(1, round(height * scale))
    if mode == "center_crop":
        return Geometry(*resized, side_px, side_px)
    if mode == "border":
        return Geometry(*resized, max(side_px, resized[0]), max(side_px, resized[1]))
    return Geometry(*resized, *resized)
