"""What stands beside the media: the `json` part, img2dataset's sidecar and stats, and how many words a caption has."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmdata.emit import messages
from mmdata.emit.layout import MESSAGES
from mmdata.emit.rows import TAKEN, WindowRows
from mmdata.emit.shard import Shard
from mmdata.shards import ledger

SUCCESS = "success"
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")


def text_tokens(caption: str) -> int:
    """Number of words: runs of characters without white space, where every Chinese, Japanese or Korean sign is one."""
    return len(caption.split()) if caption.isascii() else len(_WORD.findall(caption))


def extras(rows: WindowRows) -> list[str]:
    """The source's own columns of every row as one JSON object in a string; `{}` where there are none."""
    own = rows.own.drop_columns("key")
    if not own.num_columns:
        return ["{}"] * rows.own.num_rows
    return [orjson.dumps(row, default=_plain).decode() for row in own.to_pylist()]


def json_fields(shard: Shard) -> list[tuple[str, pa.DataType, str]]:
    """Name, type, and ledger column if there is one, of what the `json` part of a sample holds, in its order.

    img2dataset's names, numbers of the medium, messages of a document, annotations, scores, `extra`.
    """
    layout, scores = shard.layout, shard.rows.scores.schema
    fields = list(layout.sidecar)
    fields += [(name, layout.ledger_columns.field(name).type, name) for name in layout.numbers]
    fields += [(MESSAGES, messages.ARROW, "")] if layout.is_document else []
    fields += [(name, ledger.ANNOTATIONS[name], name) for name in shard.annotations]
    fields += [(field.name, field.type, "") for field in list(scores)[1:]]
    return [*fields, ("extra", pa.string(), "")]


class JsonParts:
    """The `json` part of every sample of a shard: same keys, order and types, and no null.

    Where there is no value stands 0, 0.0, false, "" or an empty list.
    """

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        fields = json_fields(shard)
        self._fields = {place: (name, kind) for name, kind, place in fields if place}
        self._names = [name for name, _, _ in fields]
        ready = {
            "key": shard.keys,
            "status": [SUCCESS] * len(shard),
            "error_message": [""] * len(shard),
            "extra": shard.extra,
        }
        scores = shard.rows.scores
        columns: list[Sequence[Any]] = []
        for name, kind, place in fields:
            if place:
                columns.append(plain_values(shard.column(place, kind)))
            elif name in ready:
                columns.append(ready[name])
            elif name == MESSAGES:
                columns.append([messages.without_nulls(shard.conversation(row)) for row in range(len(shard))])
            else:
                columns.append(plain_values(scores[name]))
        self._rows = zip(*columns, strict=True)
        self._row = 0

    def next(self) -> bytes:
        """The part of the next sample, with what augmentation has changed of it."""
        tree = dict(zip(self._names, next(self._rows), strict=True))
        for place, value in self._shard.changes.get(self._row, {}).items():
            if place in self._fields:
                name, kind = self._fields[place]
                (tree[name],) = plain_values(pa.chunked_array([pa.array([value], kind)]))
        self._row += 1
        return orjson.dumps(tree, default=_plain)


def sidecar(shard: Shard) -> pa.Table:
    """The Parquet beside a tar: the source's own columns, img2dataset's, numbers, annotations, columns of rules."""
    columns: dict[str, Any] = {}
    own = shard.rows.own
    for name in own.column_names[1:]:
        columns[own_name(name, own.column_names)] = own[name]
    for name, kind, place in shard.layout.sidecar:
        if name == "key":
            columns[name] = pa.array(shard.keys, kind)
        elif place:
            columns[name] = shard.column(place, kind)
        else:
            columns[name] = pa.array([SUCCESS if name == "status" else None] * len(shard), kind)
    for name in shard.layout.numbers:
        columns[name] = shard.column(name, shard.layout.ledger_columns.field(name).type)
    for name in shard.annotations:
        columns[name] = shard.column(name, ledger.ANNOTATIONS[name])
    for name in shard.rows.added:
        columns[name] = shard.rows.scores[name]
    return pa.table(columns).replace_schema_metadata(None)


def own_name(name: str, names: Sequence[str]) -> str:
    """Name of an own column in the final files: `src_` before one that is ours or img2dataset's there."""
    while name in TAKEN:
        name = f"src_{name}"
        if name in names:
            name = f"src_{name}"
    return name


def stats(shard: Shard) -> dict[str, Any]:
    """img2dataset's `_stats.json`; the three times are 0, so that the file is the same whenever it is made.

    Video and audio have what video2dataset adds: bytes of the media that were had, and none that could not be cut.
    """
    samples = len(shard)
    tree: dict[str, Any] = {
        "count": samples,
        "successes": samples,
        "failed_to_download": 0,
        "failed_to_resize": 0,
        "duration": 0,
        "start_time": 0,
        "end_time": 0,
        "status_dict": {SUCCESS: samples},
    }
    if shard.layout.video2dataset:
        downloaded = pc.sum(shard.column("bytes", pa.int64())).as_py()
        tree |= {"failed_to_subsample": 0, "bytes_downloaded": downloaded or 0}
    return tree


def plain_values(values: pa.ChunkedArray) -> list[Any]:
    """A column as Python values without null or NaN, lists in it too."""
    if _is_list(values.type):
        kind = values.type.value_type
        return [plain_values(pa.chunked_array([pa.array(each or [], kind)])) for each in values.to_pylist()]
    listed: list[Any] = without_nulls(values).to_pylist()
    return listed


def without_nulls(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column with 0, 0.0, false or "" for null and NaN; numbers with a fraction become double."""
    kind = values.type
    if pa.types.is_floating(kind):
        values = values.cast(pa.float64())
        return pc.fill_null(pc.if_else(pc.is_finite(values), values, 0.0), 0.0)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return pc.fill_null(values, pa.scalar(0).cast(kind))
    return pc.fill_null(values.cast(pa.string()), "")


def write_table(sink: Any, table: pa.Table) -> None:
    """A small table as Parquet: the same table gives the same bytes."""
    pq.write_table(table, sink, compression="zstd", row_group_size=65_536)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def json_bytes(tree: object) -> bytes:
    """A small tree as JSON to read: indented, keys in the order given, the same bytes for the same tree."""
    return (json.dumps(tree, indent=1, ensure_ascii=False) + "\n").encode()
