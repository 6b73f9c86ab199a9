"""Reading: bytes of any readable kind to a header, and to pixels. Shapes: H height, W width, C channels."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmdata.errors import Reason, SampleError
from mmdata.image import gif, jpeg, png, webp
from mmdata.image.colour import to_srgb
from mmdata.image.header import Header
from mmdata.image.magic import readable_kind

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]

_HEADERS: dict[str, Callable[[bytes], Header]] = {
    "jpg": jpeg.read_header,
    "png": png.read_header,
    "webp": webp.read_header,
    "gif": gif.read_header,
}
# What Pillow is known to raise on damaged files besides OSError.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, struct.error, OverflowError)


def read_header(data: bytes) -> Header:
    """Header by magic bytes. Raises SampleError(TYPE_MISMATCH, UNSUPPORTED, CORRUPT or TRUNCATED)."""
    return _HEADERS[readable_kind(data)](data)


def read_pixels(data: bytes, header: Header, eighths: int = 8) -> Pixels:
    """Pixels as stored, uint8 (H, W, C), C = 1 grey, 3 RGB or 4 CMYK; transparency over white, first frame.

    eighths: the scale; only JPEG can be below 8. Raises SampleError(CORRUPT or TRUNCATED).
    """
    if header.kind == "jpg":
        return jpeg.decode(data, header, eighths)
    if header.kind == "png":
        data = png.strip(data, png.PIXELS)  # no text, no profile: nothing left for Pillow to unpack but pixels
    return _read_with_pillow(data, header)


def read_srgb(data: bytes) -> Pixels:
    """A whole stored picture as uint8 (H, W, 3) sRGB: what a loader sees of an image part. Raises SampleError."""
    header = read_header(data)
    return to_srgb(read_pixels(data, header), header.icc)


def _read_with_pillow(data: bytes, header: Header) -> Pixels:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # the header has been checked against max_megapixels; 89 MP is not our limit
    try:
        with Image.open(io.BytesIO(data), formats=(header.kind.upper(),)) as picture:
            if picture.size != (header.width_px, header.height_px):
                raise SampleError(Reason.CORRUPT, f"header says {header.width_px} x {header.height_px}, {picture.size}")
            picture.load()
            return _flatten(picture)
    except _DAMAGE as error:
        reason = Reason.TRUNCATED if "truncated" in str(error).lower() else Reason.CORRUPT
        raise SampleError(reason, f"{header.kind}: {error}") from None


def _flatten(picture: Image.Image) -> Pixels:
    """uint8 (H, W, C), C = 1 or 3, of any mode that PNG, WebP and GIF have."""
    from PIL import Image

    if picture.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it at 255
        grey_HW = np.asarray(picture).astype(np.uint16)
        hidden = picture.info.get("transparency")
        shown_HW = (grey_HW >> 8).astype(np.uint8)
        if isinstance(hidden, int):
            shown_HW[grey_HW == hidden] = 255
        return shown_HW[:, :, None]
    if picture.has_transparency_data:
        over = picture.convert("RGBA")
        white = Image.new("RGB", picture.size, (255, 255, 255))
        white.paste(over, mask=over.getchannel("A"))
        return np.asarray(white)
    if picture.mode in ("1", "L"):
        return np.asarray(picture.convert("L"))[:, :, None]
    return np.asarray(picture.convert("RGB"))
