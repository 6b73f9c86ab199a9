"""Files of one attempt: written whole and durable in a folder of its own, hashed on the way; the driver publishes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mmdata.shards import storage
from mmdata.shards.commits import FileRecord

_BUFFER_BYTES = 1 << 20


class HashedFile(io.RawIOBase):
    """A binary file that is only written, from start to end, and hashed on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0
        self._known = ""

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size_bytes

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._sha256.update(data)
        self._file.write(data)
        self.size_bytes += len(data)
        return len(data)

    def unhashed(self) -> BinaryIO:
        """The file itself, for a writer that hashes what it writes; it tells with `trust`."""
        return self._file

    def trust(self, size_bytes: int, sha256: str) -> None:
        """Size and hash of what was written by way of `unhashed`."""
        self.size_bytes = size_bytes
        self._known = sha256

    @property
    def sha256(self) -> str:
        return self._known or self._sha256.hexdigest()


@contextlib.contextmanager
def scratch_for(root: str, folder: str) -> Iterator[Path]:
    """A local folder for what an attempt needs meanwhile, removed at the end.

    For a local root it lies beside the attempt's own, so that the next driver clears what a killed worker left.
    """
    beside = None
    if not storage.is_remote(root):
        beside = storage.local_path(storage.join(root, folder)).parent
    with storage.storage_errors(root):
        if beside is not None:
            beside.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(prefix="scratch-", dir=beside, ignore_cleanup_errors=True)
    with made as scratch:
        yield Path(scratch)


class AttemptFiles:
    """Writes the files of one attempt; `records` says what they are and where they wait to be published.

    root: run or dataset folder. folder: the attempt's own, relative to it. scratch: local folder of this attempt alone,
    where files of a remote root lie until they are uploaded.
    """

    def __init__(self, root: str, folder: str, scratch: Path) -> None:
        self._root = root
        self._folder = folder
        self._remote = storage.is_remote(root)
        self._scratch = scratch
        self.records: list[FileRecord] = []

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[HashedFile]:
        """A new file with the final path `path`, below the root; durable and recorded when the block ends well."""
        waiting = storage.join(self._folder, path)
        target = storage.join(self._root, waiting)
        local = self._scratch / path.replace("/", "+") if self._remote else storage.local_path(target)
        with storage.storage_errors(target):
            local.parent.mkdir(parents=True, exist_ok=True)
            with local.open("wb", buffering=_BUFFER_BYTES) as file:
                hashed = HashedFile(file)
                yield hashed
                storage.fsync_file(file)
        if self._remote:
            storage.upload(local, target)
        self.records.append(FileRecord(path, hashed.size_bytes, hashed.sha256, waiting))

    def put(self, path: str, data: bytes) -> None:
        """A small file, whole."""
        with self.open(path) as file:
            file.write(data)
