"""Columns that rules of selection add are in every file of the dataset that holds columns, and in the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from mmdata.config import EmitOptions
from mmdata.emit.plan import StagedShard, added_of
from mmdata.emit.report_rows import Rows, ShardFiles
from mmdata.select.counts import KeptCount, SelectionCounts, schema_of_text
from mmdata.select.dedup import Dedup
from mmdata.select.head import Head
from mmdata.select.thresholds import Thresholds
from mmdata.shards import ledger
from mmdata.shards.folders import RunFolder
from mmdata.shards.tar import read_samples
from tests.builders import write_run
from tests.emit.emitted import Emitted, emit_run, select_run

SHARDS = 3
LIMIT = 0.6


def head(folder: Path, column: str = "punsafe") -> Head:
    """2 x the first number of an embedding + the second, as a column."""
    path = folder / "head.safetensors"
    save_file({"weight": np.array([[2.0, 1.0]], np.float32)}, path)
    return Head.parse({"model": str(path), "column": column, "normalise": False}, "test")


def emit_with(folder: Path, column: str) -> tuple[RunFolder, Emitted]:
    run = write_run(folder / "run", SHARDS)
    rules = [head(folder, column), Thresholds.parse({column: {"min": LIMIT}}, "test"), Dedup()]
    counts = select_run(run, SHARDS, folder / "select", rules)
    options = EmitOptions(window_shards=2, formats=("webdataset", "parquet"))
    return run, emit_run(run, folder / "dataset", counts, options, shards=SHARDS, rules=rules)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Emitted]:
    return emit_with(tmp_path_factory.mktemp("head"), "punsafe")


def expected(run: RunFolder) -> dict[str, float]:
    """By key, for every row that was scored."""
    found = {}
    for shard in range(SHARDS):
        for row in ledger.read(run.scores("image_text", shard)).to_pylist():
            if row["image_embedding"] is not None:
                found[row["key"]] = 2 * float(row["image_embedding"][0]) + float(row["image_embedding"][1])
    return found


def test_the_column_of_a_head_is_in_json_sidecar_parquet_and_index(made: tuple[RunFolder, Emitted]) -> None:
    run, dataset = made
    wanted = expected(run)
    keys = []
    for path in sorted(dataset.path.glob("image_text/*/*.tar")):
        place = path.relative_to(dataset.path).with_suffix(".parquet")
        with path.open("rb") as file:
            found = {key: json.loads(parts["json"])["punsafe"] for key, parts in read_samples(file, path.name)}
        assert found == pytest.approx({key: wanted[key] for key in found})
        assert min(found.values()) >= LIMIT
        for folder in ("", "parquet", "index"):
            table = pq.read_table(dataset.path / folder / place)
            assert dict(zip(table["key"].to_pylist(), table["punsafe"].to_pylist(), strict=True)) == found
        keys += list(found)
    assert len(keys) == dataset.counts.num_kept > 10


def test_the_report_counts_the_column(made: tuple[RunFolder, Emitted], tmp_path: Path) -> None:
    run, _ = made
    files = [
        ShardFiles(n, run.ledger(n), {"image_text": run.scores("image_text", n)}, run.selection("s", n), run.staged(n))
        for n in range(SHARDS)
    ]
    rows = Rows(files, ["punsafe"], tmp_path)
    assert rows.values == ["clip_similarity", "punsafe"]
    value = rows.column("punsafe")
    (found,) = rows.ask(
        f"SELECT count({value}), min({value}) FILTER (fate = 'kept'), count_if({value} < {LIMIT}) FROM rows"
    )
    rows.close()
    wanted = expected(run).values()
    assert found[0] == len(wanted)
    assert found[1] >= LIMIT
    assert found[2] == sum(value < LIMIT for value in wanted) > 0


def test_a_column_named_as_one_of_ours_gets_a_prefix(tmp_path: Path) -> None:
    _, dataset = emit_with(tmp_path, "width")
    sidecar = pq.read_table(next(dataset.path.glob("image_text/train/*.parquet")))
    assert sidecar["width"].to_pylist() == [64] * sidecar.num_rows
    assert min(sidecar["select_width"].to_pylist()) >= LIMIT


def test_a_modality_without_the_embedding_does_not_get_the_column(tmp_path: Path) -> None:
    shards = [StagedShard(0, "", "", "", {"image_text": "x"}), StagedShard(1, "", "", "", {})]
    kept = [KeptCount(0, "image_text", "train", "jpg", 1, 1), KeptCount(1, "audio_text", "train", "flac", 1, 1)]
    found = added_of([head(tmp_path)], {"image_text": {"image_embedding"}}, shards, SelectionCounts(kept=kept))
    assert {name: schema_of_text(text) for name, text in found.items()} == {
        "image_text": pa.schema([("punsafe", pa.float32())])
    }
    assert added_of([Dedup()], {"image_text": {"image_embedding"}}, shards, SelectionCounts(kept=kept)) == {}
