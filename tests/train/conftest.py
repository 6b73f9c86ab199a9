"""One thread for torch, so that sums are added in one order; tiny models are made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mmdata.train import engine
from tests.train import shelf, tiny


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tiny models are kept, with a data set of eight captioned pictures."""
    path = tmp_path_factory.mktemp("tiny")
    shelf.write(path / "eight", "image_text", [shelf.captioned(number, words=2) for number in range(8)])
    return path


@pytest.fixture(scope="session")
def learned(tiny_path: Path) -> Path:
    """A run that knows eight captions by heart; the val split has the same eight, and a picture that is none."""
    eight = [shelf.captioned(number, words=2) for number in range(8)]
    broken = shelf.Written("made-000000000099", "picture broken", parts={"jpg": b"no picture"})
    shelf.write(tiny_path / "learned", "image_text", eight)
    shelf.write(tiny_path / "learned", "image_text", [*eight, broken], split="val")
    config = tiny.config(
        tiny_path, str(tiny_path / "learned"), name="learned", stage="joint", llm={"template": "plain"},
        plan={"tokens_per_pack": 512, "packs_per_step": 1, "epochs": 40},
        losses={"weights": {"lm": 1.0, "info_nce": 0.2}},
        optimizer={"lr_projector": 1e-2, "lr_llm": 1e-2, "warmup_share": 0.05}, machine={"checkpoint_every": 1000},
    )  # fmt: skip
    return engine.train(config).folder
