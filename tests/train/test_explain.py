"""What explain-step promises: the samples a step learned from, their losses, and where each came from."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mmdata.errors import ConfigError
from mmdata.train import journal
from mmdata.train.engine import train
from mmdata.train.explain import explain
from tests.train import shelf, tiny


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_step_knows_its_samples_and_a_run_how_often_each_was_seen(tiny_path: Path, tmp_path: Path, kind: str) -> None:
    data = shelf.write(tmp_path / "data", "image_text", [shelf.captioned(n) for n in range(6)], kind=kind, per_shard=4)
    config = tiny.config(tiny_path, data, plan={"epochs": 2}, machine={"folder": str(tmp_path)})
    train(config)
    run = tmp_path / "tiny"
    told = journal.read(run / journal.SAMPLES)
    lines = list(explain(str(run), 1, True))
    shown = [line.split("  ")[0] for line in lines if line.startswith("made-")]
    assert sorted(shown) == sorted(key for key, *_ in told[1]["samples"])
    losses = [float(line.split("loss ")[1].split()[0]) for line in lines if line.startswith("made-")]
    assert losses == sorted(losses, reverse=True)
    number = int(shown[0].split("-")[1])
    place = lines[lines.index(next(line for line in lines if line.startswith(shown[0]))) + 1]
    assert place.endswith(f"image_text/train/{number // 4:05d} row {number % 4}")
    page = (run / "step-1.html").read_text()
    assert page.count("data:image/jpeg;base64,") == len(shown)
    assert "http" not in page
    stats = {row["key"]: row for row in pq.read_table(run / journal.STATS).to_pylist()}
    assert len(stats) == 6
    assert {row["times_seen"] for row in stats.values()} == {2}
    first = {key: loss for line in reversed(told) for key, _, loss, *_ in line["samples"]}
    assert {key: row["first_loss"] for key, row in stats.items()} == first
    with pytest.raises(ConfigError, match=f"found steps 0 to {len(told) - 1}"):
        list(explain(str(run), 99, False))
