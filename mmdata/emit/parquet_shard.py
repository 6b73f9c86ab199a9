"""A Parquet shard that Hugging Face `datasets` decodes by itself: its features stand in the schema's metadata.

Pictures, sound and clips are {bytes, path} with the features Image, Audio and Video; `frames`, and `images`, `videos`
and `audios` of documents are lists of them. `mel` and `mfcc` are the bytes of their `.npy` files (float16), since their
length varies: `numpy.load(io.BytesIO(row["mel"]))`. All shards of a modality have one schema, whatever parts their own
samples have.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmdata.emit import messages
from mmdata.emit.layout import MESSAGES, Media
from mmdata.emit.shard import Shard
from mmdata.shards import ledger

ROW_GROUP_BYTES = 64 << 20  # of media; what a reader of one row group holds
ROW_GROUP_ROWS = 10_000
_NO_STATISTICS = (MESSAGES, "extra", "caption")


def schema_of(shard: Shard) -> pa.Schema:
    """Schema of the shards of a modality; scores and annotations are written as double, integer, bool, string or lists.

    The metadata hold the features as `datasets` reads them.
    """
    fields = [pa.field(media.column, media.kind) for media in shard.media]
    fields += [pa.field("caption", pa.string()), pa.field("key", pa.string())]
    fields += [pa.field(name, kind) for name, kind, _ in _ledger_columns(shard)]
    fields += [pa.field(field.name, _stored(field.type)) for field in list(shard.rows.scores.schema)[1:]]
    fields += [pa.field("extra", pa.string()), pa.field(MESSAGES, messages.ARROW)]
    features = {field.name: _feature(field.type) for field in fields}
    for media in shard.media:
        if media.feature:
            one = {"_type": media.feature}
            features[media.column] = {"feature": one, "_type": "List"} if media.many else one
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


class ParquetShardWriter:
    """Writes samples of one shard into row groups of bounded size; tells where each one went."""

    def __init__(self, sink: Any, shard: Shard) -> None:
        schema = schema_of(shard)
        self._schema = schema
        self._shard = shard
        plain = [name for name in schema.names if name not in {media.column for media in shard.media}]
        self._writer = pq.ParquetWriter(
            sink,
            schema,
            # Media are compressed already, and each is there once.
            compression={leaf: "NONE" if leaf.endswith(".bytes") else "ZSTD" for leaf in _leaves(schema)},
            use_dictionary=[name for name in ("source", "language") if name in plain],
            write_statistics=[name for name in plain if name not in _NO_STATISTICS],
        )
        self._places = [(media, media.parts_of(shard.parts)) for media in shard.media]
        self._waiting: dict[str, list[Any]] = {media.column: [] for media in shard.media}
        self._rows = 0  # that wait
        self._bytes = 0
        self._written = 0
        self._row_group = 0
        self.places: list[tuple[int, int]] = []  # row group and row in it, of each sample so far

    def add(self, parts: Mapping[str, bytes]) -> None:
        """The media of the next sample."""
        size = sum(len(data) for data in parts.values())
        if self._rows and (self._bytes + size > ROW_GROUP_BYTES or self._rows >= ROW_GROUP_ROWS):
            self._flush()
        key = self._shard.keys[self._written + self._rows]
        for media, names in self._places:
            found: list[Any] = [parts[name] for name in names]
            if media.feature:
                found = [{"bytes": parts[name], "path": f"{key}.{name}"} for name in names]
            self._waiting[media.column].append(found if media.many else found[0] if found else None)
        self.places.append((self._row_group, self._rows))
        self._rows += 1
        self._bytes += size

    def close(self) -> None:
        """Write what is left and the end of the file."""
        if self._rows:
            self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Let go of the file after an error, while it is still open; nothing happens after `close`."""
        with contextlib.suppress(OSError, ValueError):
            self._writer.close()

    def _flush(self) -> None:
        arrays: list[Any] = [_media_array(media, self._waiting[media.column]) for media in self._shard.media]
        arrays += _columns_of(self._shard, self._written, self._rows)
        self._writer.write_table(pa.table(arrays, schema=self._schema), row_group_size=self._rows)
        self._written += self._rows
        self._waiting = {media.column: [] for media in self._shard.media}
        self._rows = self._bytes = 0
        self._row_group += 1


def _media_array(media: Media, found: list[Any]) -> pa.Array:
    """The media of some samples; one each is put together column by column."""
    if media.many or not media.feature or None in found:
        return pa.array(found, media.kind)
    columns = [pa.array([each[field.name] for each in found], field.type) for field in media.kind]
    return pa.StructArray.from_arrays(columns, fields=list(media.kind))


def _ledger_columns(shard: Shard) -> list[tuple[str, pa.DataType, str]]:
    """Name, type, and name in the ledger of the columns between key and scores."""
    layout = shard.layout
    found = [(name, pa.string(), name) for name in ("url", "source", "language")]
    found += [(name, layout.ledger_columns.field(name).type, name) for name in (*layout.sizes, *layout.numbers)]
    found.append(("sha256", pa.string(), "raw_sha256"))
    return found + [(name, _stored(ledger.ANNOTATIONS[name]), name) for name in shard.annotations]


def _columns_of(shard: Shard, start: int, length: int) -> Iterator[Any]:
    """The columns after the media, of some rows."""
    rows = range(start, start + length)
    yield pa.array([shard.caption(row) for row in rows], pa.string())
    yield pa.array(shard.keys[start : start + length], pa.string())
    for _, kind, place in _ledger_columns(shard):
        yield shard.column(place, kind, start, length)
    for name in shard.rows.scores.column_names[1:]:
        values = shard.rows.scores[name].slice(start, length)
        yield values.cast(_stored(values.type))
    yield pa.array(shard.extra[start : start + length], pa.string())
    yield shard.conversations(start, length)


def _stored(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_floating(kind):
        return pa.float64()
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return kind
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_stored(kind.value_type))
    return pa.string()


def _feature(kind: pa.DataType) -> Any:
    """The type as `datasets` writes it; names of number types are the same in both."""
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


def _leaves(schema: pa.Schema) -> Iterator[str]:
    """Names of all plain columns as Parquet knows them, `messages.list.element.role`."""
    for field in schema:
        yield from _below(field.name, field.type)


def _below(name: str, kind: pa.DataType) -> Iterator[str]:
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _below(f"{name}.{field.name}", field.type)
    elif pa.types.is_list(kind):
        yield from _below(f"{name}.list.element", kind.value_type)
    else:
        yield name
