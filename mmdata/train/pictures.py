"""Pictures as an encoder takes them: decoded to RGB, then made a square.

Shape suffixes: H height, W width, C channels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import simplejpeg


def decode_HWC(part: str, data: bytes, side_px: int, out_HWC: np.ndarray | None = None) -> np.ndarray:
    """A picture as uint8 RGB [H, W, 3]; `out_HWC` itself where a JPEG is decoded to just its size.

    Raises ValueError where it is damaged.

    A larger JPEG is decoded at so many eighths of its size that it is never below side_px.
    """
    if part == "jpg":
        asked: dict[str, Any] = {"min_height": side_px, "min_width": side_px}
        if out_HWC is not None:
            with contextlib.suppress(ValueError):  # larger than out_HWC, or damaged, as the second try tells
                found = simplejpeg.decode_jpeg(data, buffer=out_HWC, **asked)
                return out_HWC if found.shape == out_HWC.shape else found.copy()
        decoded: np.ndarray = simplejpeg.decode_jpeg(data, **asked)
        return decoded
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if pixels is None:
        raise ValueError(f"not a {part} that can be decoded")
    return pixels[..., ::-1]


def fit_HWC(image_HWC: np.ndarray, side_px: int, fit: str, fill: Sequence[int] = (0, 0, 0)) -> np.ndarray:
    """The picture as uint8 [side_px, side_px, 3]: its middle (crop), all of it between bars (pad), or out of shape.

    fill: colour of the bars, 0 to 255.
    """
    height_px, width_px = image_HWC.shape[:2]
    if fit == "crop":
        edge_px = min(height_px, width_px)
        top, left = (height_px - edge_px) // 2, (width_px - edge_px) // 2
        return _resized(image_HWC[top : top + edge_px, left : left + edge_px], side_px, side_px)
    if fit == "squash":
        return _resized(image_HWC, side_px, side_px)
    scale = side_px / max(height_px, width_px)
    inner = _resized(image_HWC, max(1, round(height_px * scale)), max(1, round(width_px * scale)))
    bar_y, bar_x = side_px - inner.shape[0], side_px - inner.shape[1]
    if not bar_y and not bar_x:
        return inner
    top, left = bar_y // 2, bar_x // 2
    padded: np.ndarray = cv2.copyMakeBorder(
        inner, top, bar_y - top, left, bar_x - left, cv2.BORDER_CONSTANT, value=tuple(fill)
    )
    return padded


def _resized(image_HWC: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    if image_HWC.shape[:2] == (height_px, width_px):
        return np.ascontiguousarray(image_HWC)
    shrinks = image_HWC.shape[0] * image_HWC.shape[1] > height_px * width_px
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(image_HWC), (width_px, height_px), interpolation=interpolation)
