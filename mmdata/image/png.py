"""PNG: header, check of its chunks, and removal of metadata without touching the pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from mmdata.errors import Reason, SampleError
from mmdata.image.header import MAX_ICC_BYTES, Header, exif_orientation

PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
COLOURS = frozenset({b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT"})
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}  # by colour type


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, end) of each chunk up to IEND; start is at its length. Damaged ones without pixels are left out."""
    at = 8
    while True:
        if at + 12 > len(data):
            raise SampleError(Reason.TRUNCATED, "PNG ends before its IEND chunk")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise SampleError(Reason.TRUNCATED, f"PNG chunk {kind!r} of {length} bytes is cut")
        checksum = int.from_bytes(data[end - 4 : end], "big")
        is_whole = zlib.crc32(memoryview(data)[at + 4 : end - 4]) == checksum
        if not is_whole and kind in PIXELS:
            raise SampleError(Reason.CORRUPT, f"PNG chunk {kind!r} has a wrong checksum")
        if is_whole:
            yield kind, at, end
        if kind == b"IEND":
            return
        at = end


def read_header(data: bytes) -> Header:
    """Header of a PNG whose chunks are whole. Raises SampleError(CORRUPT or TRUNCATED)."""
    if data[12:16] != b"IHDR" and len(data) >= 16:
        raise SampleError(Reason.CORRUPT, "PNG does not begin with IHDR")
    orientation, icc, is_animated = 1, b"", False
    for kind, start, end in _chunks(data):
        body = memoryview(data)[start + 8 : end - 4]
        if kind == b"eXIf":
            orientation = exif_orientation(bytes(body))
        elif kind == b"iCCP":
            icc = _profile(bytes(body))
        elif kind == b"acTL":
            is_animated = True
    if int.from_bytes(data[8:12], "big") != 13:
        raise SampleError(Reason.CORRUPT, "PNG header has a wrong length")
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    if not 0 < width < 1 << 31 or not 0 < height < 1 << 31:
        raise SampleError(Reason.CORRUPT, f"PNG of {width} x {height} pixels")
    return Header("png", width, height, _CHANNELS.get(colour, 3), orientation, icc, is_animated)


def _profile(body: bytes) -> bytes:
    _, _, packed = body.partition(b"\x00")
    inflate = zlib.decompressobj()
    try:
        profile = inflate.decompress(packed[1:], MAX_ICC_BYTES)
    except zlib.error:
        return b""
    return profile if inflate.eof else b""


def strip(data: bytes, kept: frozenset[bytes] = PIXELS | COLOURS) -> bytes:
    """The same still picture with the chunks of `kept` only: no text, EXIF, time, animation or trailing bytes."""
    return data[:8] + b"".join(data[start:end] for kind, start, end in _chunks(data) if kind in kept)
