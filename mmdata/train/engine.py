"""Training: one function, `train(config)`, from the plan to the last checkpoint, going on where an earlier call ended.

A step adds up the losses of its packs, each divided by the number of its items over all packs and processes, so the
result does not depend on how samples were shared out. Random numbers follow from (seed, step, rank) alone.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from mmdata.errors import BudgetError, ChangedError, ConfigError, MmdataError
from mmdata.shards import storage
from mmdata.train import checkpoint, journal, objectives
from mmdata.train.chat import IGNORE, Chat
from mmdata.train.collate import Batch
from mmdata.train.config import TrainConfig
from mmdata.train.dataset import batches
from mmdata.train.dist import Dist
from mmdata.train.encoders import spec_of
from mmdata.train.media import MediaSpec
from mmdata.train.model import MultimodalLM, load_llm, load_tokenizer
from mmdata.train.optimizer import Optimizer
from mmdata.train.plan import Plan
from mmdata.train.pools import pool_of
from mmdata.train.samples import SampleLoader
from mmdata.train.sections import Kind

_log = logging.getLogger(__name__)
_MANY_BAD = 20
_MAX_SKIPPED = 10  # updates in a row without a finite gradient
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Prepared:
    """What a run knows before any model is loaded."""

    config: TrainConfig
    folder: Path
    tokenizer: Any
    specs: dict[Kind, MediaSpec]
    loader: SampleLoader
    plan: Plan


@dataclass(frozen=True)
class Result:
    """steps: done in all calls. losses: of the last step, by name."""

    folder: Path
    steps: int
    num_steps: int
    losses: dict[str, float]


def prepare(config: TrainConfig) -> Prepared:
    """Tokenizer, specs of encoders, and the plan. Raises ConfigError where they cannot be had."""
    objectives.check(config.losses, f"{config.path}: losses")
    tokenizer = load_tokenizer(config.llm)
    specs: dict[Kind, MediaSpec] = {}
    for kind, options in config.encoders.items():
        shown = config.encoders["image"] if options.share else options
        specs[kind] = spec_of(shown, config.projectors[kind], kind)
        if options.share:
            specs[kind] = replace(specs[kind], frames=options.frames)
    folder = Path(config.machine.folder) / config.name
    chat = Chat(tokenizer, config.llm.template, config.llm.system)
    loader = SampleLoader(config.data, chat, specs, config.augment, config.seed, config.plan.tokens_per_pack)
    kept = storage.join(str(folder), "lengths")
    pools = [pool_of(loader, entry, config.plan.lengths, kept) for entry in range(len(config.data))]
    return Prepared(config, folder, tokenizer, specs, loader, Plan(pools, config.plan, config.seed))


def train(config: TrainConfig, dist: Dist | None = None, stop: Callable[[], bool] = lambda: False) -> Result:
    """Train to the end of the plan; where the run folder has a checkpoint, from there on.

    stop: asked after every step; once true, a checkpoint is written and the call returns.
    Raises ChangedError where the run was begun with another config or other data, BudgetError for too many bad samples.
    """
    dist = dist or Dist()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if config.machine.threads:
        torch.set_num_threads(config.machine.threads)
    prepared = prepare(config)
    return Run(prepared, dist).steps(stop)


class Run:
    """A model in training, from the newest checkpoint of its folder where there is one."""

    def __init__(self, prepared: Prepared, dist: Dist) -> None:
        self.prepared, self.dist = prepared, dist
        config = self.config = prepared.config
        self.plan = prepared.plan
        self.plan.packs_of(0, dist.rank, dist.world_size)  # refuses a number of processes before anything is loaded
        found = checkpoint.checkpoints(prepared.folder / "checkpoints")
        self.state = checkpoint.State(0, self.plan.hash, config.hash)
        if found:
            self.state = _checked(checkpoint.read_state(found[-1]), self.state, prepared.folder)
        self.device = _device(config)
        torch.manual_seed(config.seed)
        self.model = MultimodalLM(config, prepared.specs, load_llm(config.llm), blank_id(prepared.tokenizer), dist)
        if config.init and not found:
            checkpoint.load_model(checkpoint.resolve(config.init), self.model, whole=False)
        if found:
            checkpoint.load_model(found[-1], self.model, whole=True)
        if config.machine.precision != "fp32":
            _narrow(self.model, _DTYPES[config.machine.precision])
        self.model.to(self.device)
        self.optimizer = Optimizer(self.model, config.optimizer, config.machine, self.plan.num_steps)
        if found:
            self.optimizer.load_state_dict(checkpoint.load_optimizer(found[-1]))
        self.call: Any = self.model  # may be wrapped to share gradients; what is saved is always self.model
        self._seen, self._bad, self._skipped = 0, 0, 0

    def steps(self, stop: Callable[[], bool]) -> Result:
        """Do all steps that are left."""
        config, folder = self.config, self.prepared.folder
        main = self.dist.rank == 0
        written = None
        if main:
            checkpoint.clear_unfinished(folder / "checkpoints")
            written = journal.Journal(folder, self.state.step)
            storage.write_whole(str(folder / "config.yaml"), yaml.safe_dump(config.to_yaml(), sort_keys=False).encode())
        start, rank, world = self.state.step, self.dist.rank, self.dist.world_size
        pin = self.device.type == "cuda"
        ahead = iter(batches(self.prepared.loader, self.plan, config.machine, start, rank, world, pin))
        losses: dict[str, float] = {}
        try:
            for step in range(start, self.plan.num_steps):
                losses = self._step(step, ahead, written)
                self.state = checkpoint.State(step + 1, self.state.plan_hash, self.state.config_hash)
                ends = step + 1 == self.plan.num_steps or stop()
                if main and (ends or (step + 1) % config.machine.checkpoint_every == 0):
                    self.save()
                if ends:
                    break
        finally:
            if written is not None:
                written.close()
        return Result(folder, self.state.step, self.plan.num_steps, losses)

    def save(self) -> Path:
        folder = self.prepared.folder / "checkpoints"
        state = self.optimizer.state_dict()
        return checkpoint.save(folder, self.model, state, self.state, self.config.machine.keep_checkpoints)

    def _step(self, step: int, ahead: Any, written: journal.Journal | None) -> dict[str, float]:
        begun = time.perf_counter()
        group = self.plan.options.packs_per_step // self.dist.world_size
        packs: list[Batch] = list(itertools.islice(ahead, group))
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
        }
        shared = self.dist.sums({**{f"count.{k}": v for k, v in totals.items()}, **facts})
        torch.manual_seed(_seed(self.config.seed, step, self.dist.rank))
        sums, report, told = self._backward(packs, {name: shared[f"count.{name}"] for name in names})
        rates = {part: self.optimizer.rate(part, step) for part in self.optimizer.trained_parts()}
        norm, updated = self.optimizer.update(step)
        sums = self.dist.sums(sums)
        losses = {name: sums[name] / max(1.0, shared[f"count.{name}"]) for name in names}
        weights = self.config.losses.weights
        spent_s = time.perf_counter() - begun
        loaded = [pack.seconds for pack in packs]
        line = {
            "step": step, "epoch": self.plan.epoch_of(step),
            "loss": sum(weights[name] * value for name, value in losses.items()), "losses": losses,
            "counts": {name: shared[f"count.{name}"] for name in names}, "lr": rates,
            "grad_norm": norm, "updated": updated, "samples": int(shared["samples"]), "bad": int(shared["bad"]),
            "tokens": int(shared["tokens"]), "labels": int(shared["labels"]),
            "useful_share": shared["tokens"] / (self.plan.options.tokens_per_pack * self.plan.options.packs_per_step),
            "tokens_per_s": shared["tokens"] / spent_s, "step_s": spent_s, "stall_s": waited_s,
            "loading_s": {part: sum(s.get(part, 0.0) for s in loaded) for part in ("read", "decode", "encode")},
            "memory_mb": _memory_mb(self.device), **report,
        }  # fmt: skip
        if written is not None:
            written.write(journal.LOG, line)
            written.write(journal.SAMPLES, {"step": step, "samples": told})
        for pack in packs:
            for bad in pack.bad:
                _log.warning("%s: not used: %s %s", bad["key"], bad["reason"], bad["detail"])
                if written is not None:
                    written.write(journal.QUARANTINE, bad)
        self._judge(step, shared, updated)
        return losses

    def _backward(
        self, packs: list[Batch], totals: dict[str, float]
    ) -> tuple[dict[str, float], dict[str, float], list[Any]]:
        """Gradients of the step's packs; sums of losses, figures to report, and every sample with its own loss."""
        precision = self.config.machine.precision
        weights = self.config.losses.weights
        sums = dict.fromkeys(totals, 0.0)
        report: dict[str, float] = {}
        told: list[Any] = []
        for pack in packs:
            on_device = pack.to(self.device)
            with torch.autocast(self.device.type, _DTYPES.get(precision), enabled=precision != "fp32"):
                found, total, figures = self.call(on_device)
            for name, values in found.items():
                if len(values):
                    # Processes add their gradients up and divide by their number; here that division is undone.
                    total = total + weights[name] * values.sum() / max(1.0, totals[name]) * self.dist.world_size
                    sums[name] += float(values.detach().double().sum())
            self.optimizer.scaler.scale(total).backward()
            report |= figures
            told += _samples(pack, found.get("lm"))
        return sums, report, told

    def _judge(self, step: int, shared: dict[str, float], updated: bool) -> None:
        """Raise where going on makes no sense."""
        self._seen += int(shared["samples"] + shared["bad"])
        self._bad += int(shared["bad"])
        limit = self.config.machine.max_bad_share
        if self._bad >= _MANY_BAD and self._bad > limit * self._seen:
            where = self.prepared.folder / journal.QUARANTINE
            found = f"{self._bad} of {self._seen} samples could not be used"
            raise BudgetError(f"{found}, {limit:.0%} allowed; see {where}")
        self._skipped = 0 if updated else self._skipped + 1
        if self._skipped >= _MAX_SKIPPED:
            raise MmdataError(f"step {step}: no finite gradient in {_MAX_SKIPPED} steps; see `samples` of these steps")


def blank_id(tokenizer: Any) -> int:
    """The token that stands for nothing: it masks words, and is the blank of CTC."""
    known = (tokenizer.mask_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id)
    return int(next(token for token in known if token is not None))


def _samples(pack: Batch, token_losses: torch.Tensor | None) -> list[Any]:
    """[key, source, mean loss, labels] of every sample of a pack, for `samples.jsonl`."""
    sample_K = pack.sample_T[pack.labels_T != IGNORE]
    counts_S = torch.bincount(sample_K, minlength=len(pack.keys)).tolist()
    means: list[float | None] = [None] * len(pack.keys)
    if token_losses is not None:
        sums_S = torch.zeros(max(1, len(pack.keys))).index_add_(0, sample_K, token_losses.detach().float().cpu())
        means = [total / max(1, count) for total, count in zip(sums_S.tolist(), counts_S, strict=False)]
    return [list(of) for of in zip(pack.keys, pack.sources, means, counts_S, strict=False)]


def _checked(found: checkpoint.State, now: checkpoint.State, folder: Path) -> checkpoint.State:
    if found.config_hash != now.config_hash:
        raise ChangedError(f"{folder}: was begun with another config (see its config.yaml); give this one another name")
    if found.plan_hash != now.plan_hash:
        raise ChangedError(f"{folder}: its data have changed since it was begun; give this run another name")
    return found


def _device(config: TrainConfig) -> torch.device:
    cuda = torch.cuda.is_available()
    if config.machine.device == "cuda" and not cuda:
        raise ConfigError(f"{config.path}: machine.device: found cuda, but torch sees no CUDA device; use auto or cpu")
    local = int(os.environ.get("LOCAL_RANK", 0))
    return torch.device("cuda", local) if cuda and config.machine.device != "cpu" else torch.device("cpu")


def _narrow(model: MultimodalLM, dtype: torch.dtype) -> None:
    """Frozen weights in half the bytes; what trains keeps fp32 and is narrowed in each operation by autocast."""
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "little")


def _memory_mb(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
