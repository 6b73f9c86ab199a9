"""What compiling the blocks promises: the same losses; and words for a machine that cannot."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from mmdata.errors import ConfigError
from mmdata.train import attention
from mmdata.train.blocks import blocks
from mmdata.train.engine import train
from mmdata.train.journal import LOG, read
from tests.train import tiny


@pytest.fixture(autouse=True)
def _as_before() -> Any:
    yield
    attention.register()
    torch.compiler.reset()


INDUCTOR = [  # its compiler takes half a minute
    pytest.mark.chaos, pytest.mark.timeout(400),
    pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("backend", "checkpointing"),
    [
        ("eager", True),
        pytest.param("inductor", False, marks=INDUCTOR),
        pytest.param("inductor", True, marks=INDUCTOR),
    ],
)
def test_compiled_blocks_learn_the_same(tiny_path: Path, tmp_path: Path, backend: str, checkpointing: bool) -> None:
    found, graphs = [], []
    for name, compiles in (("eager", False), ("compiled", True)):
        machine = {
            "folder": str(tmp_path), "compile": compiles, "compile_backend": backend,
            "gradient_checkpointing": checkpointing,
        }  # fmt: skip
        config = tiny.config(
            tiny_path, str(tiny_path / "eight"), name=name, stage="joint", machine=machine,
            plan={"tokens_per_pack": 64, "packs_per_step": 1, "epochs": 2}, optimizer={"lr_llm": 1e-3},
        )  # fmt: skip
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        train(config)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"] - before)
        found.append([line["loss"] for line in read(tmp_path / name / LOG)])
    assert len(found[0]) > 4
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert graphs[0] == 0
    assert 1 < graphs[1] < 8  # packs of other lengths, and the second block, are no reason to compile again


def test_a_backend_that_does_not_work_is_named(tiny_path: Path, tmp_path: Path) -> None:
    machine = {"folder": str(tmp_path), "compile": True, "compile_backend": "none-such"}
    with pytest.raises(ConfigError, match=r"machine\.compile: torch\.compile with none-such does not work here"):
        train(tiny.config(tiny_path, str(tiny_path / "eight"), machine=machine))


def test_blocks_are_found_whatever_their_name() -> None:
    gpt = GPT2LMHeadModel(GPT2Config(n_layer=3, n_embd=8, n_head=2, vocab_size=20, n_positions=8))
    assert blocks(gpt) is gpt.transformer.h
