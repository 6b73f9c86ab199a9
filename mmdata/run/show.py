"""Looking at samples of a dataset: what the index says of a key, its captions, scores and parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from mmdata.errors import ConfigError
from mmdata.options import nearest
from mmdata.shards import storage, tar
from mmdata.shards.folders import DatasetFolder

FIRST = 10


def show_samples(dataset: str, key: str = "", out: str = "") -> Iterator[str]:
    """Lines about one sample, or a line each about the first ten. `out`: a folder to write the sample's parts to.

    Raises ConfigError where `dataset` is no dataset or has no such key.
    """
    folder = DatasetFolder(dataset)
    if not storage.exists(folder.manifest):
        raise ConfigError(f"{dataset}: found no manifest.json; allowed is the folder of a finished dataset")
    shown, last = 0, ""
    for path in storage.list_files(folder.path("index")):
        modality, split, name = path.split("/")
        with storage.open_input(folder.path(f"index/{path}")) as file:
            keys = pq.read_table(file, columns=["key"])["key"].to_pylist()
        last = keys[-1] if keys else last
        shard = folder.path(f"{modality}/{split}/{name.removesuffix('.parquet')}.tar")
        if not storage.exists(shard) or (key and key not in keys):
            continue
        for found, parts in _samples(shard):
            if key and found != key:
                continue
            yield from _lines(found, parts, shard, bool(key))
            if key and out:
                yield from _write(found, parts, Path(out))
            shown += 1
            if key or shown == FIRST:
                return
    if key:
        raise ConfigError(f"{dataset}: no sample {key}{nearest(key, [last])}; keys look like {last}")


def _samples(shard: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    with storage.open_input(shard) as file:
        yield from tar.read_samples(file, shard)


def _lines(key: str, parts: dict[str, bytes], shard: str, is_whole: bool) -> Iterator[str]:
    facts = json.loads(parts.get("json", b"{}"))
    caption = parts.get("txt", b"").decode()
    if not is_whole:
        score = facts.get("clip_similarity")
        yield f"{key}  {'' if score is None else f'{score:6.3f}  '}{caption[:100]}"
        return
    yield f"{key} in {shard}"
    yield "  parts: " + ", ".join(f"{name} {len(data)} bytes" for name, data in parts.items())
    yield f"  caption: {caption}"
    for name, value in facts.items():
        yield f"  {name}: {value}"


def _write(key: str, parts: dict[str, bytes], out: Path) -> Iterator[str]:
    out.mkdir(parents=True, exist_ok=True)
    for part, data in parts.items():
        path = out / f"{key}.{part}"
        path.write_bytes(data)
        yield f"  wrote {path}"
