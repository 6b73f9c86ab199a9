"""An emitted dataset as what another must not overlap with: its index has what `dedup against` compares by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmdata.config import EmitOptions
from mmdata.errors import ConfigError
from mmdata.sample import sample_key
from mmdata.select.dedup import Dedup
from mmdata.shards.folders import RunFolder
from tests.builders import image_sample, write_staged_shard
from tests.emit.emitted import Emitted, emit_run, select_run
from tests.select.planted import decided

COPIES, PICTURES = 100, 160
RNG = np.random.default_rng(5)
THEIRS = RNG.integers(0, 2**64, PICTURES, dtype=np.uint64)
OURS = RNG.integers(0, 2**64, 400, dtype=np.uint64)


def emit_evaluation(folder: Path, hashes: list[int | None]) -> Emitted:
    run = RunFolder(str(folder / "run"))
    samples = [image_sample("evaluation", row) for row in range(len(hashes))]
    for sample, value in zip(samples, hashes, strict=True):
        sample.columns["phash"] = value
    write_staged_shard(run, 0, samples, [0.5] * len(samples))
    counts = select_run(run, 1, folder / "select")
    return emit_run(run, folder / "dataset", counts, EmitOptions(samples_per_shard=50), shards=1)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Emitted:
    return emit_evaluation(tmp_path_factory.mktemp("evaluation"), [int(value) for value in THEIRS])


def near(value: int, bits: int) -> int:
    """The hash with that many bits flipped."""
    for bit in RNG.choice(64, bits, replace=False).tolist():
        value ^= 1 << bit
    return value


def test_a_hundred_planted_near_copies_are_found_against_an_emitted_dataset(
    evaluation: Emitted, tmp_path: Path
) -> None:
    rows = [{"phash": int(value)} for value in OURS]
    places = list(range(0, 3 * COPIES, 3))
    for number, place in enumerate(places):
        rows[place] = {"phash": near(int(THEIRS[number]), number % 5)}
    rule = Dedup.parse({"by": "phash", "against": evaluation.root}, "test")
    found = decided(tmp_path, rows, [rule])
    leaked = {key for key, row in found.items() if row["reason"] == "filtered.leakage"}
    assert leaked == {sample_key("web", place) for place in places}


def test_the_index_has_the_hash_of_every_picture_and_of_nothing_else(evaluation: Emitted) -> None:
    tables = [pq.read_table(path) for path in evaluation.path.glob("index/image_text/*/*.parquet")]
    found = {row["key"]: row["phash"] for table in tables for row in table.select(["key", "phash"]).to_pylist()}
    assert found == {sample_key("evaluation", row): int(value) for row, value in enumerate(THEIRS)}
    assert {table.schema.field("phash").type for table in tables} == {pa.uint64()}


def test_a_dataset_whose_pictures_have_no_hash_is_refused(tmp_path: Path) -> None:
    dataset = emit_evaluation(tmp_path, [None] * 4)
    rule = Dedup.parse({"by": "phash", "against": dataset.root}, "test")
    with pytest.raises(ConfigError, match='column "phash" is empty in every row, so there is nothing to compare by'):
        decided(tmp_path, [{"phash": 1}], [rule])
