"""Whether a sound file is whole, by its own words: decoders often give what is left of a cut file without complaint."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from mmdata.errors import Reason, SampleError

_STREAMED_SIZES = (0, 0x7FFFF000)  # a writer that could not go back wrote 0, or the largest size; so are all above
_OGG_HEAD, _OGG_LAST = 27, 4
_XING_FRAMES, _XING_BYTES = 1, 2
_XING_WITHIN = 256  # bytes of the first frame that may come before its tag
_PCM_FORMATS = {1, 3, 0xFFFE}


def require_complete(data: bytes, demuxer: str) -> None:
    """Raise SampleError(decode.truncated) where a WAV, Ogg or MP3 says that it is longer than its bytes."""
    check = {"wav": _require_wav, "ogg": _require_ogg, "mp3": _require_mp3}.get(demuxer)
    if check is not None:
        check(data)


def is_streamed(data: bytes, demuxer: str) -> bool:
    """True where the header leaves the length open in a way that libsndfile takes for nothing at all."""
    if demuxer == "flac":
        return _flac_samples(data) == 0
    if demuxer == "wav":
        return any(name == b"data" and size == 0 and place < len(data) for name, place, size in _chunks(data))
    return False


def claimed_samples(data: bytes, demuxer: str) -> int | None:
    """Samples of one channel as the header says them: of a FLAC, and of a WAV whose coding fills up its last block."""
    if demuxer == "flac":
        return _flac_samples(data) or None
    if demuxer != "wav":
        return None
    coding = samples = None
    for name, place, size in _chunks(data):
        if name == b"fmt " and size >= 2:
            (coding,) = struct.unpack_from("<H", data.ljust(place + 2, b"\0"), place)
        elif name == b"fact" and size >= 4 and place + 4 <= len(data):
            (samples,) = struct.unpack_from("<I", data, place)
    return samples or None if coding is not None and coding not in _PCM_FORMATS else None


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, place, size as its header says) of the chunks of a RIFF file up to its sound data."""
    order = ">" if data[:4] == b"RIFX" else "<"
    place = 12
    while place + 8 <= len(data):
        name, size = struct.unpack_from(f"{order}4sI", data, place)
        yield name, place + 8, size
        if name == b"data":
            return
        place += 8 + size + size % 2


def _require_wav(data: bytes) -> None:
    chunks = list(_chunks(data))
    if not chunks or chunks[-1][0] != b"data":
        raise SampleError(Reason.TRUNCATED, "a WAV without sound data")
    _, place, size = chunks[-1]
    is_open = size == _STREAMED_SIZES[0] or size >= _STREAMED_SIZES[1]
    if not is_open and place + size > len(data):
        raise SampleError(Reason.TRUNCATED, f"{len(data) - place} of {size} bytes of sound are there")


def _require_ogg(data: bytes) -> None:
    """The last page must be whole, and be marked as the last."""
    place = data.rfind(b"OggS")
    head = data[place : place + _OGG_HEAD]
    whole = len(head) == _OGG_HEAD
    if whole:
        sizes = data[place + _OGG_HEAD : place + _OGG_HEAD + head[26]]
        whole = len(sizes) == head[26] and place + _OGG_HEAD + len(sizes) + sum(sizes) <= len(data)
    if not whole or not head[5] & _OGG_LAST:
        raise SampleError(Reason.TRUNCATED, "its last page is missing")


def _require_mp3(data: bytes) -> None:
    """The tag that most encoders put into the first frame counts the bytes of all frames."""
    start = data.find(b"\xff", _behind_id3(data))
    place = max(data.find(name, start, start + _XING_WITHIN) for name in (b"Xing", b"Info")) if start >= 0 else -1
    if place < 0 or place + 16 > len(data):
        return
    flags, first, second = struct.unpack_from(">III", data, place + 4)
    if not flags & _XING_BYTES:
        return
    size = second if flags & _XING_FRAMES else first
    if start + size > len(data):
        raise SampleError(Reason.TRUNCATED, f"{len(data) - start} of {size} bytes of sound are there")


def _behind_id3(data: bytes) -> int:
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _flac_samples(data: bytes) -> int:
    """The 36 bits of the stream information; 0 where the encoder did not know."""
    place = data.find(b"fLaC", 0, 1 << 16) if data[:3] != b"ID3" else data.find(b"fLaC", _behind_id3(data))
    return int.from_bytes(data[place + 21 : place + 26], "big") & (1 << 36) - 1 if place >= 0 else 0
