"""Colour: everything becomes 8-bit sRGB. Shapes: H height, W width, C channels."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_SPACES = {1: (b"GRAY", "L"), 3: (b"RGB ", "RGB"), 4: (b"CMYK", "CMYK")}


def to_srgb(image_HWC: Pixels, icc: bytes) -> Pixels:
    """uint8 (H, W, 3) sRGB from C = 1 grey, 3 RGB or 4 CMYK (255: no ink).

    icc: the picture's own profile. One that is broken, or for another number of channels, is ignored as browsers do.
    """
    channels = image_HWC.shape[2]
    transform = _transform(icc, channels) if icc else None
    if transform is not None:
        # Profiles mean ink by 255 where JPEG means paper.
        return _apply(transform, 255 - image_HWC if channels == 4 else image_HWC)
    if channels == 4:
        import cv2

        rgb = [cv2.multiply(image_HWC[:, :, c], image_HWC[:, :, 3], scale=1 / 255) for c in range(3)]
        return np.asarray(cv2.merge(rgb), dtype=np.uint8)
    if channels == 1:
        return np.repeat(image_HWC, 3, axis=2)
    return image_HWC


def _apply(transform: Any, image_HWC: Pixels) -> Pixels:
    from PIL import Image, ImageCms

    mode = _SPACES[image_HWC.shape[2]][1]
    height, width, _ = image_HWC.shape
    source = Image.frombytes(mode, (width, height), image_HWC.tobytes())
    return np.asarray(ImageCms.applyTransform(source, transform))


@functools.lru_cache(maxsize=32)  # most pictures of a shard share a few profiles
def _transform(icc: bytes, channels: int) -> Any:
    """Transform from the profile to sRGB; None where it would change next to nothing, or cannot be made."""
    from PIL import ImageCms

    space, mode = _SPACES[channels]
    if icc[16:20] != space:
        return None
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(icc)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if channels == 3:
        steps = np.arange(0, 256, 51, dtype=np.uint8)
        probe_HWC = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        if np.abs(_apply(transform, probe_HWC).astype(int) - probe_HWC).max() <= 2:
            return None  # the profile is sRGB under one of its many names
    return transform
