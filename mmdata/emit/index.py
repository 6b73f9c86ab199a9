"""The index of one shard: where every sample lies in it, and what a packing plan needs to know about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from mmdata.emit.records import text_tokens
from mmdata.emit.rows import WindowRows

_PART = pa.struct([("part", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("parts", pa.list_(_PART)),  # bytes in the tar, in its order; null where no tar is written
        ("row_group", pa.int32()),  # in the Parquet shard; null where none is written
        ("row", pa.int32()),  # within the row group
        ("text_tokens", pa.int32()),  # words of the caption, see records.text_tokens
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("duration_s", pa.float64()),
        ("source", pa.string()),
        ("raw_sha256", pa.string()),
    ]
)


def index_table(
    rows: WindowRows,
    keys: Sequence[str],
    tar_places: Sequence[Mapping[str, tuple[int, int]]] | None,
    parquet_places: Sequence[tuple[int, int]] | None,
) -> pa.Table:
    """One row a sample, in the order of the shard. tar_places: by part, offset and size of its bytes."""
    num_rows = len(keys)
    parts = None
    if tar_places is not None:
        parts = [
            [{"part": part, "offset": offset, "size": size} for part, (offset, size) in places.items()]
            for places in tar_places
        ]
    ready: dict[str, Any] = {
        "key": list(keys),
        "parts": parts,
        "row_group": [group for group, _ in parquet_places] if parquet_places is not None else None,
        "row": [row for _, row in parquet_places] if parquet_places is not None else None,
        "text_tokens": [text_tokens(caption or "") for caption in rows.rows["caption"].to_pylist()],
    }
    arrays = []
    for field in SCHEMA:
        if ready.get(field.name) is not None:
            arrays.append(pa.array(ready[field.name], field.type))
        elif field.name not in ready and field.name in rows.rows.column_names:
            arrays.append(rows.rows[field.name].cast(field.type))
        else:
            arrays.append(pa.nulls(num_rows, field.type))
    return pa.table(arrays, schema=SCHEMA)
