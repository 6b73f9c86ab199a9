"""A Parquet shard that Hugging Face `datasets` decodes by itself: its features stand in the schema's metadata."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmdata.emit.rows import WindowRows

ROW_GROUP_BYTES = 64 << 20  # of media; what a reader of one row group holds
ROW_GROUP_ROWS = 10_000

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_CONTENT = pa.struct([("type", pa.string()), ("text", pa.string())])
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.list_(_CONTENT))]))
# Column and its place in the ledger.
_COLUMNS = (
    ("url", pa.string(), "url"),
    ("source", pa.string(), "source"),
    ("language", pa.string(), "language"),
    ("width_px", pa.int32(), "width_px"),
    ("height_px", pa.int32(), "height_px"),
    ("original_width_px", pa.int32(), "original_width_px"),
    ("original_height_px", pa.int32(), "original_height_px"),
    ("sha256", pa.string(), "raw_sha256"),
)


def schema_of(scores: pa.Schema) -> pa.Schema:
    """Schema of the shards of image_text; scores: number and text columns, written as double, integer or string."""
    fields = [pa.field("image", _IMAGE), pa.field("caption", pa.string()), pa.field("key", pa.string())]
    fields += [pa.field(name, kind) for name, kind, _ in _COLUMNS]
    fields += [pa.field(field.name, _stored(field.type)) for field in scores]
    fields += [pa.field("extra", pa.string()), pa.field("messages", _MESSAGES)]
    features = {field.name: _feature(field.type) for field in fields}
    features["image"] = {"_type": "Image"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(fields, metadata=metadata)


class ParquetShardWriter:
    """Writes samples of one shard into row groups of bounded size; tells where each one went."""

    def __init__(self, sink: Any, rows: WindowRows, keys: Sequence[str], extra: Sequence[str]) -> None:
        schema = schema_of(pa.schema(list(rows.scores.schema)[1:]))
        self._schema = schema
        self._keys = keys
        self._table = _columns_of(rows, keys, extra, schema)
        plain = [name for name in schema.names if name != "image"]
        self._writer = pq.ParquetWriter(
            sink,
            schema,
            # Pictures are compressed already, and each is there once.
            compression={"image.bytes": "NONE", "image.path": "ZSTD", **dict.fromkeys(_leaves(schema), "ZSTD")},
            use_dictionary=[name for name in ("source", "language") if name in plain],
            write_statistics=[name for name in plain if name not in ("messages", "extra", "caption")],
        )
        self._images: list[dict[str, Any]] = []
        self._bytes = 0
        self._written = 0
        self._row_group = 0
        self.places: list[tuple[int, int]] = []  # row group and row in it, of each sample so far

    def add(self, image: bytes, extension: str) -> None:
        """The picture of the next sample."""
        full = self._bytes + len(image) > ROW_GROUP_BYTES or len(self._images) >= ROW_GROUP_ROWS
        if self._images and full:
            self._flush()
        key = self._keys[self._written + len(self._images)]
        self.places.append((self._row_group, len(self._images)))
        self._images.append({"bytes": image, "path": f"{key}.{extension}"})
        self._bytes += len(image)

    def close(self) -> None:
        """Write what is left and the end of the file."""
        if self._images:
            self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Let go of the file after an error, while it is still open; nothing happens after `close`."""
        with contextlib.suppress(OSError, ValueError):
            self._writer.close()

    def _flush(self) -> None:
        rows = self._table.slice(self._written, len(self._images))
        images = pa.array(self._images, _IMAGE)
        table = pa.table([images, *rows.columns], schema=self._schema)
        self._writer.write_table(table, row_group_size=len(self._images))
        self._written += len(self._images)
        self._images, self._bytes = [], 0
        self._row_group += 1


def _columns_of(rows: WindowRows, keys: Sequence[str], extra: Sequence[str], schema: pa.Schema) -> pa.Table:
    captions = [caption or "" for caption in rows.rows["caption"].to_pylist()]
    arrays: list[Any] = [pa.array(captions, pa.string()), pa.array(keys, pa.string())]
    for _, kind, place in _COLUMNS:
        has = place in rows.rows.column_names
        arrays.append(rows.rows[place].cast(kind) if has else pa.nulls(len(keys), kind))
    for field in list(rows.scores.schema)[1:]:
        values = rows.scores[field.name]
        arrays.append(values.cast(_stored(field.type)))
    arrays += [pa.array(extra, pa.string()), pa.array([_conversation(c) for c in captions], _MESSAGES)]
    return pa.table(arrays, schema=pa.schema(list(schema)[1:]))


def _conversation(caption: str) -> list[dict[str, Any]]:
    """The sample as a conversation: the picture (column `image`) is given, the caption is the answer."""
    return [
        {"role": "user", "content": [{"type": "image", "text": None}]},
        {"role": "assistant", "content": [{"type": "text", "text": caption}]},
    ]


def _stored(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_floating(kind):
        return pa.float64()
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return kind
    return pa.string()


def _feature(kind: pa.DataType) -> Any:
    """The type as `datasets` writes it; names of number types are the same in both."""
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


def _leaves(schema: pa.Schema) -> list[str]:
    """Names of the plain columns as Parquet knows them, without those of the picture."""
    content = "messages.list.element.content.list.element"
    plain = [name for name in schema.names if name not in ("image", "messages")]
    return [*plain, "messages.list.element.role", f"{content}.type", f"{content}.text"]
