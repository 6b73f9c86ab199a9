"""Bytes of rows that lie in storage: a tar member, a whole file, a row of Parquet."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa

from mmdata.errors import Reason, SampleError, SourceError, StorageError
from mmdata.shards import storage
from mmdata.sources.decompress import open_seekable
from mmdata.sources.inputs import unreadable
from mmdata.sources.parquet_rows import media_column, open_parquet, rows_at_once

_OPEN_FILES = 4
# Places in these are places in the content: the whole is unpacked into a temporary file when the first is read.
COMPRESSED_TARS = (".tar.gz", ".tgz")


@dataclass(frozen=True, slots=True)
class MediaPlace:
    """Where a row's bytes lie: `media_path`, `media_offset`, `media_size`, `media_row` of its batch."""

    path: str
    offset: int | None = None
    size: int | None = None
    row: int | None = None


class MediaReader:
    """Reads media; keeps a few files open and of a Parquet file about BATCH_BYTES, so sorted rows cost one pass.

    column: of Parquet, "" to find it by its type. max_bytes: a larger one is SampleError(TOO_LARGE).
    """

    def __init__(self, column: str = "", max_bytes: int | None = None) -> None:
        self._column = column
        self._max_bytes = max_bytes
        self._files: OrderedDict[str, tuple[contextlib.ExitStack, Any]] = OrderedDict()

    def __enter__(self) -> MediaReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        while self._files:
            self._files.popitem()[1][0].close()

    def read(self, place: MediaPlace) -> bytes:
        """The bytes. Raises SampleError: STORAGE for what is missing or cut, EMPTY, TOO_LARGE."""
        self._check_size(place.size)
        try:
            with unreadable(place.path):
                data = self._read(place)
        except (SourceError, StorageError) as error:
            self._drop(place.path)
            raise SampleError(Reason.STORAGE, str(error)) from error
        if not data:
            raise SampleError(Reason.EMPTY, "no bytes in storage")
        self._check_size(len(data))
        return data

    def read_many(self, places: Iterable[MediaPlace]) -> Iterator[tuple[int, bytes | SampleError]]:
        """Position in `places` and bytes of each, in the order in which they lie in storage."""
        ordered = sorted(enumerate(places), key=lambda item: (item[1].path, item[1].row or 0, item[1].offset or 0))
        for index, place in ordered:
            try:
                yield index, self.read(place)
            except SampleError as error:
                yield index, error

    def _read(self, place: MediaPlace) -> bytes | None:
        if place.row is not None:
            table: _ParquetColumn = self._opened(place.path, is_parquet=True)
            return table.read(place.row)
        if place.offset is None or place.size is None:
            raise SourceError(f"{place.path}: neither a byte range nor a row is given")
        if storage.is_remote(place.path) and not place.path.lower().endswith(COMPRESSED_TARS):
            fs, inner = storage.filesystem(place.path)
            data: bytes = fs.cat_file(inner, start=place.offset, end=place.offset + place.size) if place.size else b""
        else:
            file: BinaryIO = self._opened(place.path, is_parquet=False)
            file.seek(place.offset)
            data = file.read(place.size)
        if len(data) != place.size:
            raise SourceError(f"{place.path}: wanted {place.size} bytes at {place.offset}, found {len(data)}")
        return data

    def _opened(self, path: str, *, is_parquet: bool) -> Any:
        if path in self._files:
            self._files.move_to_end(path)
            return self._files[path][1]
        with contextlib.ExitStack() as stack:
            if is_parquet:
                opened: Any = _ParquetColumn(stack.enter_context(open_parquet(path)), self._column, path)
            elif path.lower().endswith(COMPRESSED_TARS):
                opened = stack.enter_context(open_seekable(path))
            else:
                opened = stack.enter_context(storage.open_input(path))
            self._files[path] = (stack.pop_all(), opened)
        if len(self._files) > _OPEN_FILES:
            self._files.popitem(last=False)[1][0].close()
        return opened

    def _drop(self, path: str) -> None:
        """Forget a file that failed: it may be whole again when it is tried next."""
        if path in self._files:
            self._files.pop(path)[0].close()

    def _check_size(self, size: int | None) -> None:
        if size is not None and self._max_bytes is not None and size > self._max_bytes:
            raise SampleError(Reason.TOO_LARGE, f"{size} bytes, allowed are {self._max_bytes}")


class _ParquetColumn:
    """One column of bytes, read forward in pieces; going back reads its row group again."""

    def __init__(self, parquet: Any, column: str, path: str) -> None:
        self._parquet = parquet
        self._path = path
        name = media_column(parquet.schema_arrow, column, path)
        is_struct = pa.types.is_struct(parquet.schema_arrow.field(name).type)
        self._leaf = f"{name}.bytes" if is_struct else name
        self._rows_at_once = rows_at_once(parquet, (name,))
        sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
        self._starts = [sum(sizes[:group]) for group in range(len(sizes) + 1)]
        self._group = -1
        self._pieces: Iterator[Any] = iter(())
        self._piece: Any = None
        self._first = 0  # row of the file that the piece begins with

    def read(self, row: int) -> bytes | None:
        """The bytes in a row of the file, or None where they are null."""
        if not 0 <= row < self._starts[-1]:
            raise SourceError(f"{self._path}: wanted row {row}, found {self._starts[-1]} rows")
        group = next(group for group, end in enumerate(self._starts[1:]) if row < end)
        if group != self._group or row < self._first:
            self._group, self._piece, self._first = group, None, self._starts[group]
            self._pieces = self._parquet.iter_batches(self._rows_at_once, row_groups=[group], columns=[self._leaf])
        while self._piece is None or row >= self._first + len(self._piece):
            self._first += 0 if self._piece is None else len(self._piece)
            column = next(self._pieces).column(0)
            self._piece = column.field("bytes") if pa.types.is_struct(column.type) else column
        data: bytes | None = self._piece[row - self._first].as_py()
        return data
