"""Where the samples of a shard lie: the rows of its index, quick to ask for one by one, and reading them from a tar."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
import pyarrow as pa

Part = tuple[str, int, int]  # name, offset, size


class Places:
    """The index of one shard. Plain lists and arrays: a scalar of Arrow costs more than reading a small sample."""

    def __init__(self, index: pa.Table) -> None:
        self.keys: list[str] = index["key"].to_pylist()
        self.sources: list[str | None] = index["source"].to_pylist() if "source" in index.column_names else []
        parts = _array(index["parts"])
        self.is_tar = len(parts) > 0 and parts.null_count == 0
        if self.is_tar:
            flat = parts.values
            self._bounds = parts.offsets.to_numpy()
            self._names: list[str] = flat.field("part").to_pylist()
            self._offsets, self._sizes = (flat.field(name).to_numpy() for name in ("offset", "size"))
        else:
            self.row_groups, self.rows = (_array(index[name]).fill_null(0).to_numpy() for name in ("row_group", "row"))

    def __len__(self) -> int:
        return len(self.keys)

    def parts(self, row: int) -> list[Part]:
        """Parts of a sample in a tar, in their order there."""
        here = slice(*self._bounds[row : row + 2].tolist())
        return list(zip(self._names[here], self._offsets[here].tolist(), self._sizes[here].tolist(), strict=True))


def read_parts(file: BinaryIO, parts: list[Part]) -> dict[str, bytes]:
    """Bytes of parts by name, read in one piece, as those of a sample stand together in the order given.

    Raises EOFError naming a part that is cut off.
    """
    if not parts:
        return {}
    begin, (_, last, length) = parts[0][1], parts[-1]
    file.seek(begin)
    data = file.read(last + length - begin)
    found = {}
    for name, offset, size in parts:
        found[name] = data[offset - begin : offset - begin + size]
        if len(found[name]) != size:
            raise EOFError(name)
    return found


def _array(column: pa.ChunkedArray) -> pa.Array:
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    return pa.concat_arrays(chunks) if chunks else pa.array([], column.type)


def row_order(places: Places, rng: np.random.Generator | None) -> list[int]:
    """Rows in the order they are read, shuffled by `rng`; one row group after the other, so that one is held."""
    if rng is None:
        return list(range(len(places)))
    shuffled: list[int] = rng.permutation(len(places)).tolist()
    if len(places) and not places.is_tar:
        turns = rng.permutation(1 + int(places.row_groups.max()))
        shuffled.sort(key=lambda row: int(turns[places.row_groups[row]]))
    return shuffled
