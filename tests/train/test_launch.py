"""What other launchers promise: torchrun and Ray train as plain processes do, and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import psutil
import pytest
import yaml

from mmdata.train import checkpoint
from mmdata.train.engine import train
from mmdata.train.journal import LOG, read
from tests.train.test_processes import config_of

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mmdata", "train"]
RAY = ["-m", "mmdata", "train", "--ray-address", "local", "--processes", "2"]


@pytest.fixture(scope="module")
def expected(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process, with its training file beside it."""
    path = tmp_path_factory.mktemp("launch")
    config = config_of(tiny_path, path, "one", losses={"weights": {"lm": 1.0}})
    (path / "tiny.yaml").write_text(yaml.safe_dump(config.to_yaml()))
    train(config)
    return path


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "launcher", "sharding"),
    [
        pytest.param("torchrun", TORCHRUN, "fsdp", marks=pytest.mark.slow, id="torchrun"),
        pytest.param(
            "ray", RAY, "ddp", marks=pytest.mark.chaos, id="ray"
        ),  # of its half minute Ray's start is the most
    ],
)
def test_a_launcher_trains_as_one_process_does(
    expected: Path, tmp_path: Path, name: str, launcher: list[str], sharding: str
) -> None:
    mark = uuid.uuid4().hex
    given = [str(expected / "tiny.yaml"), f"name={name}", f"machine.sharding={sharding}", "machine.workers=1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MMDATA_TEST_MARK": mark, "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, *launcher, *given], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    count = len(read(expected / "runs" / "one" / LOG))
    told = [line.split("  ")[0] for line in done.stdout.splitlines() if line.startswith("step ")]
    assert told == [f"step {number}/{count}" for number in range(1, count + 1)]
    runs = expected / "runs"
    alone, shared = (read(runs / run / LOG) for run in ("one", name))
    assert [line["loss"] for line in shared] == pytest.approx([line["loss"] for line in alone], rel=1e-5)
    newest = checkpoint.checkpoints(runs / name / "checkpoints")[-1]
    assert checkpoint.read_state(newest).step == len(alone)
    assert [process for process in psutil.process_iter() if is_marked(process, mark)] == []


def is_marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get("MMDATA_TEST_MARK") == mark
    except psutil.Error:
        return False
