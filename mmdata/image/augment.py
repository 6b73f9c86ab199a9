"""Copies of rare pictures that differ: cut, mirrored, in other colours. Shapes: H height, W width.

One function over the parts of a sample, as mmdata/augment.py describes; everything random comes from the copy's key.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdata.augment import ImageAugment, rng_of
from mmdata.image.read import read_srgb
from mmdata.media.write import DEFAULT_QUALITY, write
from mmdata.sample import IMAGE_PARTS

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def augment(parts: dict[str, bytes], columns: dict[str, Any], key: str, options: ImageAugment) -> dict[str, bytes]:
    """The parts with another picture; width_px and height_px of `columns` become those of the copy.

    Raises SampleError where the picture cannot be read.
    """
    varied = dict(parts)
    for part in IMAGE_PARTS:
        if part in parts:
            image_HWC = vary(read_srgb(parts[part]), options, rng_of(key, "image"))
            varied[part] = write(image_HWC, part, DEFAULT_QUALITY[part])
            columns["height_px"], columns["width_px"] = image_HWC.shape[:2]
    return varied


def vary(image_HWC: NDArray[np.uint8], options: ImageAugment, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A cut, mirrored and recoloured copy of uint8 sRGB. What is drawn does not depend on the size of the picture."""
    cut, down, across, flip, *changes = rng.random(7)
    height_px, width_px = image_HWC.shape[:2]
    kept_height_px = max(1, round(height_px * (1 - options.crop * cut)))
    kept_width_px = max(1, round(width_px * (1 - options.crop * cut)))
    top, left = round((height_px - kept_height_px) * down), round((width_px - kept_width_px) * across)
    image_HWC = image_HWC[top : top + kept_height_px, left : left + kept_width_px]
    if flip < options.flip:
        image_HWC = image_HWC[:, ::-1]
    if options.colour:
        brightness, contrast, saturation = (1 + options.colour * (2 * float(change) - 1) for change in changes)
        image_HWC = _recoloured(image_HWC, brightness, contrast, saturation)
    return np.ascontiguousarray(image_HWC)


def _recoloured(
    image_HWC: NDArray[np.uint8], brightness: float, contrast: float, saturation: float
) -> NDArray[np.uint8]:
    """Values times brightness, distances from the mean grey times contrast, from each pixel's grey times saturation."""
    pixels_HWC = image_HWC.astype(np.float32) * np.float32(brightness)
    grey_HW1 = (pixels_HWC @ _LUMA)[:, :, None]
    mean = np.float32(grey_HW1.mean(dtype=np.float64))
    pixels_HWC = grey_HW1 + (pixels_HWC - grey_HW1) * np.float32(saturation)
    pixels_HWC = mean + (pixels_HWC - mean) * np.float32(contrast)
    return np.clip(np.rint(pixels_HWC), 0, 255).astype(np.uint8)
