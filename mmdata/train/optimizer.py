"""AdamW over the parts of the model, its learning rates, and one update with clipping and loss scaling."""

from __future__ import annotations

import math
from typing import Any

import torch

from mmdata.errors import ConfigError
from mmdata.train.model import MultimodalLM, Part
from mmdata.train.sections import MachineOptions, OptimizerOptions
from mmdata.train.sharing import Alone, own, parted_like, total_norm, whole

_SCALE, _GROW_AFTER = 65536.0, 2000  # as in torch.amp.GradScaler


def rate_factor(options: OptimizerOptions, step: int, num_steps: int) -> float:
    """What learning rates are multiplied with at a step: linear warm-up, then cosine or constant."""
    warmup = math.ceil(options.warmup_share * num_steps)
    if step < warmup:
        return (step + 1) / warmup
    if options.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, num_steps - warmup)
    return options.final_lr_share + (1 - options.final_lr_share) * (1 + math.cos(math.pi * progress)) / 2


class LossScale:
    """What losses are multiplied with in fp16, so that small gradients are not lost; 1 in other precisions.

    Halved where a gradient is not finite, doubled after 2,000 updates in a row (Micikevicius et al. 2018). Whether it
    was finite is judged by the norm of all gradients, so all processes come to the same end.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.value, self.good = (_SCALE if enabled else 1.0), 0

    def update(self, finite: bool) -> None:
        if not self.enabled:
            return
        self.good = self.good + 1 if finite else 0
        if not finite:
            self.value /= 2
        elif self.good == _GROW_AFTER:
            self.value, self.good = self.value * 2, 0


class Optimizer:
    """AdamW with a rate for each part, and the loss scale of fp16. Raises ConfigError where nothing is to train."""

    def __init__(
        self, sharing: Alone, model: MultimodalLM, options: OptimizerOptions, machine: MachineOptions, num_steps: int
    ) -> None:
        self.options, self.num_steps, self._sharing = options, num_steps, sharing
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
        self.parameters = [parameter for params in members.values() for parameter in params]
        on_gpu = self.parameters[0].device.type == "cuda"
        betas = (options.beta1, options.beta2)
        self.adamw = torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=options.eps, fused=on_gpu)
        self.scale = LossScale(machine.precision == "fp16")

    def update(self, step: int) -> tuple[float, bool]:
        """Clip, update, and forget the gradients; the norm before clipping, and whether the update was made.

        A gradient that is not finite changes nothing (and halves the scale of fp16).
        """
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = total_norm(gradients, self._sharing) / self.scale.value
        finite = math.isfinite(norm)
        if finite:
            limit = self.options.clip_norm or math.inf
            factor = min(1.0, limit / (norm + 1e-6)) / self.scale.value
            if factor != 1.0:
                torch._foreach_mul_([own(gradient) for gradient in gradients], factor)
            for group in self.adamw.param_groups:
                group["lr"] = self.rate(group["part"], step)
            self.adamw.step()
        self.scale.update(finite)
        self.adamw.zero_grad(set_to_none=True)
        return norm, finite

    def rate(self, part: Part, step: int) -> float:
        return self.rates[part] * rate_factor(self.options, step, self.num_steps)

    def trained_parts(self) -> list[Part]:
        return sorted({group["part"] for group in self.adamw.param_groups})

    def state_dict(self, keep: bool) -> dict[str, Any]:
        """The state with moments whole, alike however the model is shared, for those who `keep` it. See `whole`."""
        state = self.adamw.state_dict()
        moments = {number: whole(values, keep) for number, values in state["state"].items()}
        return {"adamw": {**state, "state": moments}, "scale": [self.scale.value, self.scale.good]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state as `state_dict` gives it."""
        moments = {
            number: {name: parted_like(value, self.parameters[number]) for name, value in values.items()}
            for number, values in state["adamw"]["state"].items()
        }
        # Everything but the learned moments is by this run's options, which the config's hash holds equal.
        self.adamw.load_state_dict({**self.adamw.state_dict(), "state": moments})
        self.scale.value, self.scale.good = state["scale"]
