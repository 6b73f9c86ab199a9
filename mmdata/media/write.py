"""Writing: orientation, crop and border, then bytes without any metadata. Shapes: H height, W width."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmdata.media.geometry import Geometry

Pixels = NDArray[np.uint8]

DEFAULT_QUALITY = {"jpg": 95, "webp": 95, "png": 6}


def turn_upright(image_HWC: Pixels, orientation: int) -> Pixels:
    """The picture as EXIF orientation 1 to 8 wants it shown."""
    if orientation >= 5:
        image_HWC = image_HWC.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image_HWC = image_HWC[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image_HWC = image_HWC[::-1]
    return image_HWC


def crop_or_pad(image_HWC: Pixels, geometry: Geometry) -> Pixels:
    """The middle of the picture, or the picture in the middle of white, as uint8 (out_height, out_width, 3)."""
    top, left = max(0, geometry.top), max(0, geometry.left)
    image_HWC = image_HWC[top : top + geometry.out_height, left : left + geometry.out_width]
    height, width, _ = image_HWC.shape
    if (height, width) == (geometry.out_height, geometry.out_width):
        return image_HWC
    padded_HWC = np.full((geometry.out_height, geometry.out_width, 3), 255, np.uint8)
    top, left = max(0, -geometry.top), max(0, -geometry.left)
    padded_HWC[top : top + height, left : left + width] = image_HWC
    return padded_HWC


def write(image_HWC: Pixels, extension: str, quality: int) -> bytes:
    """Bytes of uint8 (H, W, 3) sRGB. quality: 1 to 100 for jpg (4:2:0) and webp, compression 0 to 9 for png."""
    image_HWC = np.ascontiguousarray(image_HWC)
    if extension == "jpg":
        import simplejpeg

        return bytes(simplejpeg.encode_jpeg(image_HWC, quality, "RGB", "420"))
    import cv2

    flag = cv2.IMWRITE_WEBP_QUALITY if extension == "webp" else cv2.IMWRITE_PNG_COMPRESSION
    _, encoded = cv2.imencode(f".{extension}", cv2.cvtColor(image_HWC, cv2.COLOR_RGB2BGR), [flag, quality])
    return encoded.tobytes()
