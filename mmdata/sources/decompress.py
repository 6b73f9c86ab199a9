"""Opening a table as a stream of bytes, whether plain, gzip or Zstandard.

What counts is how the file begins, not its name. Arrow's decoder is used because it refuses a file that was cut, where
the Python binding of Zstandard ends in silence.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from mmdata.errors import SourceError
from mmdata.shards import storage
from mmdata.sources.inputs import unreadable

_BUFFER_BYTES = 1 << 18
LINE_BYTES = 64 << 20  # a longer line is cut into pieces, so that a file without line ends does not fill the memory


@contextlib.contextmanager
def open_stream(path: str) -> Iterator[BinaryIO]:
    """The decompressed content, to be read once from its start. Raises SourceError, also where it is cut or damaged."""
    with unreadable(path), storage.open_input(path) as file:
        codec = _codec(file)
        if codec is None:
            yield file if hasattr(file, "peek") else _buffered(file)
        else:
            stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), codec)
            with _buffered(stream) as reader:
                yield reader


@contextlib.contextmanager
def open_seekable(path: str) -> Iterator[BinaryIO]:
    """The decompressed content with seek; a compressed file is unpacked into a temporary one first."""
    with unreadable(path), storage.open_input(path) as file:
        if _codec(file) is None:
            yield file
            return
    with tempfile.TemporaryFile() as copy:
        with open_stream(path) as stream:
            shutil.copyfileobj(stream, copy, _BUFFER_BYTES)
        copy.seek(0)
        with unreadable(path):
            yield copy


def refuse_utf16(path: str, stream: BinaryIO, remedy: str) -> None:
    """Raise SourceError where the text begins with the mark of UTF-16; otherwise the stream stands where it stood."""
    head = stream.peek(2)[:2]  # type: ignore[attr-defined]
    if head in (b"\xff\xfe", b"\xfe\xff"):
        raise SourceError(f"{path}: is UTF-16; {remedy}")


def lines(stream: BinaryIO) -> Iterator[bytes]:
    """Lines of a stream without their end (LF or CRLF), bounded in memory."""
    rest = b""
    while block := stream.read(_BUFFER_BYTES):
        parts = (rest + block).split(b"\n")
        rest = parts.pop()
        for line in parts:
            yield line.removesuffix(b"\r")
        if len(rest) > LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest.removesuffix(b"\r")


def _buffered(file: Any) -> BinaryIO:
    return io.BufferedReader(file, _BUFFER_BYTES)


def _codec(file: BinaryIO) -> str | None:
    head = file.read(4)
    file.seek(0)
    if head[:3] == b"\x1f\x8b\x08":
        return "gzip"
    if head == b"\x28\xb5\x2f\xfd" or (head[1:] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F):
        return "zstd"
    return None
