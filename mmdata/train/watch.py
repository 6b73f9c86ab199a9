"""What is told of a step: every sample with its own loss, memory, a line of text; and stacks where a step hangs."""

from __future__ import annotations

import faulthandler
import resource
from pathlib import Path
from typing import Any

import torch

from mmdata.train.chat import IGNORE
from mmdata.train.collate import Batch


def samples_of(pack: Batch, token_losses: torch.Tensor | None) -> list[Any]:
    """[key, source, mean loss, labels, [entry of data, shard, row]] of every sample of a pack, for `samples.jsonl`."""
    sample_K = pack.sample_T[pack.labels_T != IGNORE]
    counts_S = torch.bincount(sample_K, minlength=len(pack.keys)).tolist()
    means: list[float | None] = [None] * len(pack.keys)
    if token_losses is not None:
        sums_S = torch.zeros(max(1, len(pack.keys))).index_add_(0, sample_K, token_losses.detach().float().cpu())
        means = [total / max(1, count) for total, count in zip(sums_S.tolist(), counts_S, strict=False)]
    return [list(of) for of in zip(pack.keys, pack.sources, means, counts_S, map(tuple, pack.places), strict=False)]


def losses_by(told: list[Any], modalities: list[str]) -> dict[str, dict[str, float]]:
    """Mean loss of a labelled token by source and by modality. modalities: of the entries of `data`."""
    sums: dict[str, dict[str, list[float]]] = {"source": {}, "modality": {}}
    for _, source, mean, labels, (entry, _, _) in told:
        for by, name in (("source", source or "-"), ("modality", modalities[entry])):
            if mean is not None and labels:
                total = sums[by].setdefault(name, [0.0, 0.0])
                total[0] += mean * labels
                total[1] += labels
    return {by: {name: total / count for name, (total, count) in sorted(of.items())} for by, of in sums.items()}


def memory_mb(device: torch.device) -> int:
    """The most that was held so far, on the GPU or by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def text_of(line: dict[str, Any], num_steps: int) -> str:
    """A line of `log.jsonl` for a terminal; where loading kept the step waiting, with what took longest."""
    losses = ", ".join(f"{name} {value:.4f}" for name, value in line["losses"].items())
    rates = ", ".join(f"{part} {rate:.2e}" for part, rate in line["lr"].items())
    stall = line["stall_s"] / line["step_s"]
    cause = max(line["loading_s"], key=line["loading_s"].get)
    return "  ".join(
        [
            f"step {line['step'] + 1}/{num_steps}",
            f"loss {line['loss']:.4f}" + (f" ({losses})" if len(line["losses"]) > 1 else ""),
            f"lr {rates}",
            f"{line['tokens_per_s']:.0f} tokens/s",
            f"{line['tflops'] * 1000:.3g} GFLOP/s" if line["mfu"] is None else f"mfu {line['mfu']:.1%}",
            f"useful {line['useful_share']:.0%}",
            f"stall {stall:.0%}" + (f" ({cause})" if stall > 0.02 else ""),
            f"{line['memory_mb']:,} MB",
            *([f"bad {line['bad']}"] if line["bad"] else []),
            *([] if line["updated"] else ["no finite gradient: not updated"]),
        ]
    )


class Watchdog:
    """Ends this process, with the stacks of all its threads in a file, when a step takes longer than `limit_s`.

    The file says which step and which samples. The timer is a thread of C, so a lock held by Python cannot stop it.
    """

    def __init__(self, folder: Path, rank: int, limit_s: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._limit_s = folder / f"stacks-{rank}.txt", limit_s
        self._file = self._path.open("w")

    def step(self, step: int, keys: list[str]) -> None:
        """The time of a step begins, or of the part of it in which these samples are worked on."""
        faulthandler.cancel_dump_traceback_later()
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"step {step}, samples {' '.join(keys) or 'not loaded yet'}\n")
        self._file.flush()
        if self._limit_s:
            faulthandler.dump_traceback_later(self._limit_s, file=self._file, exit=True)

    def close(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._file.close()
        self._path.unlink(missing_ok=True)
