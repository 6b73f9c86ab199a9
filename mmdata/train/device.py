"""Where a model computes and how precisely: the device, narrow frozen weights, autocast."""

from __future__ import annotations

import contextlib
import ctypes
import os
from contextlib import AbstractContextManager

import torch
from torch import nn

from mmdata.errors import ConfigError
from mmdata.train.config import TrainConfig

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Options of mallopt in malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def device_of(config: TrainConfig) -> torch.device:
    """This process's device. Raises ConfigError where CUDA is asked for and there is none."""
    cuda = torch.cuda.is_available()
    if config.machine.device == "cuda" and not cuda:
        raise ConfigError(f"{config.path}: machine.device: found cuda, but torch sees no CUDA device; use auto or cpu")
    local = int(os.environ.get("LOCAL_RANK", 0))
    return torch.device("cuda", local) if cuda and config.machine.device != "cpu" else torch.device("cpu")


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks, of less than 1 GiB each, for the whole process; elsewhere this does nothing.

    Else every step on the CPU asks the kernel for its activations anew, page by page.
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        # Before 2.35 glibc takes 32 MiB at most; without a value of ours the others would set this one low for good.
        if mallopt(_MMAP_THRESHOLD, 1 << 30) or mallopt(_MMAP_THRESHOLD, 1 << 25):
            mallopt(_TRIM_THRESHOLD, -1)
            mallopt(_TOP_PAD, 1 << 28)


def narrow(model: nn.Module, precision: str) -> None:
    """Frozen weights in half the bytes; what trains keeps fp32 and is narrowed in each operation by autocast.

    Batch norms keep fp32 too: their statistics do, and torch wants both alike.
    """
    if precision in DTYPES:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                continue
            for parameter in module.parameters(recurse=False):
                if not parameter.requires_grad:
                    parameter.data = parameter.data.to(DTYPES[precision])


def computing(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """The context in which the model runs."""
    return torch.autocast(device.type, DTYPES.get(precision), enabled=precision in DTYPES)
