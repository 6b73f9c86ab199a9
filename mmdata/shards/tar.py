"""Tar shards: USTAR, uncompressed, the same bytes for the same samples; one reader that refuses damage.

The header is written by hand: `tarfile` takes twice the time per member, and its stream reader ends silently where a
tar is cut between members. The reader here takes only headers that the writer would write, and checks the two zero
blocks at the end; tars of others are read by sources/tar_index.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from mmdata.errors import ShardError

BLOCK_BYTES = 512
_NAME_BYTES = 100
_SIZE_LIMIT_BYTES = 8**11
_END = bytes(2 * BLOCK_BYTES)
_OWNER = b"mmdata"
_ZEROS = bytes(BLOCK_BYTES)
# A header is its name, then the size, then its checksum, with these between and after them.
_MODE_UID_GID = b"0000444\0" + b"0000000\0" * 2
_MTIME = b"\0" + b"00000000000\0"  # 0: the same bytes at any time
_REST = b"0" + bytes(100) + b"ustar\x0000" + _OWNER.ljust(32, b"\0") * 2 + b"0000000\0" * 2 + bytes(167)
_CHECKSUM = sum(_MODE_UID_GID) + sum(_MTIME) + 8 * ord(" ") + sum(_REST)
_JOINED_BYTES = 64 << 10  # what is larger is written by itself instead of being copied once more


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a tar: sample key, part, and where its bytes lie."""

    key: str
    part: str
    offset: int
    size: int


class TarWriter:
    """Writes samples into a tar and hashes it on the way; `close` writes the end and returns bytes and sha256."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def add(self, key: str, parts: Mapping[str, bytes]) -> dict[str, tuple[int, int]]:
        """Append one sample, its parts sorted by extension; returns offset and size of each part's bytes."""
        places: dict[str, tuple[int, int]] = {}
        pieces: list[bytes] = []
        end = self.size_bytes
        for part in sorted(parts):
            data = parts[part]
            size = len(data)
            pieces += (_header(f"{key}.{part}", size), data, _ZEROS[: -size % BLOCK_BYTES])
            places[part] = (end + BLOCK_BYTES, size)
            end += BLOCK_BYTES + size + -size % BLOCK_BYTES
        # Nothing is written before every header is known to be good.
        small: list[bytes] = []
        for piece in pieces:
            if len(piece) > _JOINED_BYTES:
                self._write(b"".join(small))
                self._write(piece)
                small.clear()
            else:
                small.append(piece)
        self._write(b"".join(small))
        return places

    def close(self) -> tuple[int, str]:
        """Write the end of the archive; returns its size in bytes and its hex sha256. The file stays open."""
        self._write(_END)
        return self.size_bytes, self._sha256.hexdigest()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self.size_bytes += len(data)


def _header(name: str, size: int) -> bytes:
    if not name.isascii():
        raise ShardError(f"{name!a}: a tar member name may have ASCII only")
    encoded = name.encode("ascii")
    if len(encoded) > _NAME_BYTES:
        raise ShardError(f"{name}: {len(encoded)} bytes, a tar member name may have {_NAME_BYTES}")
    if size >= _SIZE_LIMIT_BYTES:
        raise ShardError(f"{name}: {size} bytes, a tar member may have {_SIZE_LIMIT_BYTES - 1}")
    digits = b"%011o" % size
    checksum = b"%06o\0 " % (_CHECKSUM + sum(encoded) + sum(digits))
    return b"".join((encoded.ljust(_NAME_BYTES, b"\0"), _MODE_UID_GID, digits, _MTIME, checksum, _REST))


def members(file: BinaryIO, name: str) -> Iterator[Member]:
    """Members of a tar in order, without their bytes; `name` is for messages.

    Raises ShardError where a header is damaged, bytes are missing, the end is missing or bytes follow it.
    """
    size_bytes = file.seek(0, 2)
    offset = 0
    while True:
        file.seek(offset)
        header = file.read(BLOCK_BYTES)
        if header == _END[:BLOCK_BYTES]:
            break
        if len(header) < BLOCK_BYTES:
            raise ShardError(f"{name}: cut at byte {size_bytes}: the end of the archive is missing")
        member = _parse(header, offset, name)
        offset = member.offset + member.size + (-member.size % BLOCK_BYTES)
        if offset > size_bytes:
            raise ShardError(f"{name}: cut inside {member.key}.{member.part}")
        yield member
    file.seek(offset)
    rest = file.read()
    if len(rest) < len(_END) or rest.strip(b"\0"):
        raise ShardError(f"{name}: damaged after its last member at byte {offset}")


def _parse(header: bytes, offset: int, name: str) -> Member:
    """The member of a header that is, to the last bit, as `_header` writes it."""
    try:
        member_name = header[:_NAME_BYTES].rstrip(b"\0").decode("ascii")
        size = int(header[124:135], 8)
        intact = size >= 0 and header == _header(member_name, size)
    except ValueError:
        intact = False
    if not intact:
        raise ShardError(f"{name}: damaged tar header at byte {offset}")
    key, _, part = member_name.partition(".")
    return Member(key, part, offset + BLOCK_BYTES, size)


def read_samples(file: BinaryIO, name: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and parts of every sample of a tar, in order. Raises ShardError as `members` does, and for doubled parts."""
    key, parts = "", dict[str, bytes]()
    for member in members(file, name):
        if member.key != key:
            if parts:
                yield key, parts
            key, parts = member.key, {}
        if member.part in parts:
            raise ShardError(f"{name}: {member.key}.{member.part} is there twice")
        file.seek(member.offset)
        parts[member.part] = file.read(member.size)
    if parts:
        yield key, parts
