"""What the header of a picture says before a pixel is decoded, and the orientation tag of EXIF."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_ORIENTATION_TAG = 0x0112
_SHORT = 3
MAX_ICC_BYTES = 4 << 20  # CMYK profiles have up to 2 MB


@dataclass(frozen=True, slots=True)
class Header:
    """Size and kind of a picture as stored, before EXIF orientation is applied.

    kind: jpg, png, webp or gif. channels: 1 grey, 3 RGB, 4 CMYK, as far as the header tells. orientation: 1 to 8 as in
    EXIF. icc: the colour profile, or nothing.
    """

    kind: str
    width_px: int
    height_px: int
    channels: int = 3
    orientation: int = 1
    icc: bytes = b""
    is_animated: bool = False

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) in pixels as a viewer shows it."""
        if self.orientation >= 5:
            return self.height_px, self.width_px
        return self.width_px, self.height_px


def exif_orientation(tiff: bytes) -> int:
    """Orientation, 1 to 8, of an EXIF block that begins at its TIFF header; 1 where it is absent or damaged."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for entry in range(min(count, 512)):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * entry)
            if tag == _ORIENTATION_TAG and kind == _SHORT:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
