"""What a checkpoint promises: whole or not there, the newest kept, read back exactly, refused where it does not fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mmdata.errors import ConfigError, DamageError, StorageError
from mmdata.train import checkpoint
from mmdata.train.checkpoint import State, trained
from mmdata.train.optimizer import rate_factor
from mmdata.train.sections import OptimizerOptions


class Model(nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.projectors = nn.ModuleDict({"image": nn.Linear(width, 2)})
        self.llm = nn.Linear(2, 2).requires_grad_(False)


def state(step: int) -> State:
    return State(step, "plan", "config")


def test_what_trains_is_saved_and_comes_back_exactly(tmp_path: Path) -> None:
    model, other = Model(), Model()
    model.projectors["image"].weight.data[0, 0] = 0.1 + 2**-24
    optimizer = torch.optim.AdamW(model.projectors.parameters())
    model.projectors["image"](torch.ones(1, 3)).sum().backward()
    optimizer.step()
    path = checkpoint.save(tmp_path, trained(model), {"adamw": optimizer.state_dict()}, state(7), keep=2)
    assert path.name == "step-000007"
    assert sorted(file.name for file in path.iterdir()) == ["model.safetensors", "optimizer.pt", "state.json"]
    frozen = other.llm.weight.clone()
    checkpoint.load_model(path, other, whole=True)
    for name, value in model.projectors.named_parameters():
        assert torch.equal(value, dict(other.projectors.named_parameters())[name])
    assert torch.equal(other.llm.weight, frozen)
    assert checkpoint.read_state(path) == state(7)
    moments = checkpoint.load_optimizer(path)["adamw"]["state"]
    assert torch.equal(moments[0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])


def test_only_the_newest_are_kept_and_half_written_ones_are_not_seen(tmp_path: Path) -> None:
    (tmp_path / ".step-000009-abcd").mkdir()
    for step in (1, 2, 3, 10):
        checkpoint.save(tmp_path, trained(Model()), {}, state(step), keep=2)
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["step-000003", "step-000010"]
    checkpoint.clear_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000003", "step-000010"]
    assert checkpoint.checkpoints(tmp_path / "none") == []


@pytest.mark.parametrize("breaks", ["rename", "fsync"])
def test_a_save_that_fails_leaves_the_older_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: str
) -> None:
    checkpoint.save(tmp_path, trained(Model()), {}, state(1), keep=1)

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, breaks, full)
        with pytest.raises(StorageError, match="storage is full"):
            checkpoint.save(tmp_path, trained(Model()), {}, state(2), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    assert checkpoint.read_state(tmp_path / "step-000001") == state(1)


def test_the_same_step_is_written_again(tmp_path: Path) -> None:
    for _ in range(2):
        checkpoint.save(tmp_path, trained(Model()), {}, state(1), keep=3)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, trained(Model()), {}, state(1), keep=1)
    with pytest.raises(ConfigError, match=r"projectors\.image\.weight: found \(2, 3\), this model has \(2, 4\)"):
        checkpoint.load_model(path, Model(4), whole=True)
    bigger = Model()
    bigger.projectors["audio"] = nn.Linear(3, 2)
    with pytest.raises(ConfigError, match=r"lacks projectors\.audio\.weight and 1 more"):
        checkpoint.load_model(path, bigger, whole=True)
    checkpoint.load_model(path, bigger, whole=False)
    without = Model()
    without.projectors = nn.ModuleDict()
    with pytest.raises(ConfigError, match=r"has projectors\.image\.\w+ and 1 more that this model has not"):
        checkpoint.load_model(path, without, whole=False)
    (path / "state.json").write_text("{")
    with pytest.raises(DamageError, match="no whole checkpoint"):
        checkpoint.read_state(path)


def test_rates_warm_up_and_fall_as_a_cosine() -> None:
    options = OptimizerOptions(warmup_share=0.1, final_lr_share=0.1)
    factors = [rate_factor(options, step, 100) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.55)
    assert factors[99] == pytest.approx(0.1, abs=0.001)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    constant = OptimizerOptions(warmup_share=0, schedule="constant")
    assert {rate_factor(constant, step, 50) for step in range(50)} == {1.0}
