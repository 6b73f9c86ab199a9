"""Rows of Parquet files, with every column in its own Arrow type, a piece of a row group at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmdata.errors import SourceError
from mmdata.sources.decompress import open_seekable
from mmdata.sources.rows import BATCH_BYTES, BATCH_ROWS, Block, unique_names

_BUFFER_BYTES = 1 << 20


@contextlib.contextmanager
def open_parquet(path: str) -> Iterator[Any]:
    """The file as pyarrow's ParquetFile. Raises SourceError where it is none."""
    with open_seekable(path) as file:
        try:
            # Without buffers set, Arrow takes a row group's columns into memory whole.
            parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        except pa.ArrowException as error:
            raise SourceError(f"{path}: is no Parquet file, or is cut: {error}") from error
        with parquet:
            yield parquet


def read_parquet(path: str, skip: Collection[str] = ()) -> Iterator[Block]:
    """Blocks of a Parquet file, without the columns in `skip`, whose bytes are not read. Raises SourceError."""
    with open_parquet(path) as parquet:
        wanted = [name for name in parquet.schema_arrow.names if name not in skip]
        if not wanted:
            for start in range(0, parquet.metadata.num_rows, BATCH_ROWS):
                yield Block((), [], min(BATCH_ROWS, parquet.metadata.num_rows - start), {})
            return
        names = unique_names(wanted)
        for batch in parquet.iter_batches(rows_at_once(parquet, wanted), columns=wanted if skip else None):
            yield Block(names, batch.columns, batch.num_rows, {})


def rows_at_once(parquet: Any, names: Collection[str]) -> int:
    """How many rows of these columns are about BATCH_BYTES, by the largest row group; at most BATCH_ROWS."""
    largest = 1
    for group in range(parquet.num_row_groups):
        info = parquet.metadata.row_group(group)
        columns = (info.column(place) for place in range(info.num_columns))
        size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] in names)
        largest = max(largest, size // max(1, info.num_rows))
    return max(1, min(BATCH_ROWS, BATCH_BYTES // largest))


def media_column(schema: Any, wanted: str, where: str) -> str:
    """Name of the column with embedded bytes: `wanted`, or where that is "" the only one. Raises SourceError."""
    fitting = [str(field.name) for field in schema if _holds_bytes(field.type)]
    if wanted:
        if wanted in fitting:
            return wanted
        found = f"found {schema.field(wanted).type}" if wanted in schema.names else "no such column"
        raise SourceError(
            f"{where}: column {wanted!r} (columns.media): {found}; columns with bytes: {', '.join(fitting) or 'none'}"
        )
    if len(fitting) != 1:
        raise SourceError(
            f"{where}: columns with bytes: {', '.join(fitting) or 'none'}; "
            + ("say which with columns: {media: NAME}" if fitting else f"found: {', '.join(schema.names)}")
        )
    return fitting[0]


def _holds_bytes(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))
