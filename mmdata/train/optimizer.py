"""AdamW over the parts of the model, its learning rates, and one update with clipping and loss scaling."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from mmdata.errors import ConfigError
from mmdata.train.model import MultimodalLM, Part
from mmdata.train.sections import MachineOptions, OptimizerOptions


def rate_factor(options: OptimizerOptions, step: int, num_steps: int) -> float:
    """What learning rates are multiplied with at a step: linear warm-up, then cosine or constant."""
    warmup = math.ceil(options.warmup_share * num_steps)
    if step < warmup:
        return (step + 1) / warmup
    if options.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, num_steps - warmup)
    return options.final_lr_share + (1 - options.final_lr_share) * (1 + math.cos(math.pi * progress)) / 2


class Optimizer:
    """AdamW with a rate for each part, and the loss scale of fp16. Raises ConfigError where nothing is to train."""

    def __init__(self, model: MultimodalLM, options: OptimizerOptions, machine: MachineOptions, num_steps: int) -> None:
        self.options, self.num_steps = options, num_steps
        self.rates: dict[Part, float] = {
            "projector": options.lr_projector, "llm": options.lr_llm, "encoder": options.lr_encoder
        }  # fmt: skip
        members: dict[tuple[Part, bool], list[torch.nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                members.setdefault((model.part_of(name), parameter.dim() > 1), []).append(parameter)
        if not members:
            raise ConfigError("nothing is to be trained: the LLM and the encoders are frozen and there is no projector")
        groups = [
            {"params": params, "part": part, "weight_decay": options.weight_decay if decays else 0.0}
            for (part, decays), params in members.items()
        ]
        self.adamw = torch.optim.AdamW(groups, lr=0.0, betas=(options.beta1, options.beta2), eps=options.eps)
        device = next(model.parameters()).device.type
        self.scaler = torch.amp.GradScaler(device, enabled=machine.precision == "fp16")

    @property
    def parameters(self) -> Iterable[torch.nn.Parameter]:
        return (parameter for group in self.adamw.param_groups for parameter in group["params"])

    def update(self, step: int) -> tuple[float, bool]:
        """Clip, update, and forget the gradients; the norm before clipping, and whether the update was made.

        A gradient that is not finite changes nothing (and halves the scale of fp16).
        """
        self.scaler.unscale_(self.adamw)
        limit = self.options.clip_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(list(self.parameters), limit))
        for group in self.adamw.param_groups:
            group["lr"] = self.rate(group["part"], step)
        if math.isfinite(norm) or self.scaler.is_enabled():
            self.scaler.step(self.adamw)
        self.scaler.update()
        self.adamw.zero_grad(set_to_none=True)
        return norm, math.isfinite(norm)

    def rate(self, part: Part, step: int) -> float:
        return self.rates[part] * rate_factor(self.options, step, self.num_steps)

    def trained_parts(self) -> list[Part]:
        return sorted({group["part"] for group in self.adamw.param_groups})

    def state_dict(self) -> dict[str, Any]:
        return {"adamw": self.adamw.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.adamw.load_state_dict(state["adamw"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
