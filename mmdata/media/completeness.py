"""Whether a container is all there: how many bytes it says it has, against how many came.

Only what states its own length can tell: MP4 and QuickTime, Matroska, AVI, GIF. MPEG streams may end anywhere.
"""

from __future__ import annotations

_MOV_BOXES = frozenset(b"ftyp moov mdat free skip wide moof mfra uuid meta udta sidx styp pdin".split())
_SEGMENT = b"\x18\x53\x80\x67"
_UNKNOWN_RIFF = (0, 0xFFFFFFFF)


def missing_bytes(data: bytes, demuxer: str) -> int:
    """How many bytes at least were cut off; 0 where all are there, or where nobody can tell."""
    match demuxer:
        case "mov":
            return _missing_of_boxes(data)
        case "matroska":
            return _missing_of_segment(data)
        case "avi":
            return _missing_of_riff(data)
        case "gif":
            return 0 if data.rstrip(b"\0")[-1:] == b"\x3b" else 1
    return 0


def _missing_of_boxes(data: bytes) -> int:
    offset = 0
    while offset + 8 <= len(data) and data[offset + 4 : offset + 8] in _MOV_BOXES:
        size = int.from_bytes(data[offset : offset + 4], "big")
        if size == 1:
            size = int.from_bytes(data[offset + 8 : offset + 16], "big")
        if size == 0:  # up to the end
            return 0
        offset += max(size, 8)
    return max(0, offset - len(data))


def _missing_of_segment(data: bytes) -> int:
    start = data.find(_SEGMENT, 0, 4096)
    if start < 0:
        return 0
    start += len(_SEGMENT)
    first = data[start] if start < len(data) else 0
    length = 9 - first.bit_length()  # of the size field: leading zeros say how long it is
    if length > 8 or start + length > len(data):
        return 0
    bits = 7 * length
    size = int.from_bytes(data[start : start + length], "big") & ((1 << bits) - 1)
    if size == (1 << bits) - 1:  # all ones: not known when the header was written
        return 0
    return max(0, start + length + size - len(data))


def _missing_of_riff(data: bytes) -> int:
    offset = 0
    while data[offset : offset + 4] == b"RIFF":  # AVI goes on in a second one after a gigabyte
        size = int.from_bytes(data[offset + 4 : offset + 8], "little")
        if size in _UNKNOWN_RIFF:
            return 0
        offset += 8 + size + size % 2
        if size % 2 and offset == len(data) + 1:  # the byte that makes the size even is often left out
            return 0
    return max(0, offset - len(data))
