"""Manifest, card and verify: every change of any byte, name or number of files is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from mmdata.config import EmitOptions
from mmdata.emit.card import card_text
from mmdata.emit.facts import merged
from mmdata.emit.manifest import FILES_PER_LIST, DatasetFacts, FileEntry, digest_of, manifest_bytes, write_manifest
from mmdata.emit.verify import problems, read_manifest, verify
from mmdata.errors import DamageError, SourceError
from mmdata.select.counts import SelectionCounts
from tests.builders import write_run
from tests.emit.emitted import Emitted, emit_run, select_run


@pytest.fixture
def copy(emitted: Emitted, tmp_path: Path) -> Path:
    return shutil.copytree(emitted.path, tmp_path / "copy")


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_whole_dataset_has_no_problem_and_every_file_is_listed(emitted: Emitted) -> None:
    verify(emitted.root)
    tree, entries = read_manifest(emitted.root)
    listed = {entry.path for entry in entries} | {"manifest.json", "manifest/000000.jsonl"}
    assert listed == {path.relative_to(emitted.path).as_posix() for path in files_of(emitted.path)}
    assert tree["digest"] == emitted.digest == digest_of(entry for entry in entries if entry.path != "README.md")
    assert tree["num_files"] == len(entries)


def test_every_cut_of_a_shard_at_512_bytes_is_found(copy: Path) -> None:
    tar = copy / "image_text/val/00000.tar"
    data = tar.read_bytes()
    for size in range(0, len(data), 512):
        tar.write_bytes(data[:size])
        assert any("image_text/val/00000.tar" in problem for problem in problems(str(copy))), size


def test_a_flipped_bit_anywhere_is_found(copy: Path) -> None:
    rng = np.random.default_rng(0)
    files = files_of(copy)
    for number in range(120):
        path = files[number % len(files)]
        data = bytearray(path.read_bytes())
        place = int(rng.integers(len(data)))
        data[place] ^= 1 << int(rng.integers(8))
        original = path.read_bytes()
        path.write_bytes(data)
        assert list(problems(str(copy))), f"{path.name}: bit flipped at byte {place}"
        path.write_bytes(original)
    assert not list(problems(str(copy)))


def test_every_deleted_and_every_stray_file_is_found(copy: Path) -> None:
    for path in files_of(copy):
        data = path.read_bytes()
        path.unlink()
        with pytest.raises(DamageError, match=path.name) as error:
            verify(str(copy))
        assert error.value.exit_code == 8
        path.write_bytes(data)
    for name in ("stray", "image_text/train/00099.tar", "manifest/000001.jsonl", "deep/er/file.txt"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(b"")
        assert list(problems(str(copy))) == [f"{name}: is not in the manifest"]
        (copy / name).unlink()


def test_a_number_changed_in_the_manifest_is_found(copy: Path) -> None:
    path = copy / "manifest.json"
    data = path.read_text()
    path.write_text(data.replace('"samples": 50', '"samples": 51'))
    assert list(problems(str(copy))) == ["manifest.json: its own hash does not fit"]
    tree = json.loads(data)
    tree["samples"]["image_text"]["train"]["samples"] = 51
    path.write_bytes(manifest_bytes(tree))
    assert "50 samples in 5 shards, the manifest has 51 in 5" in next(problems(str(copy)))


def relisted(folder: Path, name: str, data: bytes) -> None:
    """Change a file and the manifest with it, so that only what it says is wrong."""
    import hashlib

    tree, entries = read_manifest(str(folder))
    (folder / name).write_bytes(data)
    changed = FileEntry(name, len(data), hashlib.sha256(data).hexdigest())
    entries = [changed if entry.path == name else entry for entry in entries]
    lines = "".join(f"{entry.line}\n" for entry in entries).encode()
    (folder / "manifest/000000.jsonl").write_bytes(lines)
    tree["lists"][0] |= {"bytes": len(lines), "sha256": hashlib.sha256(lines).hexdigest()}
    tree["digest"] = digest_of(entry for entry in entries if entry.path != "README.md")
    (folder / "manifest.json").write_bytes(manifest_bytes(tree))


@pytest.mark.parametrize(
    ("target", "other"),
    [
        ("image_text/train/00000.tar", "image_text/train/00001.tar"),
        ("index/image_text/train/00000.parquet", "index/image_text/train/00001.parquet"),
        ("image_text/train/00000.parquet", "image_text/train/00001.parquet"),
        ("parquet/image_text/train/00000.parquet", "parquet/image_text/train/00001.parquet"),
        ("image_text/train/sizes.json", "image_text/val/sizes.json"),
    ],
)
def test_files_that_are_whole_but_do_not_tell_the_same_are_found(copy: Path, target: str, other: str) -> None:
    relisted(copy, target, (copy / other).read_bytes())
    assert any("00000" in problem for problem in problems(str(copy)))


def test_no_dataset_at_all_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no dataset here"):
        verify(str(tmp_path / "nothing"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(DamageError, match="no finished dataset"):
        verify(str(tmp_path))


def test_the_manifest_written_again_changes_no_file(emitted: Emitted, copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in files_of(copy)}
    facts = DatasetFacts("tiny", 17, ["webdataset", "parquet"], "clip", emitted.counts, hashes={"ingest": "0" * 16})
    files = [file for result in emitted.results for file in result.files]
    (copy / "README.md").unlink()
    digest = write_manifest(str(copy), files, [result.counts for result in emitted.results], facts)
    assert digest == emitted.digest
    write_manifest(str(copy), files, [result.counts for result in emitted.results], facts)
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"README.md", "000000.jsonl", "manifest.json"}  # the rules were left out of the card


def test_a_long_list_of_files_is_split_and_an_older_one_goes(tmp_path: Path) -> None:
    facts = DatasetFacts("long", 1, ["parquet"], "half", SelectionCounts())
    files = [FileEntry(f"parquet/x/{number:05d}.parquet", 1, "0" * 64) for number in range(FILES_PER_LIST + 5)]
    write_manifest(str(tmp_path), files, [], facts)
    tree = json.loads((tmp_path / "manifest.json").read_bytes())
    assert [entry["files"] for entry in tree["lists"]] == [FILES_PER_LIST, 6]
    write_manifest(str(tmp_path), files[:3], [], facts)
    assert [path.name for path in (tmp_path / "manifest").iterdir()] == ["000000.jsonl"]


def pictures_of_kept_rows(emitted: Emitted) -> Iterator[tuple[float, list[float], list[float]]]:
    for job in emitted.jobs:
        for shard in job.shards:
            rows, chosen = pq.read_table(shard.ledger).to_pylist(), pq.read_table(shard.selection).to_pylist()
            for row, choice in zip(rows, chosen, strict=True):
                if choice["keep"]:
                    yield row["width_px"] * row["height_px"], row["channel_mean"], row["channel_std"]


def test_mean_and_deviation_of_the_pixels_are_those_of_all_pictures_together() -> None:
    rng = np.random.default_rng(3)
    pictures = [rng.random((size, 3)) for size in (10, 200, 35)]
    windows = []
    for part in (pictures[:1], pictures[1:]):
        weight = float(sum(len(picture) for picture in part))
        first = sum((picture.sum(axis=0) for picture in part), np.zeros(3)).tolist()
        second = sum(((picture**2).sum(axis=0) for picture in part), np.zeros(3)).tolist()
        windows.append({"sources": {"a": 1}, "licences": {}, "pixels": [weight, first, second]})
    together = np.concatenate(pictures)
    channels = merged(windows)["channels"]
    assert np.allclose(channels["mean"], together.mean(axis=0), atol=1e-6)
    assert np.allclose(channels["std"], together.std(axis=0), atol=1e-6)
    assert channels["pixels"] == 245


def test_the_manifest_says_what_a_loader_must_know(emitted: Emitted) -> None:
    tree, _ = read_manifest(emitted.root)
    assert tree["reasons"] == {
        "ok": 61,
        "filtered.score_low": 17,
        "fetch.http_4xx": 14,
        "filtered.duplicate_content": 8,
    }
    assert tree["rows"] == sum(tree["reasons"].values())
    assert {split: (c["samples"], c["shards"]) for split, c in tree["samples"]["image_text"].items()} == {
        "train": (50, 5),
        "val": (11, 3),
    }
    assert tree["channels"]["mean"] == pytest.approx([0.5, 0.4, 0.3])
    assert tree["channels"]["std"] == pytest.approx([0.2, 0.2, 0.1])
    assert tree["channels"]["pixels"] == sum(pixels for pixels, _, _ in pictures_of_kept_rows(emitted))
    assert tree["normalise"]["name"] == "clip"
    assert sum(tree["licences"].values()) == 61
    text = (emitted.path / "manifest.json").read_text() + (emitted.path / "README.md").read_text()
    assert str(emitted.path.parent) not in text
    assert "attempt-" not in text


def test_nothing_kept_gives_a_valid_dataset_without_configs(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", shards=1)
    counts = select_run(run, 1, tmp_path / "select", [_keep_none()])
    dataset = emit_run(run, tmp_path / "dataset", counts, EmitOptions(), shards=1)
    verify(dataset.root)
    front = yaml.safe_load((dataset.path / "README.md").read_text().split("---")[1])
    assert front["configs"] == []


def _keep_none():  # type: ignore[no-untyped-def]
    from mmdata.select.subset import Subset

    return Subset(count=0)


def test_what_a_source_says_cannot_break_the_card(emitted: Emitted) -> None:
    tree, _ = read_manifest(emitted.root)
    tree["licences"] = {"a|b\n# <script>alert(1)</script>": 3, **{f"licence {n}": 1 for n in range(50)}}
    facts = DatasetFacts("tiny", 17, ["parquet"], "clip", emitted.counts)
    card = card_text(tree, facts)
    assert "<script>" not in card
    assert "| a b # script alert(1) /script | 3 |" in card
    assert "21 others" in card
