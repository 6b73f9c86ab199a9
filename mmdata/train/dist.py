"""The processes of a run: sums over all of them, rows gathered with gradients, and going on together or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as td

from mmdata.errors import MmdataError


@dataclass(frozen=True)
class Dist:
    """One process of `world_size`. Groups of torch.distributed, the default one where left out.

    group: for rows, apart from that of gradients, so that neither waits in the other's line. control: for numbers and
    texts, over the CPU.
    """

    rank: int = 0
    world_size: int = 1
    group: Any = None
    control: Any = None

    @staticmethod
    @contextlib.contextmanager
    def from_environment(device: str, limit_s: float) -> Iterator[Dist]:
        """The process that torchrun or Ray started, by its variables; one alone where there are none.

        device: cuda or cpu. limit_s: how long a process waits for another before it gives up.
        """
        if int(os.environ.get("WORLD_SIZE", 1)) == 1:
            yield Dist()
            return
        limit = timedelta(seconds=limit_s or 1800)
        if device == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        begun_here = not td.is_initialized()
        if begun_here:
            td.init_process_group("nccl" if device == "cuda" else "gloo", timeout=limit)
        try:
            group, control = td.new_group(timeout=limit), td.new_group(backend="gloo", timeout=limit)
            yield Dist(td.get_rank(), td.get_world_size(), group, control)
        finally:
            if begun_here:
                td.destroy_process_group()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Leave a block together: what one process raises ends it for all. A collective call: all of them make it."""
        failed: Exception | None = None
        try:
            yield
        except Exception as error:
            if self.world_size == 1:
                raise
            failed = error
        if self.world_size > 1 and self.sums({"failed": float(failed is not None)})["failed"]:
            told = [None if failed is None else f"process {self.rank}: {type(failed).__name__}: {failed}"]
            texts = [text for text in self.gathered(told) if text]
            if failed is None:
                raise MmdataError("; ".join(texts))
        if failed is not None:
            raise failed

    def gathered(self, items: Sequence[Any]) -> list[Any]:
        """Items of all processes, in the order of these. A collective call: all of them make it."""
        if self.world_size == 1:
            return list(items)
        found: list[Any] = [None] * self.world_size
        td.all_gather_object(found, list(items), group=self.control)
        return [item for of in found for item in of]

    def sums(self, values: Mapping[str, float]) -> dict[str, float]:
        """Each value summed over all processes; all of them give the same names."""
        if self.world_size == 1:
            return dict(values)
        total = torch.tensor([values[name] for name in sorted(values)], dtype=torch.float64)
        td.all_reduce(total, group=self.control)
        return dict(zip(sorted(values), total.tolist(), strict=True))

    def gather_rows(self, rows_NE: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Rows of all processes in rank order, and where this one's begin; gradients flow back to who gave them.

        Processes may give different numbers of rows, also none. A collective call: all of them make it.
        """
        if self.world_size == 1:
            return rows_NE, 0
        counts = [torch.zeros(1, dtype=torch.int64, device=rows_NE.device) for _ in range(self.world_size)]
        td.all_gather(counts, torch.tensor([len(rows_NE)], device=rows_NE.device), group=self.group)
        numbers = [int(count) for count in counts]
        gathered = _Gather.apply(rows_NE, numbers, self.rank, self.group)
        return gathered, sum(numbers[: self.rank])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_NE: torch.Tensor, numbers: list[int], rank: int, group: Any) -> torch.Tensor:
        ctx.numbers, ctx.rank, ctx.group = numbers, rank, group
        padded = rows_NE.new_zeros(max(1, *numbers), rows_NE.shape[1])
        padded[: len(rows_NE)] = rows_NE
        found = [torch.empty_like(padded) for _ in numbers]
        td.all_gather(found, padded, group=group)
        return torch.cat([rows[:number] for rows, number in zip(found, numbers, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        # Every process used all rows, so a row's gradient is the sum over processes.
        total = gradients[0].clone(memory_format=torch.contiguous_format)  # autograd may use the given one elsewhere
        td.all_reduce(total, group=ctx.group)
        start = sum(ctx.numbers[: ctx.rank])
        return total[start : start + ctx.numbers[ctx.rank]], None, None, None
