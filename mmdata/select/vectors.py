"""Embeddings that scorers left beside the ledgers, read shard by shard into one memory-mapped array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmdata.errors import ConfigError
from mmdata.select.tables import Columns, is_vector
from mmdata.shards import storage


class ScoreVectors:
    """Reads columns of embeddings of the shards' ledgers or scores."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def read(self, column: str, ids: NDArray[np.int64], path: Path) -> tuple[NDArray[np.bool_], NDArray[np.float16]]:
        """For ascending ids: which have a vector, and those as a memory map at `path`; float16 [n, width].

        Raises ConfigError for a column that holds no embeddings, or embeddings of several widths.
        """
        if not is_vector(self._columns.types[column]):
            raise ConfigError(f"{column}: found a column of {self._columns.types[column]}, allowed are embeddings")
        has = np.zeros(len(ids), bool)
        width = 0
        place, name = self._columns.places[column]
        with path.open("wb") as file:
            for chunk in self._columns.chunks:
                first = chunk.first
                for shard, rows in zip(chunk.shards, chunk.rows, strict=True):
                    start, end = np.searchsorted(ids, [first, first + rows])
                    here = ids[start:end] - first
                    first += rows
                    schema = chunk.schemas.get(place)
                    if not len(here) or schema is None or name not in schema.names:
                        continue
                    found = _column(shard.paths[place], name).take(pa.array(here))
                    valid = found.is_valid().to_numpy(zero_copy_only=False)
                    has[start:end] = valid
                    vectors = _matrix(found.filter(pa.array(valid)), column)
                    width = width or vectors.shape[1]
                    if len(vectors) and vectors.shape[1] != width:
                        raise ConfigError(f"{column}: found embeddings of {width} and of {vectors.shape[1]} numbers")
                    vectors.tofile(file)
        count = int(has.sum())
        if not count:
            return has, np.empty((0, 0), np.float16)
        return has, np.memmap(path, np.float16, "r", shape=(count, width))


def _column(path: str, name: str) -> pa.Array:
    with storage.open_input(path) as file:
        return pq.ParquetFile(file).read(columns=[name], use_threads=False)[name].combine_chunks()


def _matrix(found: pa.Array, column: str) -> NDArray[np.float16]:
    if pa.types.is_null(found.type) or not len(found):
        return np.empty((0, 0), np.float16)
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    values: NDArray[np.float16] = found.flatten().to_numpy(zero_copy_only=False).astype(np.float16, copy=False)
    if len(values) % len(found):
        raise ConfigError(f"{column}: found embeddings of different widths")
    return values.reshape(len(found), -1)
