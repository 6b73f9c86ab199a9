"""Checks a dataset against its manifest: every byte of every file, and that tars, sidecars and index tell the same."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmdata.emit.manifest import FileEntry, digest_of, manifest_bytes
from mmdata.errors import DamageError, ShardError, SourceError
from mmdata.shards import storage
from mmdata.shards.folders import ATTEMPTS, DatasetFolder, shard_number
from mmdata.shards.tar import members

# Not part of the digest: they describe the dataset. `report.html` may be there and is not checked.
UNLISTED = ("manifest.json", "report.html")


def verify(dataset_root: str) -> None:
    """Raise DamageError that lists every problem; SourceError where there is no dataset at all."""
    if not storage.list_files(dataset_root):
        raise SourceError(f"{dataset_root}: there is no dataset here")
    found = list(problems(dataset_root))
    if found:
        shown = "\n".join(f"  {problem}" for problem in found[:50])
        raise DamageError(f"{dataset_root}: {len(found)} problems\n{shown}")


def problems(dataset_root: str) -> Iterator[str]:
    """Every problem of a dataset, one line each; none where all is well."""
    try:
        tree, entries = read_manifest(dataset_root)
    except DamageError as error:
        yield str(error)
        return
    whole = []
    for entry in entries:
        problem = file_problem(dataset_root, entry)
        if problem:
            yield problem
        else:
            whole.append(entry.path)
    known = {entry.path for entry in entries} | {listed["path"] for listed in tree["lists"]} | set(UNLISTED)
    for path in storage.list_files(dataset_root):
        if path not in known and not path.startswith(f"{ATTEMPTS}/"):
            yield f"{path}: is not in the manifest"
    if digest_of(entry for entry in entries if entry.path != "README.md") != tree["digest"]:
        yield "manifest.json: its digest is not that of the files it lists"
    yield from _shard_problems(dataset_root, tree, set(whole))


def read_manifest(dataset_root: str) -> tuple[dict[str, Any], list[FileEntry]]:
    """The manifest and the files it lists. Raises DamageError where the manifest itself is missing or altered."""
    path = DatasetFolder(dataset_root).manifest
    try:
        data = storage.read_bytes(path)
    except FileNotFoundError:
        raise DamageError("manifest.json: is missing; this folder is no finished dataset") from None
    try:
        tree: dict[str, Any] = json.loads(data)
        same = manifest_bytes(tree) == data
        lists = [FileEntry(each["path"], each["bytes"], each["sha256"]) for each in tree["lists"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DamageError("manifest.json: is damaged") from None
    if not same:
        raise DamageError("manifest.json: its own hash does not fit")
    entries = []
    for listed in lists:
        problem = file_problem(dataset_root, listed)
        if problem:
            raise DamageError(problem)
        lines = storage.read_bytes(storage.join(dataset_root, listed.path)).decode().splitlines()
        entries += [FileEntry(**json.loads(line)) for line in lines]
    return tree, entries


def file_problem(dataset_root: str, entry: Any) -> str | None:
    """What is wrong with one file of a FileEntry or FileRecord, or None."""
    path = storage.join(dataset_root, entry.path)
    size = storage.size_bytes(path)
    if size is None:
        return f"{entry.path}: is missing"
    if size != entry.bytes:
        return f"{entry.path}: found {size} bytes, recorded are {entry.bytes}"
    if storage.sha256_of(path) != entry.sha256:
        return f"{entry.path}: its bytes are not those recorded (sha256)"
    return None


def files_problems(dataset_root: str, files: Iterable[Any]) -> list[str]:
    """Problems of the published files of one window; none means that its staged shards may be freed."""
    return [problem for problem in (file_problem(dataset_root, file) for file in files) if problem]


def _shard_problems(dataset_root: str, tree: Mapping[str, Any], whole: set[str]) -> Iterator[str]:
    """Where files that are whole do not tell the same: samples, keys, and where they lie."""
    for modality, by_split in tree["samples"].items():
        for split, counts in by_split.items():
            folder = f"index/{modality}/{split}"
            names = storage.list_names(storage.join(dataset_root, folder))
            total = 0
            for name in names:
                shard = shard_number(name)
                if shard is None or f"{folder}/{name}" not in whole:
                    continue
                table = _table(dataset_root, f"{folder}/{name}")
                total += table.num_rows
                place = (modality, split, shard)
                if DatasetFolder.tar(*place) in whole:
                    yield from _tar_problems(dataset_root, place, table, whole)
                for path in (DatasetFolder.sidecar(*place), DatasetFolder.parquet(*place)):
                    if path in whole and not _table(dataset_root, path, ["key"])["key"].equals(table["key"]):
                        yield f"{path}: its keys are not those of the index"
            if total != counts["samples"] or len(names) != counts["shards"]:
                yield (
                    f"{modality}/{split}: {total} samples in {len(names)} shards, the manifest has "
                    f"{counts['samples']} in {counts['shards']}"
                )


def _tar_problems(
    dataset_root: str, place: tuple[str, str, int], table: pa.Table, whole: Collection[str]
) -> Iterator[str]:
    path = DatasetFolder.tar(*place)
    try:
        with storage.open_input(storage.join(dataset_root, path)) as file:
            found = [(m.key, m.part, m.offset, m.size) for m in members(file, path)]
    except ShardError as error:
        yield str(error)
        return
    expected = [
        (row["key"], part["part"], part["offset"], part["size"])
        for row in table.select(["key", "parts"]).to_pylist()
        for part in row["parts"] or ()
    ]
    if found != expected:
        yield f"{path}: its members are not where the index says"
    if len({tuple(part for key, part, *_ in group) for group in _by_key(found)}) > 1:
        yield f"{path}: its samples do not all have the same parts"
    sizes_path = DatasetFolder.sizes(*place[:2])
    if sizes_path in whole:
        said = json.loads(storage.read_bytes(storage.join(dataset_root, sizes_path))).get(path.rpartition("/")[2])
        if said != table.num_rows:
            yield f"{path}: {table.num_rows} samples, sizes.json has {said}"


def _by_key(found: list[tuple[str, str, int, int]]) -> Iterator[list[tuple[str, str, int, int]]]:
    for _, group in itertools.groupby(found, key=lambda member: member[0]):
        yield list(group)


def _table(dataset_root: str, path: str, columns: list[str] | None = None) -> pa.Table:
    with storage.open_input(storage.join(dataset_root, path)) as file:
        return pq.ParquetFile(file).read(columns=columns)
