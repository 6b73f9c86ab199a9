"""Writes the same table in every format and compression that url_table reads, and tars as others write them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from mmdata.sources.rows import Source, batches_of

TEXT_FORMATS = ("csv", "tsv", "json", "jsonl")
FORMATS = (*TEXT_FORMATS, "parquet", "txt")
COMPRESSIONS = ("", ".gz", ".zst")


def rows_of(source: Source) -> list[dict[str, Any]]:
    """All rows of a source, without the columns that are null in a row."""
    batches = [batch for _, batch in batches_of(source, source.inputs())]
    return [{k: v for k, v in row.items() if v is not None} for batch in batches for row in batch.to_pylist()]


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows with the same keys in the format and compression that the name tells."""
    name, _, compression = path.name.partition(".")[2].partition(".")
    data = _encoded(name, rows)
    if compression == "gz":
        data = gzip.compress(data, mtime=0)
    elif compression == "zst":
        data = zstandard.ZstdCompressor().compress(data)
    path.write_bytes(data)
    return path


def _encoded(name: str, rows: list[dict[str, Any]]) -> bytes:
    if name == "json":
        return json.dumps(rows, indent=1).encode()
    if name == "jsonl":
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    if name == "txt":
        return b"".join(row["url"].encode() + b"\n" for row in rows)
    if name == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=3)
        return sink.getvalue()
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter="\t" if name == "tsv" else ",", quoting=csv.QUOTE_ALL)
    writer.writerow(rows[0])
    writer.writerows([row[name] for name in rows[0]] for row in rows)
    return text.getvalue().encode()


def write_tar(path: Path, members: list[tuple[str, bytes]], *, style: int = tarfile.PAX_FORMAT) -> Path:
    """A tar as Python's tarfile writes it, with the fractional times that give PAX headers."""
    with tarfile.open(path, "w", format=style) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mtime = 1.5 if style == tarfile.PAX_FORMAT else 1  # type: ignore[assignment]
            tar.addfile(info, io.BytesIO(data))
    return path
