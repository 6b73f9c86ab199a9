"""Paths of a run and a dataset, for a disk and a URL alike."""

from __future__ import annotations

import pytest

from mmdata.shards.folders import DatasetFolder, RunFolder, shard_name, shard_number


@pytest.mark.parametrize("root", ["runs/small", "runs/small/", "s3://bucket/runs/small"])
def test_every_path_of_a_run_lies_in_its_folder(root: str) -> None:
    run = RunFolder(root)
    paths = [run.config, run.plan, run.status, run.report, run.rows(3), run.staged(3), run.ledger(3), run.attempt("a")]
    paths += [run.scores("image_text", 3), run.selection("ab12", 3), run.commits(""), run.commit("ingest", 3)]
    assert all(path.startswith(root.rstrip("/") + "/") for path in paths)
    assert len(set(paths)) == len(paths)
    assert run.relative(run.staged(3)) == "staged/00003.tar"


def test_a_revision_is_a_file_of_its_own() -> None:
    run = RunFolder("r")
    assert run.ledger(7) == "r/ledger/00007.parquet"
    assert run.ledger(7, 1) == "r/ledger/00007.1.parquet"
    assert run.commit("ingest", 7, 1) == "r/commits/ingest/00007.1.json"


@pytest.mark.parametrize("shard", [0, 42, 99_999, 100_000, 12_345_678])
def test_a_shard_is_known_by_the_digits_of_its_files(shard: int) -> None:
    assert len(shard_name(shard)) >= 5
    for end in (".tar", ".parquet", "_stats.json", ".0.json", ".1.parquet"):
        assert shard_number(shard_name(shard) + end) == shard


@pytest.mark.parametrize("name", ["sizes.json", "README.md", "manifest", ".00001.tar.ab", "123"])
def test_other_files_belong_to_no_shard(name: str) -> None:
    assert shard_number(name) is None


def test_the_files_of_a_dataset_shard_share_its_number() -> None:
    paths = [make("image_text", "train", 7) for make in (DatasetFolder.tar, DatasetFolder.sidecar, DatasetFolder.stats)]
    paths += [make("image_text", "train", 7) for make in (DatasetFolder.parquet, DatasetFolder.index)]
    assert paths == [
        "image_text/train/00007.tar",
        "image_text/train/00007.parquet",
        "image_text/train/00007_stats.json",
        "parquet/image_text/train/00007.parquet",
        "index/image_text/train/00007.parquet",
    ]
