"""How processes share a model in training: whole in each (DDP), or the LLM in parts (FSDP2), with gradients summed.

Under FSDP2 each block of the LLM is gathered when it is computed, and the rest of the LLM (embeddings, head) as long as
a pack takes. Encoders and projectors stay whole everywhere: a process without pictures asks nobody for a part of an
encoder, so it cannot keep others waiting. Gradients are summed, never averaged: gloo's average is a sum (PyTorch
#162338), and the losses are already divided by the number of items of all processes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as td
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from mmdata.train.blocks import blocks
from mmdata.train.dist import Dist
from mmdata.train.model import MultimodalLM


class Alone:
    """A model of one process. call: what computes losses. parted: processes hold parts of it, so they work in step."""

    parted = False

    def __init__(self, model: MultimodalLM) -> None:
        self.call: Any = model

    def apart(self) -> Any:
        """A context in which gradients stay with each process."""
        return contextlib.nullcontext()

    def settle(self) -> None:
        """To be called after the last backward of a step."""

    def squares(self, shard_squares: float) -> float:
        """The sum over all parts of a sum of squares over one's own."""
        return shard_squares


class Replicas(Alone):
    """Each process has all of the model; gradients are summed while the last backward still works."""

    def __init__(self, model: MultimodalLM) -> None:
        from torch.nn.parallel import DistributedDataParallel

        self.call = DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
        self.call.register_comm_hook(None, lambda _, bucket: _summed(bucket.buffer()))

    def apart(self) -> Any:
        return self.call.no_sync()


class Parts(Alone):
    """Each process has its part of the LLM, and all of the rest. dtype: that parts are gathered in; None: their own."""

    parted = True

    def __init__(self, model: MultimodalLM, dist: Dist, device: torch.device, dtype: torch.dtype | None) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

        super().__init__(model)
        self._dist = dist
        whole = {name: parameter for name, parameter in model.named_parameters() if model.part_of(name) != "llm"}
        self._whole = [parameter for parameter in whole.values() if parameter.requires_grad]
        options: dict[str, Any] = {
            "mesh": init_device_mesh(device.type, (dist.world_size,)),
            "mp_policy": MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False),
        }
        for block in blocks(model.decoder):
            fully_shard(block, **options)
        fully_shard(model, ignored_params=set(whole.values()), **options)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)

    def settle(self) -> None:
        """Sum the gradients of what every process has whole."""
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self._whole]
        if not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        td.all_reduce(flat)
        for parameter, part in zip(self._whole, torch.split(flat, [p.numel() for p in self._whole]), strict=True):
            parameter.grad = part.view_as(parameter)

    def squares(self, shard_squares: float) -> float:
        return self._dist.sums({"squares": shard_squares})["squares"]


def share(model: MultimodalLM, dist: Dist, sharding: str, device: torch.device, dtype: torch.dtype | None) -> Alone:
    """Put a model on its device and share it. A collective call where there are several processes."""
    if dist.world_size == 1 or sharding == "ddp":
        model.to(device)
        return Alone(model) if dist.world_size == 1 else Replicas(model)
    parts = Parts(model, dist, device, dtype)
    model.to(device)
    return parts


def own(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor, all of it where it is whole."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensors: Mapping[Any, Any], keep: bool) -> dict[Any, Any]:
    """Each tensor whole and on the CPU, other values as they are; nothing where this process need not `keep` them.

    A collective call where some are in parts.
    """
    found = {}
    for name, value in tensors.items():
        every = value.full_tensor() if isinstance(value, DTensor) else value
        if keep:
            found[name] = every.cpu() if isinstance(every, torch.Tensor) else every
    return found


def parted_like(value: Any, parameter: nn.Parameter) -> Any:
    """What belongs to a parameter (a moment of AdamW), in parts where that is. Every process gives all of it."""
    if not isinstance(parameter, DTensor) or not isinstance(value, torch.Tensor) or not value.dim():
        return value
    value = value.to(parameter.device)
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def total_norm(gradients: list[torch.Tensor], sharing: Alone) -> float:
    """The norm of all gradients as one vector, the same number in every process."""
    parts = [own(gradient) for gradient in gradients if isinstance(gradient, DTensor)]
    rest = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    squares = [float(torch.nn.utils.get_total_norm(of)) ** 2 if of else 0.0 for of in (rest, parts)]
    return math.sqrt(squares[0] + sharing.squares(squares[1]))


def _summed(gradients: torch.Tensor) -> Any:
    done = td.all_reduce(gradients, async_op=True)
    assert done is not None
    return done.get_future().then(lambda future: future.value()[0])
