"""Narrow weights: models with batch norms compute as they did. Memory: what was freed is used again."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest
import torch
from torch import nn

from mmdata.train.device import DTYPES, computing, narrow


@pytest.mark.parametrize("precision", DTYPES)
def test_batch_norms_keep_fp32_as_their_statistics_do(precision: str) -> None:
    torch.manual_seed(0)
    tower = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    tower.eval().requires_grad_(False)
    pixels_BCHW = torch.randn(2, 3, 5, 5)
    expected = tower(pixels_BCHW)
    narrow(tower, precision)
    assert [weight.dtype for weight in (tower[0].weight, tower[1].weight, tower[4].bias)] == [
        DTYPES[precision], torch.float32, DTYPES[precision],
    ]  # fmt: skip
    with computing(torch.device("cpu"), precision):
        found = tower(pixels_BCHW.to(DTYPES[precision]))
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)


FAULTS = """
import resource, sys
from mmdata.train.device import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"x") * (1 << 27)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="malloc of another C library than glibc")
def test_memory_that_was_freed_is_not_asked_of_the_kernel_again() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("keep") < 10 < faults("leave")
