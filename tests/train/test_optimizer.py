"""What an update promises: clipped as torch clips, and a gradient that is not finite changes nothing but the scale."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmdata.train.dist import Dist
from mmdata.train.engine import Run
from mmdata.train.optimizer import LossScale
from mmdata.train.prepared import prepare
from tests.train import tiny


@pytest.fixture
def run(tiny_path: Path, tmp_path: Path) -> Run:
    machine = {"folder": str(tmp_path), "precision": "fp16"}
    config = tiny.config(
        tiny_path, str(tiny_path / "eight"), stage="joint", machine=machine, optimizer={"clip_norm": 0.5}
    )
    return Run(prepare(config), Dist())


def test_gradients_are_unscaled_and_clipped_as_torch_does(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    gradients = [torch.randn_like(parameter) for parameter in run.optimizer.parameters]
    for parameter, gradient in zip(run.optimizer.parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    expected = float(torch.nn.utils.clip_grad_norm_(run.optimizer.parameters, 0.5))
    clipped = [parameter.grad for parameter in run.optimizer.parameters]
    for parameter, gradient in zip(run.optimizer.parameters, gradients, strict=True):
        parameter.grad = gradient * run.optimizer.scale.value
    taken: list[torch.Tensor] = []
    monkeypatch.setattr(
        run.optimizer.adamw, "step", lambda: taken.extend(p.grad.clone() for p in run.optimizer.parameters)
    )
    norm, updated = run.optimizer.update(0)
    assert updated
    assert norm == pytest.approx(expected, rel=1e-5)
    for ours, theirs in zip(taken, clipped, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)


def test_one_gradient_that_is_not_finite_changes_nothing_and_halves_the_scale(run: Run) -> None:
    before = [parameter.detach().clone() for parameter in run.optimizer.parameters]
    for parameter in run.optimizer.parameters:
        parameter.grad = torch.ones_like(parameter)
    run.optimizer.parameters[-1].grad.view(-1)[0] = float("inf")  # type: ignore[union-attr]
    scale = run.optimizer.scale.value
    norm, updated = run.optimizer.update(0)
    assert (norm, updated) == (float("inf"), False)
    assert run.optimizer.scale.value == scale / 2
    assert all(torch.equal(a, b) for a, b in zip(before, run.optimizer.parameters, strict=True))
    assert all(parameter.grad is None for parameter in run.optimizer.parameters)


def test_the_scale_grows_after_two_thousand_good_updates_in_a_row() -> None:
    scale = LossScale(enabled=True)
    scale.update(False)
    for _ in range(1999):
        scale.update(True)
    assert scale.value == 32768
    scale.update(True)
    assert (scale.value, scale.good) == (65536, 0)
    off = LossScale(enabled=False)
    off.update(False)
    assert off.value == 1
