"""Emits one window: its kept samples, shuffled, into shards of both formats with sidecars and index.

Media bytes are read one sample at a time from where they lie in the staged tars, in shuffled order; only columns and
places of the window are in memory. The same job gives the same bytes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdata.emit import index, records
from mmdata.emit.augment import Augmenter
from mmdata.emit.facts import window_facts
from mmdata.emit.features import entry
from mmdata.emit.layout import LAYOUTS
from mmdata.emit.parquet_shard import ParquetShardWriter
from mmdata.emit.plan import Output, WindowJob
from mmdata.emit.rows import read_window
from mmdata.emit.shard import Shard
from mmdata.errors import ShardError
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
    features: dict[str, dict[str, Any]] = {}  # by modality, what its tars hold
    if not job.outputs:
        return WindowResult((), {"shards": shards, **window_facts({})})
    by_modality = read_window(job)
    with _StagedParts(job, scratch) as staged:
        for output in job.outputs:
            rows = by_modality.get(output.modality)
            copies = rows.copies(output, job.seed) if rows is not None else []
            if rows is None or len(copies) != sum(output.sizes):
                raise ShardError(
                    f"window {job.window}: {len(copies)} samples of {output.modality} {output.split} are kept, "
                    f"but the plan has {sum(output.sizes)}: it was made from another selection"
                )
            layout = LAYOUTS[output.modality]
            media = [each for each in layout.media if each.column in job.media[output.modality]]
            files_of = features.setdefault(output.modality, {"parts": [], "json": []})
            files_of["parts"] = sorted({*files_of["parts"], *_media_parts(output.parts)})
            augmenter = Augmenter(job.augment, job.derived, layout)
            start = 0
            for number, size in enumerate(output.sizes, output.first_shard):
                keys, places = zip(*copies[start : start + size], strict=True)
                taken = rows.take(places)
                shard = Shard(layout, keys, _media_parts(output.parts), taken, media, records.extras(taken))
                files_of["json"] = [entry(name, kind) for name, kind, _ in records.json_fields(shard)]
                _write_shard(job, output, number, shard, augmenter, staged, files)
                shards.append([output.modality, output.split, number, size])
                start += size
    counts = {"shards": shards, **window_facts(by_modality), "features": features}
    return WindowResult(tuple(files.records), counts)


def _media_parts(parts: str) -> list[str]:
    return [part for part in parts.split() if part not in WRITTEN_PARTS]


def _write_shard(
    job: WindowJob,
    output: Output,
    number: int,
    shard: Shard,
    augmenter: Augmenter,
    staged: _StagedParts,
    files: AttemptFiles,
) -> None:
    place = (output.modality, output.split, number)
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
            parquet = ParquetShardWriter(sink, shard)
            stack.callback(parquet.abandon)
        jsons = records.JsonParts(shard) if tar is not None else None
        where = zip(shard.rows.rows["shard"].to_pylist(), shard.rows.rows["key"].to_pylist(), strict=True)
        for row, (key, (staged_shard, staged_key)) in enumerate(zip(shard.keys, where, strict=True)):
            parts = staged.read(staged_shard, staged_key, shard)
            if augmenter and key != staged_key:
                parts, shard.changes[row] = augmenter.vary(parts, shard.columns(row), key)
            if parquet is not None:
                parquet.add(parts)
            if tar is not None and tar_places is not None and jsons is not None:
                text = shard.text(row).encode("utf-8", "replace")
                tar_places.append(tar.add(key, {**parts, "txt": text, "json": jsons.next()}))
        if tar is not None:
            tar_file.trust(*tar.close())
        if parquet is not None:
            parquet.close()
    if tar is not None:
        with files.open(DatasetFolder.sidecar(*place)) as file:
            records.write_table(file, records.sidecar(shard))
        files.put(DatasetFolder.stats(*place), records.json_bytes(records.stats(shard)))
    table = index.index_table(shard, tar_places, parquet.places if parquet is not None else None)
    with files.open(DatasetFolder.index(*place)) as file:
        records.write_table(file, table)


class _StagedParts:
    """The staged tars of a window, open, with the place of every part."""

    def __init__(self, job: WindowJob, scratch: Path) -> None:
        self._job = job
        self._scratch = scratch
        self._files: dict[int, int] = {}  # descriptor by shard
        self._names: dict[int, str] = {}
        self._places: dict[int, dict[str, dict[str, tuple[int, int]]]] = {}  # offset and size, by shard, key and part
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _StagedParts:
        with contextlib.ExitStack() as stack:
            for shard in self._job.shards:
                path = storage.local_copy(shard.staged, self._scratch)
                if storage.is_remote(shard.staged):
                    stack.callback(path.unlink)
                # A buffer would be filled anew for every header.
                file = stack.enter_context(path.open("rb", buffering=0))
                places: dict[str, dict[str, tuple[int, int]]] = {}
                for member in members(file, shard.staged):
                    if member.part not in WRITTEN_PARTS:
                        known = places.setdefault(member.key, {})
                        if member.part in known:
                            raise ShardError(f"{shard.staged}: {member.key}.{member.part} is there twice")
                        known[member.part] = member.offset, member.size
                self._files[shard.shard] = file.fileno()
                self._names[shard.shard] = shard.staged
                self._places[shard.shard] = places
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def read(self, number: int, key: str, shard: Shard) -> dict[str, bytes]:
        """The parts of a sample. Raises ShardError where it is not in the tar, or the ledger says other parts.

        number: of the staged shard. Only a document may have no media.
        """
        places = self._places[number].get(key, {})
        if list(places) != shard.parts or not (places or shard.layout.is_document):
            found, expected = " ".join(places), " ".join(shard.parts)
            raise ShardError(f"{self._names[number]}: {key} has parts '{found}', its ledger has '{expected}'")
        file, parts = self._files[number], {}
        for part, (offset, size) in places.items():
            parts[part] = data = os.pread(file, size, offset)
            if len(data) != size:
                raise ShardError(f"{self._names[number]}: {key} could not be read whole")
        return parts
