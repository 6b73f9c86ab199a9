"""WebP: header, check of its chunks, and removal of metadata without touching the pixels."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from mmdata.errors import Reason, SampleError
from mmdata.image.header import MAX_ICC_BYTES, Header, exif_orientation

_PIXELS = frozenset({b"VP8X", b"ICCP", b"ALPH", b"VP8 ", b"VP8L"})
_EXIF_FLAG, _XMP_FLAG = 0x08, 0x04


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, end) of each chunk; start is at its type, end includes padding. Trailing bytes are left out."""
    if len(data) < 20:
        raise SampleError(Reason.TRUNCATED, "WebP ends inside its header")
    whole = 8 + int.from_bytes(data[4:8], "little")
    if whole > len(data):
        raise SampleError(Reason.TRUNCATED, f"WebP has {len(data)} of {whole} bytes")
    at = 12
    while at + 8 <= whole:
        kind, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length
        if end > whole:
            raise SampleError(Reason.TRUNCATED, f"WebP chunk {kind!r} of {length} bytes is cut")
        yield kind, at, min(end + length % 2, whole)
        at = end + length % 2


def read_header(data: bytes) -> Header:
    """Header of a WebP whose chunks are whole. Raises SampleError(CORRUPT or TRUNCATED)."""
    size, orientation, icc, is_animated = (0, 0), 1, b"", False
    for kind, start, end in _chunks(data):
        body = data[start + 8 : end]
        if kind == b"VP8X" and len(body) >= 10:
            size = 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
        elif kind == b"VP8 " and size == (0, 0) and body[3:6] == b"\x9d\x01\x2a" and len(body) >= 10:
            size = int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
        elif kind == b"VP8L" and size == (0, 0) and body[:1] == b"\x2f" and len(body) >= 5:
            packed = int.from_bytes(body[1:5], "little")
            size = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
        elif kind == b"ICCP":
            icc = body if len(body) <= MAX_ICC_BYTES else b""
        elif kind == b"EXIF":
            orientation = exif_orientation(body.removeprefix(b"Exif\x00\x00"))
        elif kind == b"ANMF":
            is_animated = True
    if not size[0] or not size[1]:
        raise SampleError(Reason.CORRUPT, "WebP without a frame size")
    return Header("webp", *size, orientation=orientation, icc=icc, is_animated=is_animated)


def strip(data: bytes) -> bytes:
    """The same still picture without EXIF, XMP, unknown chunks and trailing bytes; the ICC profile stays."""
    parts = []
    for kind, start, end in _chunks(data):
        if kind not in _PIXELS:
            continue
        chunk = data[start:end]
        if kind == b"VP8X":
            chunk = chunk[:8] + bytes([chunk[8] & ~(_EXIF_FLAG | _XMP_FLAG)]) + chunk[9:]
        parts.append(chunk + b"\x00" * (len(chunk) % 2))
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body
