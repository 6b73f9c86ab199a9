"""What boards promise: every number of the log at its step, once also after a kill; a missing package is named."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmdata.errors import ConfigError
from mmdata.train import checkpoint
from mmdata.train.boards import Boards
from mmdata.train.config import TrainConfig
from mmdata.train.engine import train
from mmdata.train.journal import LOG, read
from tests.train import shelf, tiny


def train_and_die(config: TrainConfig, step: int) -> None:
    """Train until the numbers of a step are on the board, then end as kill -9 ends a process."""
    write = Boards.write

    def last(self: Boards, line: Mapping[str, Any]) -> None:
        write(self, line)
        if line["step"] == step:
            os.kill(os.getpid(), signal.SIGKILL)

    Boards.write = last  # type: ignore[method-assign]
    train(config)


def test_tensorboard_has_each_step_once_with_losses_by_source_and_modality(tiny_path: Path, tmp_path: Path) -> None:
    samples = [shelf.captioned(number, source=("cats", "dogs")[number % 2]) for number in range(6)]
    data = shelf.write(tmp_path / "data", "image_text", samples)
    plan = {"tokens_per_pack": 64, "packs_per_step": 1, "epochs": 2}
    machine = {"folder": str(tmp_path), "checkpoint_every": 2}
    config = tiny.config(tiny_path, data, plan=plan, machine=machine, watch={"tensorboard": True})
    dying = multiprocessing.get_context("fork").Process(target=train_and_die, args=(config, 2))
    dying.start()
    dying.join()
    assert dying.exitcode == -signal.SIGKILL
    [kept] = checkpoint.checkpoints(tmp_path / "tiny" / "checkpoints")
    assert kept.name == "step-000002"  # the third step is told of and then done again
    train(config)
    events = EventAccumulator(str(tmp_path / "tiny" / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    lines = read(tmp_path / "tiny" / LOG)
    assert len(lines) > 3
    for name, value_of in (
        ("loss", lambda line: line["loss"]),
        ("losses/lm", lambda line: line["losses"]["lm"]),
        ("by/modality/image_text", lambda line: line["by"]["modality"]["image_text"]),
        ("lr/projector", lambda line: line["lr"]["projector"]),
    ):
        points = events.Scalars(name)
        assert [point.step for point in points] == [line["step"] for line in lines]
        assert [point.value for point in points] == pytest.approx([value_of(line) for line in lines])
    assert {"by/source/cats", "by/source/dogs"} <= set(events.Tags()["scalars"])


def test_losses_by_source_come_together_to_the_loss(tiny_path: Path, tmp_path: Path) -> None:
    samples = [shelf.captioned(number, 3 + number, source=("cats", "dogs")[number % 2]) for number in range(6)]
    data = shelf.write(tmp_path / "data", "image_text", samples)
    plan = {"tokens_per_pack": 512, "packs_per_step": 1}
    config = tiny.config(tiny_path, data, plan=plan, machine={"folder": str(tmp_path)})
    train(config)
    line = read(tmp_path / "tiny" / LOG)[0]
    told = read(tmp_path / "tiny" / "samples.jsonl")[0]["samples"]
    labels = {source: sum(entry[3] for entry in told if entry[1] == source) for source in ("cats", "dogs")}
    assert set(line["by"]["source"]) == {"cats", "dogs"}
    total = sum(labels[source] * loss for source, loss in line["by"]["source"].items())
    assert total / line["labels"] == pytest.approx(line["loss"], rel=1e-5)
    assert line["by"]["modality"]["image_text"] == pytest.approx(line["loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("watch", "package"), [({"tensorboard": True}, "tensorboard"), ({"wandb": "project"}, "wandb")]
)
def test_a_missing_package_is_named_before_a_step_is_made(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watch: dict[str, object], package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    config = tiny.config(tiny_path, str(tiny_path / "eight"), watch=watch, machine={"folder": str(tmp_path)})
    with pytest.raises(ConfigError, match=f"watch.{package}: needs the package {package}: pip install {package}"):
        train(config)
    assert read(tmp_path / "tiny" / LOG) == []


def test_wandb_goes_on_with_its_run(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    begun = []
    init = wandb.init
    monkeypatch.setattr(wandb, "init", lambda **options: begun.append(init(**options)) or begun[-1])
    plan = {"max_steps": 1}
    config = tiny.config(
        tiny_path, str(tiny_path / "eight"), plan=plan, watch={"wandb": "mmdata"}, machine={"folder": str(tmp_path)}
    )
    train(config)
    assert begun[0].id == f"tiny-{config.hash[:12]}"
    assert begun[0].config["plan"]["max_steps"] == 1
    written = next((tmp_path / "tiny" / "wandb").glob("offline-run-*/*.wandb")).read_bytes()
    assert all(name in written for name in (b"losses/lm", b"by/modality/image_text", b"lr/projector"))
