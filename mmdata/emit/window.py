"""Emits one window: its kept samples, shuffled, into shards of both formats with sidecars and index.

Media bytes are read one sample at a time from where they lie in the staged tars, in shuffled order; only columns and
places of the window are in memory. The same job gives the same bytes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdata.emit import index, records
from mmdata.emit.facts import window_facts
from mmdata.emit.parquet_shard import ParquetShardWriter
from mmdata.emit.plan import Output, WindowJob
from mmdata.emit.rows import WindowRows, read_window
from mmdata.errors import ShardError
from mmdata.sample import IMAGE_PARTS
from mmdata.shards import storage
from mmdata.shards.attempt import AttemptFiles
from mmdata.shards.commits import FileRecord
from mmdata.shards.folders import ATTEMPTS, DatasetFolder
from mmdata.shards.tar import TarWriter, members

WRITTEN_PARTS = ("txt", "json")  # made from columns; a staged part of that name is not copied


@dataclass(frozen=True)
class WindowResult:
    """What an attempt at a window made, for its commit record: its files, and counts that add up over windows."""

    files: tuple[FileRecord, ...]
    counts: dict[str, Any]


def emit_window(job: WindowJob, dataset_root: str, attempt: str, scratch: Path) -> WindowResult:
    """Write the shards of a window under `.attempts/<attempt>/` of the dataset; nothing gets its final name here.

    scratch: local folder for this attempt alone; copies of remote files lie there meanwhile. Raises ShardError where
    staged files, tables and job do not belong together, StorageError where storage is full.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    files = AttemptFiles(dataset_root, storage.join(ATTEMPTS, attempt), scratch)
    shards: list[list[Any]] = []
    if not job.outputs:
        return WindowResult((), {"shards": shards, **window_facts(None)})
    rows = read_window(job)
    with _StagedParts(job, scratch) as staged:
        for output in job.outputs:
            copies = rows.copies(output, job.seed)
            if len(copies) != sum(output.sizes):
                raise ShardError(
                    f"window {job.window}: {len(copies)} samples of {output.modality} {output.split} are kept, "
                    f"but the plan has {sum(output.sizes)}: it was made from another selection"
                )
            start = 0
            for shard, size in enumerate(output.sizes, output.first_shard):
                keys, places = zip(*copies[start : start + size], strict=True)
                _write_shard(job, output, shard, rows.take(places), keys, staged, files)
                shards.append([output.modality, output.split, shard, size])
                start += size
    return WindowResult(tuple(files.records), {"shards": shards, **window_facts(rows)})


def _write_shard(
    job: WindowJob,
    output: Output,
    shard: int,
    rows: WindowRows,
    keys: Sequence[str],
    staged: _StagedParts,
    files: AttemptFiles,
) -> None:
    place = (output.modality, output.split, shard)
    own = rows.own.select(["key", *job.own_schema(output.modality).names])
    rows = WindowRows(rows.rows, rows.scores, own)
    extra = records.extras(rows)
    tar_places: list[Mapping[str, tuple[int, int]]] | None = None
    parquet: ParquetShardWriter | None = None
    with contextlib.ExitStack() as stack:
        tar: TarWriter | None = None
        if "webdataset" in job.formats:
            tar_file = stack.enter_context(files.open(DatasetFolder.tar(*place)))
            tar = TarWriter(tar_file.unhashed())
            tar_places = []
        if "parquet" in job.formats:
            sink = stack.enter_context(files.open(DatasetFolder.parquet(*place)))
            parquet = ParquetShardWriter(sink, rows, keys, extra)
            stack.callback(parquet.abandon)
        captions = rows.rows["caption"].to_pylist()
        where = zip(rows.rows["shard"].to_pylist(), rows.rows["key"].to_pylist(), strict=True)
        jsons = records.json_parts(rows, keys, extra)
        for key, (number, staged_key), caption, text in zip(keys, where, captions, jsons, strict=True):
            parts = staged.read(number, staged_key, output.parts)
            if tar is not None and tar_places is not None:
                written = {**parts, "txt": (caption or "").encode("utf-8", "replace"), "json": text}
                tar_places.append(tar.add(key, written))
            if parquet is not None:
                extension = next(part for part in IMAGE_PARTS if part in parts)
                parquet.add(parts[extension], extension)
        if tar is not None:
            tar_file.trust(*tar.close())
        if parquet is not None:
            parquet.close()
    if tar is not None:
        with files.open(DatasetFolder.sidecar(*place)) as file:
            records.write_table(file, records.sidecar(rows, keys))
        files.put(DatasetFolder.stats(*place), records.json_bytes(records.stats(len(keys))))
    table = index.index_table(rows, keys, tar_places, parquet.places if parquet is not None else None)
    with files.open(DatasetFolder.index(*place)) as file:
        records.write_table(file, table)


class _StagedParts:
    """The staged tars of a window, open, with the place of every part."""

    def __init__(self, job: WindowJob, scratch: Path) -> None:
        self._job = job
        self._scratch = scratch
        self._files: dict[int, int] = {}  # descriptor by shard
        self._names: dict[int, str] = {}
        self._places: dict[int, dict[str, list[tuple[str, int, int]]]] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _StagedParts:
        with contextlib.ExitStack() as stack:
            for shard in self._job.shards:
                path = storage.local_copy(shard.staged, self._scratch)
                if storage.is_remote(shard.staged):
                    stack.callback(path.unlink)
                file = stack.enter_context(path.open("rb"))
                places: dict[str, list[tuple[str, int, int]]] = {}
                for member in members(file, shard.staged):
                    if member.part not in WRITTEN_PARTS:
                        places.setdefault(member.key, []).append((member.part, member.offset, member.size))
                self._files[shard.shard] = file.fileno()
                self._names[shard.shard] = shard.staged
                self._places[shard.shard] = places
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def read(self, shard: int, key: str, expected: str) -> dict[str, bytes]:
        """The parts of a sample. Raises ShardError where it is not in the tar, or the ledger says other parts."""
        places = self._places[shard].get(key, [])
        found = sorted(part for part, _, _ in places)
        if found != [part for part in expected.split() if part not in WRITTEN_PARTS] or not found:
            raise ShardError(f"{self._names[shard]}: {key} has parts '{' '.join(found)}', its ledger has '{expected}'")
        parts = {part: os.pread(self._files[shard], size, offset) for part, offset, size in places}
        if any(len(parts[part]) != size for part, _, size in places):
            raise ShardError(f"{self._names[shard]}: {key} could not be read whole")
        return parts
