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
    return len(_WORD.findall(caption))


def extras(rows: WindowRows) -> list[str]:
    """The source's own columns of every row as one JSON object in a string; `{}` where there are none."""
    own = rows.own.drop_columns("key")
    if not own.num_columns:
        return ["{}"] * rows.own.num_rows
    return [orjson.dumps(row, default=_plain).decode() for row in own.to_pylist()]


class JsonParts:
    """The `json` part of every sample of a shard: same keys, order and types, and no null.

    img2dataset's names, numbers of the medium, messages of a document, annotations, scores, `extra`. Where there is no
    value stands 0, 0.0, false, "" or an empty list.
    """

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._places: dict[str, str] = {}  # name here of each ledger column
        self._types: dict[str, pa.DataType] = {}
        ready: dict[str, list[Any]] = {}
        for name, kind, place in shard.layout.sidecar:
            if name == "key":
                ready[name] = list(shard.keys)
            elif place:
                ready[name] = self._column(name, place, kind)
            else:
                ready[name] = [SUCCESS if name == "status" else ""] * len(shard)
        for name in shard.layout.numbers:
            ready[name] = self._column(name, name, shard.layout.ledger_columns.field(name).type)
        if shard.layout.is_document:
            ready[MESSAGES] = [messages.without_nulls(shard.conversation(row)) for row in range(len(shard))]
        for name in shard.annotations:
            ready[name] = self._column(name, name, ledger.ANNOTATIONS[name])
        for name in shard.rows.scores.column_names[1:]:
            ready[name] = plain_values(shard.rows.scores[name])
        ready["extra"] = list(shard.extra)
        self._names = list(ready)
        self._rows = zip(*ready.values(), strict=True)
        self._row = 0

    def _column(self, name: str, place: str, kind: pa.DataType) -> list[Any]:
        self._places[place], self._types[place] = name, kind
        return plain_values(self._shard.column(place, kind))

    def next(self) -> bytes:
        """The part of the next sample, with what augmentation has changed of it."""
        tree = dict(zip(self._names, next(self._rows), strict=True))
        for place, value in self._shard.changes.get(self._row, {}).items():
            if place in self._places:
                (tree[self._places[place]],) = plain_values(pa.chunked_array([pa.array([value], self._types[place])]))
        self._row += 1
        return orjson.dumps(tree, default=_plain)


def sidecar(shard: Shard) -> pa.Table:
    """The Parquet beside a tar: the source's own columns, img2dataset's, numbers of the medium, annotations."""
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
