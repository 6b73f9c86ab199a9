"""What a run knows before any model is loaded: tokenizer, what encoders ask for, and the plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmdata.shards import storage
from mmdata.train import objectives
from mmdata.train.chat import Chat
from mmdata.train.config import TrainConfig
from mmdata.train.encoders import spec_of
from mmdata.train.media import MediaSpec
from mmdata.train.model import load_tokenizer
from mmdata.train.plan import Plan
from mmdata.train.pools import pool_of
from mmdata.train.samples import SampleLoader
from mmdata.train.sections import Kind


@dataclass
class Prepared:
    """A run without its models. folder: of the run."""

    config: TrainConfig
    folder: Path
    tokenizer: Any
    specs: dict[Kind, MediaSpec]
    loader: SampleLoader
    plan: Plan


def specs_of(config: TrainConfig) -> dict[Kind, MediaSpec]:
    """What media of each kind must look like. Raises ConfigError where an encoder cannot be had."""
    specs: dict[Kind, MediaSpec] = {}
    for kind, options in config.encoders.items():
        shown = config.encoders["image"] if options.share else options
        specs[kind] = spec_of(shown, config.projectors[kind], kind)
        if options.share:
            specs[kind] = replace(specs[kind], frames=options.frames)
    return specs


def prepare(config: TrainConfig) -> Prepared:
    """Tokenizer, specs of encoders, and the plan. Raises ConfigError where they cannot be had."""
    objectives.check(config.losses, f"{config.path}: losses")
    tokenizer = load_tokenizer(config.llm)
    specs = specs_of(config)
    folder = Path(config.machine.folder) / config.name
    chat = Chat(tokenizer, config.llm.template, config.llm.system)
    loader = SampleLoader(config.data, chat, specs, config.augment, config.seed, config.plan.tokens_per_pack)
    kept = storage.join(str(folder), "lengths")
    pools = [pool_of(loader, entry, config.plan.lengths, kept) for entry in range(len(config.data))]
    return Prepared(config, folder, tokenizer, specs, loader, Plan(pools, config.plan, config.seed))


def blank_id(tokenizer: Any) -> int:
    """The token that stands for nothing: it masks words, and is the blank of CTC."""
    known = (tokenizer.mask_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id)
    return int(next(token for token in known if token is not None))
