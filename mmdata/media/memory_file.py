"""Anonymous memory files: what a program needs a path for never lies in a folder, so a crash leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def memory_file(data: bytes = b"") -> Iterator[str]:
    """Path under /proc of a memory file that holds `data`; this process and those it starts can open it.

    Gone with the block, however it ends. Child processes inherit the descriptor where they are started without
    `close_fds`. Raises MemoryError where the limit on file size does not allow that much.
    """
    descriptor = os.memfd_create("media", 0)  # without MFD_CLOEXEC: FFmpeg takes it over by its number
    try:
        try:
            _write(descriptor, data)
        except OSError as error:
            raise MemoryError(f"a memory file of {len(data)} bytes: {error.strerror}") from None
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)


def descriptor_of(path: str) -> int:
    """The file descriptor behind a path that memory_file gave."""
    return int(path.rpartition("/")[2])


def read_back(path: str) -> bytes:
    """All that a program has written into the memory file."""
    descriptor = descriptor_of(path)
    size = os.fstat(descriptor).st_size
    pieces = []
    offset = 0
    while offset < size and (piece := os.pread(descriptor, size - offset, offset)):
        pieces.append(piece)
        offset += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
