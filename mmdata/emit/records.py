"""What stands beside the media: the `json` part, img2dataset's sidecar and stats, and how many words a caption has."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmdata.emit.rows import TAKEN, WindowRows

# img2dataset's names and types after the source's own columns, and where they lie in a ledger.
SIDECAR = (
    ("caption", pa.string(), "caption"),
    ("url", pa.string(), "url"),
    ("key", pa.string(), ""),
    ("status", pa.string(), ""),
    ("error_message", pa.string(), ""),
    ("width", pa.int32(), "width_px"),
    ("height", pa.int32(), "height_px"),
    ("original_width", pa.int32(), "original_width_px"),
    ("original_height", pa.int32(), "original_height_px"),
    ("sha256", pa.string(), "raw_sha256"),
)
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


def json_parts(rows: WindowRows, keys: Sequence[str], extra: Sequence[str]) -> Iterator[bytes]:
    """The `json` part of every sample: img2dataset's names, scores, `extra`; same keys, order and types, and no null.

    Where there is no value stands 0, 0.0, false or "".
    """
    ready: dict[str, list[Any]] = {}
    for name, kind, place in SIDECAR:
        if name == "key":
            ready[name] = list(keys)
        elif place:
            ready[name] = without_nulls(_column(rows, place, kind)).to_pylist()
        else:
            ready[name] = [SUCCESS if name == "status" else ""] * len(keys)
    for name in rows.scores.column_names[1:]:
        ready[name] = without_nulls(rows.scores[name]).to_pylist()
    ready["extra"] = list(extra)
    names = list(ready)
    for values in zip(*ready.values(), strict=True):
        yield orjson.dumps(dict(zip(names, values, strict=True)), default=_plain)


def sidecar(rows: WindowRows, keys: Sequence[str]) -> pa.Table:
    """img2dataset's Parquet: the source's own columns, then its own, all of them `success`."""
    columns: dict[str, Any] = {}
    for name in rows.own.column_names[1:]:
        columns[own_name(name, rows.own.column_names)] = rows.own[name]
    for name, kind, place in SIDECAR:
        if name == "key":
            columns[name] = pa.array(keys, kind)
        elif place:
            columns[name] = _column(rows, place, kind)
        else:
            columns[name] = pa.array([SUCCESS if name == "status" else None] * len(keys), kind)
    return pa.table(columns).replace_schema_metadata(None)


def own_name(name: str, names: Sequence[str]) -> str:
    """Name of an own column in the final files: `src_` before one that is ours or img2dataset's there."""
    while name in TAKEN:
        name = f"src_{name}"
        if name in names:
            name = f"src_{name}"
    return name


def stats(samples: int) -> dict[str, Any]:
    """img2dataset's `_stats.json`; the three times are 0, so that the file is the same whenever it is made."""
    return {
        "count": samples,
        "successes": samples,
        "failed_to_download": 0,
        "failed_to_resize": 0,
        "duration": 0,
        "start_time": 0,
        "end_time": 0,
        "status_dict": {SUCCESS: samples},
    }


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


def _column(rows: WindowRows, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    if name not in rows.rows.column_names:
        return pa.chunked_array([pa.nulls(rows.rows.num_rows, kind)])
    return rows.rows[name].cast(kind)


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def json_bytes(tree: object) -> bytes:
    """A small tree as JSON to read: indented, keys in the order given, the same bytes for the same tree."""
    return (json.dumps(tree, indent=1, ensure_ascii=False) + "\n").encode()
