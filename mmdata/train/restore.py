"""A trained model as evaluation and chat use it: from a run folder or a checkpoint, on its device, with its chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mmdata.errors import ConfigError
from mmdata.train import checkpoint
from mmdata.train.chat import Chat
from mmdata.train.config import TrainConfig, load
from mmdata.train.device import device_of, keep_freed_memory, narrow
from mmdata.train.dist import Dist
from mmdata.train.media import MediaSpec
from mmdata.train.model import MultimodalLM, load_llm, load_tokenizer
from mmdata.train.prepared import blank_id, specs_of
from mmdata.train.sections import Kind


@dataclass
class Restored:
    """folder: of the run. name: of the checkpoint, or `before` for the state in which training began."""

    folder: Path
    name: str
    config: TrainConfig
    model: MultimodalLM
    chat: Chat
    specs: dict[Kind, MediaSpec]
    device: torch.device


def built(
    config: TrainConfig, specs: Mapping[Kind, MediaSpec], tokenizer: Any, dist: Dist, found: Path | None
) -> MultimodalLM:
    """The model, on the CPU, with the weights of the checkpoint `found`, else those that training begins with.

    New weights are drawn by the config's seed, frozen ones are as narrow as its precision. Raises ConfigError where
    `init` names no checkpoint, or weights are of another model.
    """
    if device_of(config).type == "cpu":
        keep_freed_memory()
    torch.manual_seed(config.seed)
    model = MultimodalLM(config, specs, load_llm(config.llm), blank_id(tokenizer), dist)
    if found is not None:
        checkpoint.load_model(found, model, whole=True)
    else:
        model.scale_projectors(specs)
        if config.init:
            try:
                begun = checkpoint.resolve(config.init)
            except ConfigError as error:
                raise ConfigError(f"init: {error}") from error
            checkpoint.load_model(begun, model, whole=False)
    narrow(model, config.machine.precision)
    return model


def restore(path: str, overrides: Sequence[str] = (), *, trained: bool = True) -> Restored:
    """The model of a run folder's newest checkpoint, or of the checkpoint itself, ready to be asked.

    path: or the training file of the run. overrides: for what has moved since, for instance llm.model. trained=False:
    as it was before the first step, with the same random weights and `init`. Raises ConfigError where there is no
    checkpoint or it is of another model.
    """
    if path.endswith((".yaml", ".yml")):
        asked = load(path, overrides)
        path = str(Path(asked.machine.folder) / asked.name)
    found = checkpoint.resolve(path)
    config = load(found.parents[1] / "config.yaml", overrides)
    # Checkpointing saves memory in backward only, and keeps some models from using their cache.
    config = replace(config, machine=replace(config.machine, gradient_checkpointing=False))
    if config.machine.threads:
        torch.set_num_threads(config.machine.threads)
    tokenizer = load_tokenizer(config.llm)
    specs = specs_of(config)
    model = built(config, specs, tokenizer, Dist(), found if trained else None)
    device = device_of(config)
    chat = Chat(tokenizer, config.llm.template, config.llm.system)
    name = found.name if trained else "before"
    return Restored(found.parents[1], name, config, model.to(device).eval(), chat, specs, device)
