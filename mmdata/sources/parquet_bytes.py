"""Parquet files with the media's bytes in a column: plain binary, or Hugging Face's struct of bytes and path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import annotated_types as at
import pyarrow as pa

from mmdata.errors import SourceError
from mmdata.options import operational, semantic
from mmdata.sources import inputs as files
from mmdata.sources.columns import layout, to_batch
from mmdata.sources.parquet_rows import media_column, open_parquet, read_parquet
from mmdata.sources.rows import InputFile, OneMedium

_ROLES = ("caption", "sha256", "language")


@dataclass(frozen=True, kw_only=True)
class ParquetBytes:
    """Rows whose media lies in the Parquet file itself; listing them does not read that column."""

    kind: ClassVar[str] = "parquet_bytes"
    version: ClassVar[int] = 1

    path: Annotated[str, at.Len(1)] = operational()
    # Role -> column. Without media, it is the only column of binary or of {bytes, path}.
    columns: dict[Literal["media", "caption", "sha256", "language"], str] = semantic(factory=dict)
    modality: OneMedium = semantic("image_text")
    limit: Annotated[int, at.Ge(1)] | None = semantic(None)

    @property
    def media_column(self) -> str:
        """The column that MediaReader must be told; "" where it finds it by type."""
        return self.columns.get("media", "")

    def inputs(self) -> list[InputFile]:
        found = files.find(self.path, (".parquet", ".pq"))
        for file in found:
            # Unpacking the whole file for each few rows that a worker wants would cost more than the file.
            if file.path.lower().endswith(files.COMPRESSED):
                raise SourceError(f"{file.path}: a compressed file cannot be read in places; unpack it first")
        return files.input_files(found, self.path)

    def batches(self, input: InputFile) -> Iterator[Any]:
        with open_parquet(input.path) as parquet:
            skip = media_column(parquet.schema_arrow, self.media_column, input.path)
        wanted = {role: name for role, name in self.columns.items() if role != "media"}
        place = None
        row = 0
        for block in read_parquet(input.path, skip=(skip,)):
            place = place or layout(block.names, wanted, _ROLES, input.path)
            fixed = {
                "media_path": pa.array([input.path] * block.num_rows, pa.string()),
                "media_row": pa.array(range(row, row + block.num_rows), pa.int64()),
            }
            yield to_batch(block, place, row, input.path, fixed)
            row += block.num_rows
