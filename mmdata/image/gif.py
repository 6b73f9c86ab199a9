"""GIF: header and check that its blocks are whole. It is never an output, so there is nothing to strip."""

from __future__ import annotations

import struct

from mmdata.errors import Reason, SampleError
from mmdata.image.header import Header

_TRAILER, _FRAME, _EXTENSION = 0x3B, 0x2C, 0x21


def read_header(data: bytes) -> Header:
    """Header of a GIF; the size covers the screen and the first frame. Raises SampleError(CORRUPT or TRUNCATED)."""
    try:
        return _walk(data)
    except (IndexError, struct.error):
        raise SampleError(Reason.TRUNCATED, "GIF ends before its trailer") from None


def _walk(data: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _palette_bytes(flags)
    num_frames = 0
    while (block := data[at]) != _TRAILER:
        if block == _EXTENSION:
            at = _skip(data, at + 2)
        elif block == _FRAME:
            left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", data, at + 1)
            if not num_frames:
                width, height = max(width, left + frame_width), max(height, top + frame_height)
            num_frames += 1
            at = _skip(data, at + 11 + _palette_bytes(flags))
        else:
            raise SampleError(Reason.CORRUPT, f"GIF has no block at byte {at}")
    if not num_frames or not width or not height:
        raise SampleError(Reason.CORRUPT, "GIF without a frame")
    return Header("gif", width, height, is_animated=num_frames > 1)


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _skip(data: bytes, at: int) -> int:
    """Where the chain of sub-blocks that begins at `at` ends."""
    while length := data[at]:
        at += 1 + length
    return at + 1
