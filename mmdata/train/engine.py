"""Training: one function, `train(config)`, from the plan to the last checkpoint, going on where an earlier call ended.

A step adds up the losses of its packs, each divided by the number of its items over all packs and processes, so the
result does not depend on how samples were shared out. Random numbers follow from (seed, step, rank) alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from mmdata.errors import BudgetError, ChangedError, MmdataError
from mmdata.shards import storage
from mmdata.train import checkpoint, flops, journal, objectives, watch
from mmdata.train.blocks import compile_blocks
from mmdata.train.boards import Boards
from mmdata.train.collate import Batch
from mmdata.train.config import TrainConfig
from mmdata.train.dataset import batches
from mmdata.train.device import DTYPES, computing, device_of
from mmdata.train.dist import Dist
from mmdata.train.optimizer import Optimizer
from mmdata.train.prepared import Prepared, prepare
from mmdata.train.restore import built
from mmdata.train.sharing import share, whole

_log = logging.getLogger(__name__)
_MANY_BAD = 20
_MAX_SKIPPED = 10  # updates in a row without a finite gradient


@dataclass(frozen=True)
class Result:
    """steps: done in all calls. losses: of the last step, by name."""

    folder: Path
    steps: int
    num_steps: int
    losses: dict[str, float]


def train(
    config: TrainConfig,
    dist: Dist | None = None,
    stop: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda text: None,
) -> Result:
    """Train to the end of the plan; where the run folder has a checkpoint, from there on.

    stop: asked after every step; once true in any process, a checkpoint is written and the call returns. tell: given a
    line of text a step, by the first process. Raises ChangedError where the run was begun with another config or other
    data, BudgetError for too many bad samples.
    """
    return begin(config, dist or Dist()).steps(stop, tell)


def begin(config: TrainConfig, dist: Dist) -> Run:
    """The run of a config with its models loaded; where one process cannot begin, none does."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if config.machine.threads:
        torch.set_num_threads(config.machine.threads)
    prepared = None
    with dist.together():
        if dist.rank == 0:
            prepared = prepare(config)
    with dist.together():
        # The first one has measured all samples; the others read what it found.
        prepared = prepared or prepare(config)
    return Run(prepared, dist)


class Run:
    """A model in training, from the newest checkpoint of its folder where there is one."""

    def __init__(self, prepared: Prepared, dist: Dist) -> None:
        self.prepared, self.dist = prepared, dist
        config = self.config = prepared.config
        self.plan = prepared.plan
        found = _newest(prepared.folder, dist)
        with dist.together():
            self.plan.packs_of(0, dist.rank, dist.world_size)  # refuses a number of processes before anything is loaded
            self.state = checkpoint.State(0, self.plan.hash, config.hash)
            if found:
                self.state = _checked(checkpoint.read_state(found[0]), self.state, prepared.folder)
            self.device = device_of(config)
            self.model = built(config, prepared.specs, prepared.tokenizer, dist, found[0] if found else None)
            self.flops = flops.StepFlops(self.model, prepared.specs)
            self.peak_tflops = flops.peak_tflops(self.device, config.machine.peak_tflops)
        gathered_in = DTYPES.get(config.machine.precision)
        self.sharing = share(self.model, dist, config.machine.sharding, self.device, gathered_in)
        with dist.together():
            if config.machine.compile:
                compile_blocks(self.model.decoder, config.machine.compile_backend)
            self.optimizer = Optimizer(self.sharing, self.model, config.optimizer, config.machine, self.plan.num_steps)
            if found:
                self.optimizer.load_state_dict(checkpoint.load_optimizer(found[0]))
        self._seen, self._bad, self._skipped = 0, 0, 0
        self._whole = True  # the parameters are those of self.state

    def steps(self, stop: Callable[[], bool], tell: Callable[[str], None] = lambda text: None) -> Result:
        """Do all steps that are left. See `train`."""
        config, folder = self.config, self.prepared.folder
        start, rank, world = self.state.step, self.dist.rank, self.dist.world_size
        saved_step = start
        watchdog = watch.Watchdog(folder, rank, config.machine.step_limit_s)
        written = boards = None
        with self.dist.together():
            if rank == 0:
                checkpoint.clear_unfinished(folder / "checkpoints")
                boards = Boards(config, folder, start)
                written = journal.Journal(folder, start)
                text = yaml.safe_dump(config.to_yaml(), sort_keys=False)
                storage.write_whole(str(folder / "config.yaml"), text.encode())
        pin = self.device.type == "cuda"
        ahead = iter(batches(self.prepared.loader, self.plan, config.machine, start, rank, world, pin))
        line: dict[str, Any] = {"losses": {}}
        try:
            for step in range(start, self.plan.num_steps):
                watchdog.step(step, [])
                line, told, bad, asked = self._step(step, ahead, watchdog, stop)
                if written is not None and boards is not None:
                    written.write(journal.LOG, line)
                    written.write(journal.SAMPLES, {"step": step, "samples": told})
                    for refused in bad:
                        _log.warning("%s: not used: %s %s", refused["key"], refused["reason"], refused["detail"])
                        written.write(journal.QUARANTINE, refused)
                    boards.write(line)
                    tell(watch.text_of(line, self.plan.num_steps))
                self.state = checkpoint.State(step + 1, self.state.plan_hash, self.state.config_hash)
                self._whole = True
                why = self._judged(line)
                ends = step + 1 == self.plan.num_steps or asked or why is not None
                if ends or (step + 1) % config.machine.checkpoint_every == 0:
                    self.save()
                    saved_step = step + 1
                if why is not None:
                    raise why
                if ends:
                    break
        except Exception:
            # Where processes hold parts of the model, one that fails alone has nobody to put them together with.
            if self._whole and self.state.step > saved_step and not self.sharing.parted:
                self.save()
            raise
        finally:
            watchdog.close()
            for open_file in (written, boards):
                if open_file is not None:
                    open_file.close()
        if rank == 0:
            journal.write_stats(folder)
        return Result(folder, self.state.step, self.plan.num_steps, line["losses"])

    def save(self) -> None:
        """Write a checkpoint, by the first process. A collective call."""
        is_first = self.dist.rank == 0
        weights = whole(checkpoint.trained(self.model), is_first)
        moments = self.optimizer.state_dict(is_first)
        if is_first:
            folder = self.prepared.folder / "checkpoints"
            checkpoint.save(folder, weights, moments, self.state, self.config.machine.keep_checkpoints)

    def _step(
        self, step: int, ahead: Iterator[Batch], watchdog: watch.Watchdog, stop: Callable[[], bool]
    ) -> tuple[dict[str, Any], list[Any], list[Any], bool]:
        """One update: its line, its samples, those it could not use, and whether any process was asked to stop."""
        begun = time.perf_counter()
        group = self.plan.options.packs_per_step // self.dist.world_size
        packs: list[Batch] = []
        with self.dist.together():
            packs += itertools.islice(ahead, group)
        watchdog.step(step, [key for pack in packs for key in pack.keys])
        waited_s = time.perf_counter() - begun
        names = self.model.objectives.names
        totals = dict.fromkeys(names, 0.0)
        for pack in packs:
            for name, count in objectives.counts(pack, names).items():
                totals[name] += count
        facts = {
            "tokens": sum(len(pack.ids_T) for pack in packs if pack.keys),
            "labels": sum(pack.num_labels for pack in packs),
            "bad": sum(len(pack.bad) for pack in packs),
            "samples": sum(len(pack.keys) for pack in packs),
            "flops": sum(self.flops.of(pack) for pack in packs),
        }
        shared = self.dist.sums({**{f"count.{k}": v for k, v in totals.items()}, **facts})
        counts = {name: shared.pop(f"count.{name}") for name in names}
        torch.manual_seed(_seed(self.config.seed, step, self.dist.rank))
        sums, report, told = self._backward(packs, counts)
        rates = {part: self.optimizer.rate(part, step) for part in self.optimizer.trained_parts()}
        self._whole = False
        norm, updated = self.optimizer.update(step)
        sums = self.dist.sums({**sums, "stop": float(stop())})
        losses = {name: sums[name] / max(1.0, counts[name]) for name in names}
        weights = self.config.losses.weights
        spent_s = time.perf_counter() - begun
        loaded = [pack.seconds for pack in packs]
        told, bad = self.dist.gathered(told), self.dist.gathered([line for pack in packs for line in pack.bad])
        tflops = shared["flops"] / spent_s / self.dist.world_size / 1e12
        room = self.plan.options.tokens_per_pack * self.plan.options.packs_per_step
        line = {
            "step": step, "epoch": self.plan.epoch_of(step),
            "loss": sum(weights[name] * value for name, value in losses.items()), "losses": losses,
            "by": watch.losses_by(told, [entry.modality for entry in self.config.data]), "counts": counts, "lr": rates,
            "grad_norm": norm, "updated": updated, **{name: int(value) for name, value in shared.items()},
            "useful_share": shared["tokens"] / room, "tokens_per_s": shared["tokens"] / spent_s, "step_s": spent_s,
            "tflops": tflops, "mfu": tflops / self.peak_tflops if self.peak_tflops else None, "stall_s": waited_s,
            "loading_s": {part: sum(s.get(part, 0.0) for s in loaded) for part in ("read", "decode", "encode")},
            "memory_mb": watch.memory_mb(self.device), **report,
        }  # fmt: skip
        return line, told, bad, sums["stop"] > 0

    def _backward(
        self, packs: list[Batch], totals: dict[str, float]
    ) -> tuple[dict[str, float], dict[str, float], list[Any]]:
        """Gradients of the step's packs; sums of losses, figures to report, and every sample with its own loss."""
        sums = dict.fromkeys(totals, 0.0)
        report: dict[str, float] = {}
        told: list[Any] = []
        total: Any = None
        # Processes that share the LLM in parts, or compare pairs with those of others, work in step, so one that fails
        # cannot ask the others: it ends, and the others see that it is gone.
        in_step = self.sharing.parted or self.model.objectives.gathers
        with contextlib.nullcontext() if in_step else self.dist.together():
            for pack in packs:
                is_last = pack is packs[-1]
                with contextlib.nullcontext() if is_last else self.sharing.apart():
                    found, total, figures = self._losses(pack, totals)
                    if not is_last:
                        total.backward()
                for name, values in found.items():
                    sums[name] += float(values.detach().double().sum())
                report |= figures
                told += watch.samples_of(pack, found.get("lm"))
        # Replicas share their gradients once a step, as those of the last pack come in; by then nobody has failed.
        total.backward()
        self.sharing.settle()
        return sums, report, told

    def _losses(self, pack: Batch, totals: dict[str, float]) -> tuple[dict[str, torch.Tensor], Any, dict[str, float]]:
        """Losses of a pack by name, what its gradient is of, and figures to report."""
        with computing(self.device, self.config.machine.precision):
            found, total, figures = self.sharing.call(pack.to(self.device))
        for name, values in found.items():
            # Gradients are added up over packs and processes, and their items over both are `totals`.
            total = total + self.config.losses.weights[name] / max(1.0, totals[name]) * values.sum()
        return found, total * self.optimizer.scale.value, figures

    def _judged(self, line: dict[str, Any]) -> MmdataError | None:
        """Why going on makes no sense, if so; the same in all processes."""
        self._seen += line["samples"] + line["bad"]
        self._bad += line["bad"]
        limit = self.config.machine.max_bad_share
        if self._bad >= _MANY_BAD and self._bad > limit * self._seen:
            where = self.prepared.folder / journal.QUARANTINE
            found = f"{self._bad} of {self._seen} samples could not be used"
            return BudgetError(f"{found}, {limit:.0%} allowed; see {where}")
        self._skipped = 0 if line["updated"] else self._skipped + 1
        if self._skipped >= _MAX_SKIPPED:
            told = f"no finite gradient in {_MAX_SKIPPED} steps; see `samples` of these steps"
            return MmdataError(f"step {line['step']}: {told}")
        return None


def _newest(folder: Path, dist: Dist) -> list[Path]:
    """The newest checkpoint, if any. Raises MmdataError where processes see different ones, as a slow disk may show."""
    found = checkpoint.checkpoints(folder / "checkpoints")[-1:]
    seen = dist.gathered([found[0].name if found else "none"])
    if len(set(seen)) > 1:
        raise MmdataError(f"{folder}: processes see different newest checkpoints: {', '.join(seen)}; start them again")
    return found


def _checked(found: checkpoint.State, now: checkpoint.State, folder: Path) -> checkpoint.State:
    if found.config_hash != now.config_hash:
        raise ChangedError(f"{folder}: was begun with another config (see its config.yaml); give this one another name")
    if found.plan_hash != now.plan_hash:
        raise ChangedError(f"{folder}: its data have changed since it was begun; give this run another name")
    return found


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "little")
