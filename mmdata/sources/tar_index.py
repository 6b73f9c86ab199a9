"""Where the files in a tar lie, from its headers alone: USTAR, GNU and PAX, as WebDataset writers have used them all.

`tarfile` is not used: it ends in silence at a damaged header. `shards/tar.py` reads only what mmdata itself writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from mmdata.errors import SourceError

_BLOCK = 512
_NAME_BYTES = 1 << 20  # a longer PAX header or GNU name is damage
_REGULAR = b"0\x007"
_LINKS = b"123456"  # hard and symbolic links, devices, folders, pipes


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of a tar. is_file: False for links, devices and folders, which are never followed."""

    name: str
    offset: int
    size: int
    is_file: bool


def entries(file: BinaryIO, path: str) -> Iterator[Entry]:
    """Members of a tar in order. Raises SourceError where it is damaged or cut, between members too."""
    end = file.seek(0, 2)
    offset = 0
    longer: dict[str, str] = {}  # name and size that an extended header gives to the next member
    while True:
        file.seek(offset)
        header = file.read(_BLOCK)
        if len(header) < _BLOCK:
            raise SourceError(f"{path}: damaged tar: cut at byte {end}, the end of the archive is missing")
        if not header.strip(b"\0"):
            _check_end(file, path, offset)
            return
        size, kind = _size_and_kind(header, path, offset)
        if "size" in longer and kind in _REGULAR:
            size = int(longer["size"])
        data = offset + _BLOCK
        offset = data + size + (-size % _BLOCK)
        if offset > end:
            raise SourceError(f"{path}: damaged tar: cut inside {longer.get('path') or _name(header)!r}")
        if kind in b"xLgK":
            if size > _NAME_BYTES:
                raise SourceError(f"{path}: damaged tar: a header of {size} bytes at byte {data}")
            content = file.read(size)
            if kind == b"x":
                longer |= _pax(content, path, data)
            elif kind == b"L":
                longer["path"] = content.rstrip(b"\0").decode("utf-8", "replace")
            continue
        if kind not in _REGULAR and kind not in _LINKS:
            raise SourceError(f"{path}: {_name(header)!r} is a tar member of unknown kind {kind!r}")
        name = longer.get("path") or _name(header)
        longer = {}
        if kind != b"5" and not name.endswith("/"):
            yield Entry(name, data, size, kind in _REGULAR)


def _size_and_kind(header: bytes, path: str, offset: int) -> tuple[int, bytes]:
    try:
        checksum = int(header[148:156].strip(b" \0"), 8)
        if header[124] & 0x80:  # GNU's form for sizes from 8 GiB
            size = int.from_bytes(header[125:136], "big")
        else:
            size = int(header[124:136].strip(b" \0") or b"0", 8)
    except ValueError:
        raise SourceError(f"{path}: damaged tar: no header at byte {offset}") from None
    if checksum != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise SourceError(f"{path}: damaged tar: wrong checksum at byte {offset}")
    kind = header[156:157]
    # Links and folders have no content, whatever their size field says.
    return (0 if kind in b"12345" else size), kind


def _name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return (prefix + b"/" + name if prefix else name).decode("utf-8", "replace")


def _pax(content: bytes, path: str, offset: int) -> dict[str, str]:
    """`path` and `size` of an extended header, whose records are `length key=value`."""
    records: dict[str, str] = {}
    place = 0
    try:
        while place < len(content) and content[place]:
            length = int(content[place : content.index(b" ", place)])
            key, equals, value = content[content.index(b" ", place) + 1 : place + length - 1].partition(b"=")
            if length <= 0 or not equals:
                raise ValueError
            if key in (b"path", b"size"):
                records[key.decode()] = value.decode("utf-8", "replace")
            place += length
        int(records.get("size", "0"))
    except ValueError:
        raise SourceError(f"{path}: damaged tar: bad extended header at byte {offset}") from None
    return records


def _check_end(file: BinaryIO, path: str, offset: int) -> None:
    """Behind the end there are only zeros; anything else would be samples that nobody sees."""
    while block := file.read(1 << 16):
        if block.strip(b"\0"):
            raise SourceError(f"{path}: damaged tar: more data after its end at byte {offset} (two tars in one file?)")
