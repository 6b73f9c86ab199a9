"""Packs of the plan, read ahead and decoded in worker processes, in the order of the plan whatever the workers do."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch.utils.data import DataLoader, Dataset

from mmdata.errors import Reason, SampleError
from mmdata.train.collate import Batch, pack
from mmdata.train.plan import Pack, Plan
from mmdata.train.samples import Place, Prepared, SampleLoader
from mmdata.train.sections import MachineOptions


class PackDataset(Dataset[Batch]):
    """Packs by their entry in the plan. A sample that cannot be used leaves its place empty and is told in `bad`."""

    def __init__(self, loader: SampleLoader, tokens_per_pack: int) -> None:
        self._loader, self._tokens_per_pack = loader, tokens_per_pack

    def __getitem__(self, asked: Pack) -> Batch:
        samples: list[Prepared] = []
        bad: list[dict[str, Any]] = []
        kept: list[Place] = []
        used = 0
        for place, found in zip(asked.samples, self._loader.load_all(asked.samples, asked.epoch), strict=True):
            if isinstance(found, Prepared) and used + len(found.ids) > self._tokens_per_pack:
                # Estimated lengths may fall short; what is over is told, never cut.
                found = SampleError(Reason.TOO_LONG, f"{len(found.ids)} tokens are more than its pack has left")
            if isinstance(found, SampleError):
                bad.append(self._line(asked, place, found))
                continue
            used += len(found.ids)
            samples.append(found)
            kept.append(place)
        return replace(pack(samples, asked.step, asked.number, bad), places=kept)

    def _line(self, asked: Pack, place: Place, error: SampleError) -> dict[str, Any]:
        options, reader = self._loader.data[place.entry], self._loader.reader(place.entry)
        return {
            "step": asked.step,
            "key": reader.places(place.shard).keys[place.row],
            "dataset": options.dataset,
            "modality": options.modality,
            "split": options.split,
            "shard": place.shard,
            "row": place.row,
            "reason": error.reason.value,
            "detail": error.detail[:200],
        }


class PackOrder:
    """One rank's packs from a step to the end of the plan, over all epochs: a sampler without a seam between epochs."""

    def __init__(self, plan: Plan, start_step: int, rank: int, world_size: int) -> None:
        self._plan, self._start, self._rank, self._world_size = plan, start_step, rank, world_size

    def __iter__(self) -> Iterator[Pack]:
        for step in range(self._start, self._plan.num_steps):
            yield from self._plan.packs_of(step, self._rank, self._world_size)

    def __len__(self) -> int:
        return (self._plan.num_steps - self._start) * (self._plan.options.packs_per_step // self._world_size)


def batches(
    loader: SampleLoader, plan: Plan, machine: MachineOptions, start_step: int, rank: int, world_size: int, pin: bool
) -> DataLoader[Batch]:
    """This rank's batches from start_step on, the next ones read ahead by `machine.workers` processes."""
    return DataLoader(
        PackDataset(loader, plan.options.tokens_per_pack),
        batch_size=None,
        sampler=PackOrder(plan, start_step, rank, world_size),
        num_workers=machine.workers,
        prefetch_factor=machine.prefetch if machine.workers else None,
        pin_memory=pin,
        worker_init_fn=_quiet,
    )


def _quiet(_: int) -> None:
    """One thread a worker: their number is the parallelism.

    Signals to the whole group are for the trainer, who still needs packs for its last step; a second SIGTERM ends.
    """
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    cv2.setNumThreads(0)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
