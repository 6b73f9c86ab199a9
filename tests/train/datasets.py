"""A small emitted dataset written by hand, as far as a consumer reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmdata.sample import sample_key
from mmdata.shards.folders import DatasetFolder
from mmdata.shards.tar import TarWriter
from tests.builders import jpeg

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.5]
_PART = pa.struct([("part", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def caption_of(row: int) -> str:
    return f"picture number {row}"


def write_dataset(
    root: Path,
    shard_sizes: list[int],
    kind: str = "webdataset",
    pictures: Mapping[int, tuple[str, bytes]] | None = None,
    group_rows: int = 3,
) -> list[str]:
    """Write shards of these sizes in one format with index and manifest; returns all keys.

    pictures: extension and bytes of single rows, in place of a drawn JPEG.
    """
    row, keys = 0, []
    for shard, size in enumerate(shard_sizes):
        samples = []
        for _ in range(size):
            part, data = (pictures or {}).get(row, ("jpg", jpeg(row)))
            samples.append((sample_key("pictures", row), caption_of(row), part, data))
            row += 1
        write = _write_tar if kind == "webdataset" else _write_parquet
        keys += [sample[0] for sample in samples]
        index = _target(root, DatasetFolder.index("image_text", "train", shard))
        pq.write_table(write(root, shard, samples, group_rows), index)
    counts = {"samples": row, "shards": len(shard_sizes), "bytes": 0}
    manifest = {
        "samples": {"image_text": {"train": counts}},
        "normalise": {"name": "clip", "range": [0.0, 1.0], "mean": MEAN, "std": STD},
    }
    _target(root, "manifest.json").write_text(json.dumps(manifest))
    return keys


def _target(root: Path, path: str) -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _write_tar(root: Path, shard: int, samples: list[tuple[str, str, str, bytes]], _group_rows: int) -> pa.Table:
    places = []
    with _target(root, DatasetFolder.tar("image_text", "train", shard)).open("wb") as file:
        writer = TarWriter(file)
        for key, caption, part, data in samples:
            added = writer.add(key, {part: data, "txt": caption.encode(), "json": b"{}"})
            places.append([{"part": p, "offset": offset, "size": size} for p, (offset, size) in added.items()])
        writer.close()
    nulls = pa.nulls(len(samples), pa.int32())
    keys = pa.array([key for key, *_ in samples], pa.string())
    return pa.table({"key": keys, "parts": pa.array(places, pa.list_(_PART)), "row_group": nulls, "row": nulls})


def _write_parquet(root: Path, shard: int, samples: list[tuple[str, str, str, bytes]], group_rows: int) -> pa.Table:
    table = pa.table(
        {
            "image": pa.array([{"bytes": data, "path": f"{key}.{part}"} for key, _, part, data in samples], _IMAGE),
            "caption": pa.array([caption for _, caption, _, _ in samples], pa.string()),
        }
    )
    target = _target(root, DatasetFolder.parquet("image_text", "train", shard))
    pq.write_table(table, target, row_group_size=group_rows)
    numbers = range(len(samples))
    return pa.table(
        {
            "key": pa.array([key for key, *_ in samples], pa.string()),
            "parts": pa.nulls(len(samples), pa.list_(_PART)),
            "row_group": pa.array([number // group_rows for number in numbers], pa.int32()),
            "row": pa.array([number % group_rows for number in numbers], pa.int32()),
        }
    )
