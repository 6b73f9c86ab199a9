"""The processes of a run: rank and number, sums over all of them, rows gathered from all of them with gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as td


@dataclass(frozen=True)
class Dist:
    """One process of `world_size`. group: of torch.distributed, the default one where left out."""

    rank: int = 0
    world_size: int = 1
    group: Any = None

    def sums(self, values: Mapping[str, float]) -> dict[str, float]:
        """Each value summed over all processes; all of them give the same names."""
        if self.world_size == 1:
            return dict(values)
        total = torch.tensor([values[name] for name in sorted(values)], dtype=torch.float64)
        td.all_reduce(total, group=self.group)
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
        total = gradients[0].contiguous()
        td.all_reduce(total, group=ctx.group)
        start = sum(ctx.numbers[: ctx.rank])
        return total[start : start + ctx.numbers[ctx.rank]], None, None, None
