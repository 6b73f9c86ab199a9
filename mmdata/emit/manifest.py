"""The manifest: every file of the dataset with its bytes and sha256, what it holds in numbers, and one digest over all.

Written last, when all windows are published. Nothing in it depends on time, machine or place: the same run gives the
same bytes, and writing it again changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmdata.emit.facts import merged
from mmdata.emit.features import tar_features
from mmdata.emit.records import json_bytes
from mmdata.select.counts import SelectionCounts
from mmdata.shards import storage
from mmdata.shards.folders import DatasetFolder, shard_name

FORMAT = 1  # raised when a reader of manifest.json must know better
FILES_PER_LIST = 10_000
# Pixels a loader gives a model: (value / 255 - mean) / std, by emit.normalise.
NORMALISE = {
    "clip": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "half": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
}


@dataclass(frozen=True)
class FileEntry:
    """One file as the manifest lists it; `path` is relative to the dataset. A FileRecord will do in its place."""

    path: str
    bytes: int
    sha256: str

    @property
    def line(self) -> str:
        return json.dumps({"path": self.path, "bytes": self.bytes, "sha256": self.sha256}, ensure_ascii=False)


@dataclass(frozen=True)
class DatasetFacts:
    """What the driver knows about a dataset that its files do not say.

    hashes: the config hashes, by part. rules: name and options of every rule, in order. derived: the same of the stages
    that computed features and tokens: what a loader must do to sound and text of its own to get the like.
    """

    name: str
    seed: int
    formats: Sequence[str]
    normalise: str
    selection: SelectionCounts
    rules: Sequence[tuple[str, Mapping[str, Any]]] = ()
    hashes: Mapping[str, Any] = field(default_factory=dict)
    derived: Sequence[tuple[str, Mapping[str, Any]]] = ()


def digest_of(files: Iterable[Any]) -> str:
    """sha256 of the sorted lines `sha256 bytes path` over shards, sidecars and index."""
    lines = sorted(f"{file.sha256} {file.bytes} {file.path}" for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def sizes_files(windows: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """`sizes.json` of every folder of tars, by path: name of the tar to its samples, as open_clip reads it."""
    sizes: dict[str, dict[str, int]] = {}
    for window in windows:
        for modality, split, shard, samples in window["shards"]:
            sizes.setdefault(DatasetFolder.sizes(modality, split), {})[f"{shard_name(shard)}.tar"] = samples
    return {path: json_bytes(dict(sorted(by_name.items()))) for path, by_name in sorted(sizes.items())}


def write_manifest(
    dataset_root: str, files: Iterable[Any], windows: Sequence[Mapping[str, Any]], facts: DatasetFacts
) -> str:
    """Write sizes.json, card, lists and manifest.json of a dataset whose shards are published; returns its digest.

    files: the FileRecords of all windows. windows: their counts. What is there already with the same bytes stays as it
    is; whatever is left of an older manifest goes.
    """
    from mmdata.emit.card import card_text

    entries = [FileEntry(file.path, file.bytes, file.sha256) for file in files]
    if "webdataset" in facts.formats:
        entries += [_write(dataset_root, path, data) for path, data in sizes_files(windows).items()]
    digest = digest_of(entries)
    tree = _tree(entries, windows, facts, digest)
    entries.append(_write(dataset_root, "README.md", card_text(tree, facts, _tar_features(windows)).encode()))
    entries.sort(key=lambda entry: entry.path)
    lists: list[dict[str, Any]] = []
    for number, start in enumerate(range(0, len(entries), FILES_PER_LIST)):
        chunk = entries[start : start + FILES_PER_LIST]
        text = "".join(f"{entry.line}\n" for entry in chunk)
        written = _write(dataset_root, DatasetFolder.manifest_list(number), text.encode())
        lists.append({"path": written.path, "bytes": written.bytes, "sha256": written.sha256, "files": len(chunk)})
    tree |= {"num_files": len(entries), "bytes": sum(entry.bytes for entry in entries), "lists": lists}
    _write(dataset_root, "manifest.json", manifest_bytes(tree))
    current = {entry["path"].rpartition("/")[2] for entry in lists}
    for name in storage.list_names(storage.join(dataset_root, "manifest")):
        if name not in current:
            storage.remove(storage.join(dataset_root, "manifest", name))
    return digest


def manifest_bytes(tree: Mapping[str, Any]) -> bytes:
    """manifest.json of a tree, with a last line that holds the hash of all before it."""
    body = {name: value for name, value in tree.items() if name != "manifest_sha256"}
    return json_bytes(body | {"manifest_sha256": hashlib.sha256(json_bytes(body)).hexdigest()})


def _tree(
    entries: Sequence[FileEntry], windows: Sequence[Mapping[str, Any]], facts: DatasetFacts, digest: str
) -> dict[str, Any]:
    samples: dict[str, dict[str, dict[str, int]]] = {}
    for window in windows:
        for modality, split, _, number in window["shards"]:
            counts = samples.setdefault(modality, {}).setdefault(split, {"samples": 0, "shards": 0, "bytes": 0})
            counts["samples"] += number
            counts["shards"] += 1
    for entry in entries:
        modality, _, rest = entry.path.removeprefix("parquet/").partition("/")
        split = rest.partition("/")[0]
        is_shard = entry.path.endswith(".tar") or entry.path.startswith("parquet/")
        if is_shard and split in samples.get(modality, {}):
            samples[modality][split]["bytes"] += entry.bytes
    mean, std = NORMALISE[facts.normalise]
    found = merged(windows)
    return {
        "format": FORMAT,
        "name": facts.name,
        "seed": facts.seed,
        "digest": digest,
        "formats": list(facts.formats),
        "samples": {name: dict(sorted(by_split.items())) for name, by_split in sorted(samples.items())},
        "rows": facts.selection.rows,
        "reasons": dict(sorted(facts.selection.reasons.items())),
        "sources": found["sources"],
        "licences": found["licences"],
        "amounts": found["amounts"],
        "channels": found["channels"],
        "normalise": {"name": facts.normalise, "range": [0.0, 1.0], "mean": mean, "std": std},
        "derived": [[name, dict(options)] for name, options in facts.derived],
        "mixture": facts.selection.mixture,
        "hashes": dict(facts.hashes),
    }


def _tar_features(windows: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """By modality, the features of its tars over all windows."""
    parts: dict[str, set[str]] = {}
    fields: dict[str, list[dict[str, Any]]] = {}
    for window in windows:
        for modality, found in window.get("features", {}).items():
            parts.setdefault(modality, set()).update(found["parts"])
            fields[modality] = found["json"]
    return {modality: tar_features(parts[modality], fields[modality]) for modality in sorted(parts)}


def _write(dataset_root: str, path: str, data: bytes) -> FileEntry:
    """Write a file unless it has these bytes already."""
    target = storage.join(dataset_root, path)
    sha256 = hashlib.sha256(data).hexdigest()
    if storage.size_bytes(target) != len(data) or storage.sha256_of(target) != sha256:
        storage.write_whole(target, data)
    return FileEntry(path, len(data), sha256)
