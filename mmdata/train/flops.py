"""FLOPs that a step needs, and the share of what the device could do: model FLOPs utilisation, encoders counted.

Products of matrices only, a multiplication and an addition as two (Chowdhery et al. 2022, appendix B). What gradient
checkpointing computes again does not count, nor does padding: attention is over each sample by itself. A weight costs
as much again for the gradient of what came in, and once more for its own where it is trained. Encoders and projectors
are counted by torch on their shapes, without weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from mmdata.train.blocks import blocks
from mmdata.train.chat import IGNORE
from mmdata.train.collate import Batch
from mmdata.train.encoders import Encoder, noise
from mmdata.train.media import MediaSpec
from mmdata.train.model import MultimodalLM
from mmdata.train.projectors import Projector
from mmdata.train.sections import EncoderOptions, Kind

# Dense bf16 TFLOP/s of a whole device by its vendor's data sheet; the first name that stands in torch's name counts.
PEAK_TFLOPS = {
    "GB200": 2500.0, "B200": 2250.0, "H200": 989.0, "GH200": 989.0, "H100 PCIe": 756.0, "H100 NVL": 835.0,
    "H100": 989.0, "H800": 989.0, "A100": 312.0, "A800": 312.0, "L40S": 362.0, "L40": 181.0, "L4": 121.0,
    "A40": 150.0, "A30": 165.0, "RTX 4090": 165.0, "RTX 3090": 71.0, "MI300X": 1307.0, "MI250X": 383.0,
    "MI250": 383.0,
}  # fmt: skip
_POINTS = (0.25, 0.5, 0.75, 1.0)  # of a window of sound, where it is counted; between them a line


def peak_tflops(device: torch.device, given: float) -> float | None:
    """What the device does at best: as the file says, else by its name; None where nobody knows."""
    if given:
        return given
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((peak for known, peak in PEAK_TFLOPS.items() if re.search(rf"\b{known}\b", name)), None)


class Cost:
    """FLOPs of an item by its number of features, counted at some and drawn out between them."""

    def __init__(self, count: Callable[[int], float], features: int, varies: bool) -> None:
        self._at = sorted({max(1, round(features * point)) for point in (_POINTS if varies else (1.0,))})
        self._flops = [count(number) for number in self._at]

    def of(self, features: list[int]) -> float:
        return float(np.interp(features, self._at, self._flops).sum())


class StepFlops:
    """What packs cost, forward and backward, by the shapes of a model."""

    def __init__(self, model: MultimodalLM, specs: Mapping[Kind, MediaSpec]) -> None:
        self._names = set(model.objectives.names)
        llm = model.decoder
        layers = blocks(llm)
        config = llm.config.get_text_config()
        # Once forward, once for the gradient that flows back, once more for the weights that are trained.
        self._forward = sum(2 * _active(p, config) for p in layers.parameters())
        self._both = sum(2 * _active(p, config) * (2 + p.requires_grad) for p in layers.parameters())
        head = llm.get_output_embeddings().weight
        self._head = 2 * head.numel() * (2 + head.requires_grad)
        heads = config.num_attention_heads
        width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
        self._attention = 4 * width * len(layers)  # of a token with a token, forward
        self._costs: dict[Kind, tuple[Cost, Cost]] = {}
        for kind, options in model.config.encoders.items():
            shown: EncoderOptions = model.config.encoders["image"] if options.share else options
            spec = specs[kind]
            encode = _encoder_count(shown, kind, spec)
            varies = kind == "audio"
            project = _projector_count(model, kind, spec, feeds_back=shown.train)
            self._costs[kind] = (
                Cost(encode, spec.features, varies and spec.takes == "wave"), Cost(project, spec.features, varies)
            )  # fmt: skip

    def of(self, pack: Batch) -> float:
        """FLOPs of a pack."""
        if not pack.keys:
            return 0.0
        tokens = len(pack.ids_T)
        pairs = sum((end - start) ** 2 for start, end in pairwise(pack.bounds_S.tolist()))
        labels = int((pack.labels_T != IGNORE).sum())
        read = self._both * tokens + 3 * self._attention * pairs
        looked = self._forward * tokens + self._attention * pairs
        total = 0.0
        if {"lm", "kl"} & self._names:
            total += read + self._head * labels
        if "kl" in self._names:
            total += looked
        if "masked_lm" in self._names:
            total += read
        for kind, media in pack.media.items():
            encode, project = self._costs[kind]
            total += encode.of(media.features) + project.of(media.features)
        return total


def _active(parameter: torch.Tensor, config: Any) -> float:
    """Numbers of a weight that each token is multiplied with; of stacked experts [N, in, out] those it is sent to."""
    if parameter.dim() == 3:
        chosen = getattr(config, "num_experts_per_tok", None) or parameter.shape[0]
        return parameter.numel() * chosen / parameter.shape[0]
    return parameter.numel() if parameter.dim() == 2 else 0


def _encoder_count(options: EncoderOptions, kind: Kind, spec: MediaSpec) -> Callable[[int], float]:
    """FLOPs of an encoder for an item of so many features, without loading it; with its gradients where it trains."""
    encoder = Encoder(options, kind, meta=True).eval()

    def count(features: int) -> float:
        return _counted(lambda: encoder(*noise(spec, features)))

    return count


def _projector_count(model: MultimodalLM, kind: Kind, spec: MediaSpec, feeds_back: bool) -> Callable[[int], float]:
    width_E = model.decoder.get_input_embeddings().embedding_dim
    with torch.device("meta"):
        projector = Projector(model.config.projectors[kind], spec, width_E)

    def count(features: int) -> float:
        item_PD = torch.zeros(features, spec.width, device="meta", requires_grad=feeds_back)
        return _counted(lambda: [projector([item_PD], torch.zeros(1))])

    return count


def _counted(work: Callable[[], list[torch.Tensor]]) -> float:
    """FLOPs of work on the meta device, and of its gradients where it has some."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it hides its products from the counter
    try:
        with torch.device("meta"), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            found = [part.sum() for part in work() if part.requires_grad]
            if found:
                torch.autograd.backward(found)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return float(counter.get_total_flops())
