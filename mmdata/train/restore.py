"""A trained model as evaluation and chat use it: from a run folder or a checkpoint, on its device, with its chat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mmdata.train import checkpoint
from mmdata.train.chat import Chat
from mmdata.train.config import TrainConfig, load
from mmdata.train.device import device_of, narrow
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
    torch.manual_seed(config.seed)
    model = MultimodalLM(config, specs, load_llm(config.llm), blank_id(tokenizer), Dist())
    if trained:
        checkpoint.load_model(found, model, whole=True)
    elif config.init:
        checkpoint.load_model(checkpoint.resolve(config.init), model, whole=False)
    narrow(model, config.machine.precision)
    device = device_of(config)
    chat = Chat(tokenizer, config.llm.template, config.llm.system)
    name = found.name if trained else "before"
    return Restored(found.parents[1], name, config, model.to(device).eval(), chat, specs, device)
