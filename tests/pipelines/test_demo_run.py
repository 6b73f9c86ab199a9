"""The demo as `make shards` runs it: faults under their reasons and values, AUC, equal digests, a no-op."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mmdata.sample import root_key
from mmdata.shards import ledger
from tests.pipelines.demo_tables import by_source, every_row, missed
from tests.run.world import environment, tree_of

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "pipelines" / "demo" / "encoder" / "checkpoint"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not CHECKPOINT.is_dir(), reason="the demo's encoder is not built: make setup, then make shards"),
]


def run_demo(folder: Path, name: str, *overrides: str) -> str:
    """Run the demo into a folder; returns what it printed."""
    words = [sys.executable, "-m", "pipelines.demo.serve", "--", sys.executable, "-m", "mmdata", "run"]
    words += [str(ROOT / "pipelines" / "demo.yaml"), *overrides]
    words += ["--run", str(folder / "runs" / name), "--dataset", str(folder / "datasets" / name)]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    run_demo(folder, "one")
    return folder


@pytest.fixture(scope="module")
def rows(demo: Path) -> list[dict[str, Any]]:
    return rows_of(demo / "runs/one")


def rows_of(run: Path) -> list[dict[str, Any]]:
    """Final rows of a run, with their similarity where they have one."""
    (selection,) = (run / "selection").iterdir()
    rows = []
    for path in sorted((run / "ledger").iterdir()):
        tables = [
            ledger.read(str(folder / path.name)) for folder in (run / "ledger", run / "scores/image_text", selection)
        ]
        for given, scored, chosen in zip(*(table.to_pylist() for table in tables), strict=True):
            rows.append(given | {"clip_similarity": scored["clip_similarity"]} | chosen)
    return rows


def test_every_row_of_every_table_is_accounted_for(rows: list[dict[str, Any]]) -> None:
    assert len({row["key"] for row in rows}) == len(rows)
    assert len({root_key(row["key"]) for row in rows}) == len(every_row())
    given = Counter(
        row["source"] for row in rows if row["key"] in {root_key(row["key"]), f"{root_key(row['key'])}_0000"}
    )
    assert {name: given[name] for name in by_source()} == {name: len(table) for name, table in by_source().items()}


def test_every_planted_fault_ends_under_its_own_reason(rows: list[dict[str, Any]]) -> None:
    planted = [row for row in rows if row["planted"] not in ("right", "swapped")]
    wrong = Counter((row["planted"], row["expected_reason"], row["reason"]) for row in planted)
    assert [line for line in wrong if line[1] != line[2]] == []
    assert len({row["reason"] for row in rows}) >= 32


def test_right_pictures_are_lost_to_the_encoder_only(rows: list[dict[str, Any]]) -> None:
    pictures = [row for row in rows if row["planted"] == "right" and row["modality"] == "image_text"]
    assert {row["reason"] for row in pictures} == {"ok", "filtered.score_low"}


def test_ledgers_say_of_every_row_what_its_table_expects(rows: list[dict[str, Any]]) -> None:
    checked = [row for row in rows if row.get("expected_values")]
    assert len({root_key(row["key"]) for row in checked}) >= 120
    assert [(row["key"], row["planted"], wrong) for row in checked if (wrong := missed(row))] == []


def test_what_is_right_of_every_modality_is_kept(rows: list[dict[str, Any]]) -> None:
    right = [row for row in rows if row["planted"] == "right" and row["language"] != "zh"]
    for modality in ("video_text", "audio_text", "interleaved", "instruct"):
        of_it = [row for row in right if row["modality"] == modality]
        assert [(row["key"], row["detail"]) for row in of_it if row["reason"] != "ok"] == []
        assert len(of_it) >= 8


def test_the_threshold_drops_85_percent_of_swapped_captions_and_keeps_85_percent_of_right_ones(
    rows: list[dict[str, Any]],
) -> None:
    pictures = [row for row in rows if row["modality"] == "image_text"]
    swapped = [row["reason"] == "filtered.score_low" for row in pictures if row["planted"] == "swapped"]
    right = [row["reason"] == "ok" for row in pictures if row["planted"] == "right"]
    assert len(swapped) >= 0.1 * len(pictures)
    assert sum(swapped) >= 0.85 * len(swapped)
    assert sum(right) >= 0.85 * len(right)


def test_similarity_tells_right_from_swapped_captions_with_an_auc_of_92_percent(rows: list[dict[str, Any]]) -> None:
    english = [row for row in rows if row["modality"] == "image_text" and row["language"] != "zh"]
    right, swapped = (
        [float(row["clip_similarity"]) for row in english if row["planted"] == kind] for kind in ("right", "swapped")
    )
    above = sum((r > s) + 0.5 * (r == s) for r in right for s in swapped)
    assert above / (len(right) * len(swapped)) >= 0.92


def test_films_come_out_as_frames_an_mp4_and_sound(demo: Path, rows: list[dict[str, Any]]) -> None:
    kept = [row for row in rows if row["modality"] == "video_text" and row["reason"] == "ok"]
    for row in kept:
        parts = row["parts"].split()
        assert parts[:5] == [f"{number:03}.jpg" for number in range(5)], row["key"]
        assert "mp4" in parts
        assert (("flac" in parts), ("mel.npy" in parts)) == (row["has_sound"], row["has_sound"]), row["key"]
    assert sum(row["key"].startswith("planted-films") and row["key"].endswith("_0002") for row in kept) == 2
    folders = {path.name for path in (demo / "datasets/one").iterdir() if path.is_dir()}
    assert {"image_text", "video_text", "audio_text", "interleaved", "instruct"} <= folders


def test_one_worker_gives_the_same_digest_and_a_second_run_is_a_no_op(demo: Path) -> None:
    run_demo(demo, "two", "run.workers=1", "run.score_workers=1")
    digests = [json.loads((demo / f"datasets/{n}/manifest.json").read_text())["digest"] for n in ("one", "two")]
    assert digests[0] == digests[1]
    before = tree_of(demo)
    assert digests[0] in run_demo(demo, "two", "run.workers=1", "run.score_workers=1")
    assert tree_of(demo) == before


def test_a_first_consumer_takes_an_optimiser_step_on_the_demo(demo: Path) -> None:
    import torch

    from mmdata.train.batches import ImageTextDataset

    dataset = ImageTextDataset(str(demo / "datasets/one"), split="train", batch_size=8, side_px=64)
    batch = next(iter(dataset))
    pixels_BCHW = batch["pixels"]
    assert pixels_BCHW.shape == (8, 3, 64, 64)
    assert pixels_BCHW.dtype == torch.float32
    model = torch.nn.Linear(3 * 64 * 64, 1)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-5)
    target_B = torch.tensor([float(len(caption)) for caption in batch["captions"]])
    losses = []
    for _ in range(2):
        loss = ((model(pixels_BCHW.flatten(1)).squeeze(1) - target_B) ** 2).mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[1] < losses[0]
