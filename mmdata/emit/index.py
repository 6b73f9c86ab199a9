"""The index of one shard: where every sample lies in it, and what a packing plan needs to know about it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from mmdata.emit.records import text_tokens
from mmdata.emit.shard import Shard

_PART = pa.struct([("part", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("parts", pa.list_(_PART)),  # bytes in the tar, in its order; null where no tar is written
        ("row_group", pa.int32()),  # in the Parquet shard; null where none is written
        ("row", pa.int32()),  # within the row group
        # Tokens by the stage `tokenise`; without it, words (records.text_tokens); of a document, words of all messages.
        ("text_tokens", pa.int32()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("duration_s", pa.float64()),
        ("source", pa.string()),
        ("raw_sha256", pa.string()),
    ]
)

# After those. The hash of a picture, by which `dedup: {by: phash, against: DATASET}` compares, of copies that of the
# sample itself; null where the pipeline has no stage hash_image.
PICTURE = pa.schema([("phash", pa.uint64())])
# Of everything else: null where it is not known or the modality has none.
MORE = pa.schema(
    [
        ("language", pa.string()),
        ("num_images", pa.int32()),  # of a document: its parts
        ("num_frames", pa.int32()),  # of a video: its parts 000.jpg, ...; where there are none, of the clip
        ("num_mel_frames", pa.int32()),
        ("sample_rate_hz", pa.int32()),
    ]
)


def schema_of(modality: str) -> pa.Schema:
    """Schema of the index files of a modality; columns that rules of selection added come after it."""
    return pa.schema([*SCHEMA, *(PICTURE if modality == "image_text" else MORE)])


def index_table(
    shard: Shard,
    tar_places: Sequence[Mapping[str, tuple[int, int]]] | None,
    parquet_places: Sequence[tuple[int, int]] | None,
) -> pa.Table:
    """One row a sample, in the order of the shard. tar_places: by part, offset and size of its bytes."""
    num_rows = len(shard)
    ready: dict[str, Any] = {
        "key": list(shard.keys),
        "parts": _parts(tar_places) if tar_places is not None else None,
        "row_group": [group for group, _ in parquet_places] if parquet_places is not None else None,
        "row": [row for _, row in parquet_places] if parquet_places is not None else None,
        "text_tokens": _text_tokens(shard),
    }
    for media in shard.layout.media:
        count = len(media.parts_of(shard.parts))
        if media.feature == "Image" and media.many and (count or shard.layout.is_document):
            ready["num_frames" if media.column == "frames" else "num_images"] = [count] * num_rows
    schema = schema_of(shard.layout.modality)
    arrays: list[Any] = []
    for field in schema:
        if field.name not in ready:
            arrays.append(shard.column(field.name, field.type))
        elif ready[field.name] is None:
            arrays.append(pa.nulls(num_rows, field.type))
        elif isinstance(ready[field.name], pa.Array):
            arrays.append(ready[field.name])
        else:
            arrays.append(pa.array(ready[field.name], field.type))
    table = pa.table(arrays, schema=schema)
    for name in shard.rows.added:
        table = table.append_column(name, shard.rows.scores[name])
    return table


def _parts(tar_places: Sequence[Mapping[str, tuple[int, int]]]) -> pa.Array:
    """The places as lists of _PART, put together column by column: a dict a part would cost more than its header."""
    spans = [span for places in tar_places for span in places.values()]
    columns = [
        pa.array([part for places in tar_places for part in places], pa.string()),
        pa.array([offset for offset, _ in spans], pa.int64()),
        pa.array([size for _, size in spans], pa.int64()),
    ]
    ends = list(itertools.accumulate((len(places) for places in tar_places), initial=0))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.StructArray.from_arrays(columns, fields=list(_PART)))


def _text_tokens(shard: Shard) -> list[int]:
    if "text_tokens" in shard.annotations and not shard.layout.is_document:
        counted = shard.column("text_tokens", pa.int32()).to_pylist()
    else:
        counted = [None] * len(shard)
    return [text_tokens(shard.text(row)) if number is None else number for row, number in enumerate(counted)]
