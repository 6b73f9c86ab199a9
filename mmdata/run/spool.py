"""The spool of a shard: parts of finished samples on disk, until the tar is written from them in input order."""

from __future__ import annotations

import contextlib
from pathlib import Path

from mmdata.sample import Sample
from mmdata.shards.storage import storage_errors


class Spool:
    """Finished samples without their bytes, which lie in a file of `scratch`; StorageError where that is full."""

    def __init__(self, scratch: Path) -> None:
        self.finished: list[Sample] = []
        self._path = scratch / "spool"
        self._places: dict[str, dict[str, tuple[int, int]]] = {}
        self._end = 0

    def __enter__(self) -> Spool:
        with storage_errors(str(self._path)):
            self._file = self._path.open("w+b")
        return self

    def __exit__(self, *_: object) -> None:
        # What a full disk refused is flushed, and refused, again on closing: that has been said already.
        with contextlib.suppress(OSError):
            self._file.close()

    def keep(self, sample: Sample) -> None:
        """Write the sample's parts away and let go of them."""
        places = {}
        with storage_errors(str(self._path)):
            for part, data in sample.parts.items():
                self._file.write(data)
                places[part] = (self._end, len(data))
                self._end += len(data)
        self._places[sample.key] = places
        sample.columns["parts"] = " ".join(sorted(places))
        sample.parts.clear()
        self.finished.append(sample)

    def parts(self, key: str) -> dict[str, bytes]:
        """The parts of a sample that was kept."""
        parts = {}
        with storage_errors(str(self._path)):
            for part, (offset, size) in self._places[key].items():
                self._file.seek(offset)
                parts[part] = self._file.read(size)
        return parts
