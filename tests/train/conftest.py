"""One thread for torch, so that sums are added in one order; tiny models are made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.train import shelf


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
