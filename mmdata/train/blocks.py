"""The blocks of an LLM: what processes share in parts, and what torch.compile works on."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmdata.errors import ConfigError
from mmdata.train import attention


def blocks(llm: Any) -> nn.ModuleList:
    """The decoder's layers: its first list of modules. Raises ConfigError where it has none."""
    for module in llm.get_decoder().modules():
        if isinstance(module, nn.ModuleList):
            return module
    raise ConfigError(f"llm.model: {type(llm).__name__} has no list of layers; leave out machine.sharding and compile")


def compile_blocks(llm: Any, backend: str) -> None:
    """Let torch.compile make each block's forward; attention by documents stays as it is between two compiled halves.

    To be called after the blocks are shared out, which gives them another class. Raises ConfigError where this machine
    cannot compile.
    """
    import torch._dynamo

    try:
        torch.compile(_probe, backend=backend, fullgraph=True)(torch.ones(2, device=llm.device))
    except Exception as error:  # what compilers raise has no class of its own
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(
            f"machine.compile: torch.compile with {backend} does not work here ({why[0][:200]}); "
            "it needs a C++ compiler (g++) on the CPU and triton on a GPU; without them use machine.compile=false"
        ) from error
    eager: Any = torch.compiler.disable
    attention.register(eager(attention.attend))
    torch._dynamo.config.optimize_ddp = False  # its buckets cut graphs; these are small already
    block: Any
    for block in blocks(llm):
        again = getattr(block, "gradient_checkpointing", False)
        block.gradient_checkpointing = False  # transformers' own stands where nothing inside of it is compiled
        compiled = torch.compile(block.forward, backend=backend, dynamic=True)
        block.forward = functools.partial(checkpoint, compiled, use_reentrant=False) if again else compiled


def _probe(x: torch.Tensor) -> torch.Tensor:
    return torch.sin(x) + 1
