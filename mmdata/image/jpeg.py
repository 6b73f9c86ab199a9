"""JPEG: header, decoding at a reduced scale, and removal of metadata without touching the pixels.

All decoding is libjpeg-turbo's through simplejpeg, whose warnings are errors here: libjpeg fills what is missing with
grey and only warns. Shapes: H height, W width, C channels.
"""

from __future__ import annotations

import io
import re
import struct
from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mmdata.errors import Reason, SampleError
from mmdata.image.header import MAX_ICC_BYTES, Header, exif_orientation

Pixels = NDArray[np.uint8]

EIGHTHS = (1, 2, 4, 8)  # the scales with fast inverse transforms; 3, 5, 6 and 7 eighths cost more than a full decode

_EOI, _SOS, _COM = 0xD9, 0xDA, 0xFE
_CODED = 0x00  # no marker: what follows a scan header
_BARE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # baseline, extended, progressive; with Huffman or arithmetic coding
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}
_APP0, _APP1, _APP2, _APP14, _APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
_COLOURS = {1: "GRAY", 3: "RGB", 4: "CMYK"}
_NEXT_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])", re.DOTALL)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment from the first after SOI on; coded data comes as a segment of its own.

    Raises SampleError(TRUNCATED) where the bytes end before EOI, SampleError(CORRUPT) where no marker stands.
    """
    at = 2
    while True:
        start = at
        if data[at : at + 1] != b"\xff":
            if at >= len(data):
                raise SampleError(Reason.TRUNCATED, "JPEG ends before its end marker")
            raise SampleError(Reason.CORRUPT, f"JPEG has no marker at byte {at}")
        while data[at : at + 1] == b"\xff":
            at += 1
        if at + 3 > len(data) and data[at : at + 1] != b"\xd9":
            raise SampleError(Reason.TRUNCATED, "JPEG ends inside a marker")
        marker = data[at]
        at += 1
        if marker == _EOI:
            yield marker, start, at
            return
        if marker in _BARE:
            continue
        (length,) = struct.unpack_from(">H", data, at)
        at += length
        if length < 2 or at > len(data):
            reason = Reason.CORRUPT if length < 2 else Reason.TRUNCATED
            raise SampleError(reason, f"JPEG segment {marker:#x} of {length} bytes at byte {start}")
        yield marker, start, at
        if marker == _SOS:
            found = _NEXT_MARKER.search(data, at)
            if found is None:
                raise SampleError(Reason.TRUNCATED, "JPEG ends before its end marker")
            yield _CODED, at, found.start()
            at = found.start()


def read_header(data: bytes) -> Header:
    """Header of a JPEG. Raises SampleError(CORRUPT, TRUNCATED, or UNSUPPORTED for 12 bits, lossless, hierarchical)."""
    width = height = channels = 0
    orientation, icc = 1, dict[int, bytes]()
    for marker, start, end in _segments(data):
        if marker in (_SOS, _EOI):
            break
        body = data[start + 4 : end]
        if marker in _OTHER_FRAMES:
            raise SampleError(Reason.UNSUPPORTED, f"JPEG frame type {marker - 0xC0}")
        if marker in _FRAMES:
            if len(body) < 6:
                raise SampleError(Reason.CORRUPT, "JPEG frame header is too short")
            bits, height, width, channels = struct.unpack_from(">BHHB", body)
            if bits != 8 or channels not in _COLOURS:
                raise SampleError(Reason.UNSUPPORTED, f"JPEG of {bits} bits and {channels} components")
        elif marker == _APP1 and body.startswith(b"Exif\x00\x00") and orientation == 1:
            orientation = exif_orientation(body[6:])
        elif marker == _APP2 and body.startswith(b"ICC_PROFILE\x00") and len(body) > 14:
            icc[body[12]] = body[14:]
    if not width or not height:
        raise SampleError(Reason.CORRUPT, "JPEG without a frame size")
    profile = b"".join(icc[number] for number in sorted(icc))
    return Header("jpg", width, height, channels, orientation, profile if len(profile) <= MAX_ICC_BYTES else b"")


def scale_for(header: Header, width_px: int, height_px: int) -> int:
    """Least number of eighths at which the decoded picture is not smaller than the target, both as stored."""
    for eighths in EIGHTHS:
        if header.width_px * eighths >= width_px * 8 and header.height_px * eighths >= height_px * 8:
            return eighths
    return 8


def decode(data: bytes, header: Header, eighths: int = 8) -> Pixels:
    """Pixels (ceil(height * eighths / 8), ceil(width * eighths / 8), C) uint8: C 1 grey, 3 RGB, 4 CMYK (255: no ink).

    Raises SampleError(TRUNCATED or CORRUPT) for whatever libjpeg-turbo complains of.
    """
    import simplejpeg

    def pixels(strict: bool) -> Pixels:
        decoded: Pixels = simplejpeg.decode_jpeg(
            data,
            _COLOURS[header.channels],
            fastupsample=eighths < 8,  # at reduced scales chroma needs little or none, and is resampled anyway
            min_height=-(-header.height_px * eighths // 8),
            min_width=-(-header.width_px * eighths // 8),
            strict=strict,
        )
        return decoded

    try:
        return pixels(strict=True)
    except ValueError as error:
        message = str(error)
    # Bytes left over between the last block and the end marker harm nothing; many encoders pad there.
    if "extraneous bytes before marker 0xd9" in message:
        try:
            return pixels(strict=False)
        except ValueError as error:
            message = str(error)
    if "determine subsampling" in message:
        return _decode_rare(data, header, eighths)
    if "Premature end" in message:
        raise SampleError(Reason.TRUNCATED, message)
    deque(_segments(data), maxlen=0)  # raises where the bytes end early, which libjpeg may have met as something else
    raise SampleError(Reason.CORRUPT, message)


def _decode_rare(data: bytes, header: Header, eighths: int) -> Pixels:
    """The same through Pillow, for chroma sampling that TurboJPEG has no name for (some CMYK, 4:1:0, odd cameras)."""
    from PIL import Image

    deque(_segments(data), maxlen=0)  # Pillow does not miss an end marker
    Image.MAX_IMAGE_PIXELS = None  # the header has been checked against max_megapixels
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            pixels = np.asarray(picture.reduce(8 // eighths))
    except (OSError, SyntaxError, ValueError) as error:
        raise SampleError(Reason.TRUNCATED if "truncated" in str(error) else Reason.CORRUPT, str(error)) from None
    if header.channels == 4:
        pixels = 255 - pixels  # Pillow counts ink
    return pixels.reshape(*pixels.shape[:2], header.channels)


def strip(data: bytes) -> bytes:
    """The same picture without EXIF, XMP, comments, thumbnails and trailing bytes; the ICC profile stays.

    Every pixel decodes as before. The orientation goes with the EXIF: only for pictures that stand upright.
    """
    parts = [data[:2]]
    for marker, start, end in _segments(data):
        body = data[start + 4 : start + 18]
        if marker == _APP0 and body.startswith(b"JFIF\x00") and len(body) >= 12:
            # Version, density, and no thumbnail.
            parts.append(b"\xff\xe0\x00\x10" + body[:12] + b"\x00\x00")
        elif marker == _APP2 and body.startswith(b"ICC_PROFILE\x00"):
            parts.append(data[start:end])
        elif marker == _APP14 and body.startswith(b"Adobe"):
            parts.append(b"\xff\xee\x00\x0e" + data[start + 4 : start + 16])
        elif not (_APP0 <= marker <= _APP15 or marker == _COM):
            parts.append(data[start:end])
    return b"".join(parts)
