"""A pack of samples as one sequence: ids, labels shifted within each sample, positions that begin anew, media.

Shape suffixes: T tokens of the pack, S samples, B items of a kind of media.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch

from mmdata.train.chat import IGNORE, PLACEHOLDER
from mmdata.train.media import Item
from mmdata.train.samples import Place, Prepared
from mmdata.train.sections import KINDS, Kind


@dataclass
class MediaBatch:
    """All media of one kind in a pack, in order.

    inputs: pixels uint8 [B, H, W, 3], log-mels float32 [B, M, N], or a list of waves [T]. places_T: where their tokens
    stand in the sequence. features, tokens: of each item, before and after the projector. times_s_B: when it begins.
    medium_B, sample_B: what it belongs to.
    """

    inputs: Any
    places_T: torch.Tensor
    features: list[int]
    tokens: list[int]
    times_s_B: torch.Tensor
    medium_B: torch.Tensor
    sample_B: torch.Tensor


@dataclass
class Batch:
    """One pack. ids_T: 0 under media. labels_T[t]: what follows token t, IGNORE where nothing is learned.

    sample_T: number of the sample of a token. bounds_S: where samples begin, and the end. bad: samples that could not
    be used, as lines of the quarantine. seconds: that loading took, by part.
    """

    step: int
    number: int
    ids_T: torch.Tensor
    labels_T: torch.Tensor
    positions_T: torch.Tensor
    sample_T: torch.Tensor
    bounds_S: torch.Tensor
    longest: int
    media: dict[Kind, MediaBatch] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    modalities: list[str] = field(default_factory=list)
    bad: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def num_labels(self) -> int:
        return int((self.labels_T != IGNORE).sum())

    def to(self, device: torch.device) -> Batch:
        """The same on a device, but for `bounds_S`; copies run beside the computation where the memory is pinned."""
        moved: Batch = _mapped(self, lambda tensor: tensor.to(device, non_blocking=True))
        return replace(moved, bounds_S=self.bounds_S)

    def pin_memory(self) -> Batch:
        pinned: Batch = _mapped(self, lambda tensor: tensor.pin_memory())
        return pinned


def _mapped(value: Any, change: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, (Batch, MediaBatch)):
        return replace(value, **{part.name: _mapped(getattr(value, part.name), change) for part in fields(value)})
    if isinstance(value, list) and value and isinstance(value[0], torch.Tensor):
        return [change(tensor) for tensor in value]
    if isinstance(value, dict):
        return {key: _mapped(part, change) for key, part in value.items()}
    return value


def pack(samples: Sequence[Prepared], step: int = 0, number: int = 0, bad: Sequence[dict[str, Any]] = ()) -> Batch:
    """Samples as one sequence; without any, a single token that teaches nothing keeps the place."""
    lengths = [len(sample.ids) for sample in samples] or [1]
    ids_T = np.array([token for sample in samples for token in sample.ids] or [0], np.int64)
    labels = [label for sample in samples for label in (*sample.labels[1:], IGNORE)] or [IGNORE]
    bounds_S = np.cumsum([0, *lengths])
    seconds: dict[str, float] = {}
    for sample in samples:
        for part, spent in sample.seconds.items():
            seconds[part] = seconds.get(part, 0.0) + spent
    return Batch(
        step=step,
        number=number,
        ids_T=torch.from_numpy(np.maximum(ids_T, 0)),
        labels_T=torch.from_numpy(np.array(labels, np.int64)),
        positions_T=torch.from_numpy(np.concatenate([np.arange(length) for length in lengths])),
        sample_T=torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)),
        bounds_S=torch.from_numpy(bounds_S.astype(np.int32)),
        longest=max(lengths),
        media={kind: _media(samples, kind, ids_T) for kind in KINDS if any(kind in sample.media for sample in samples)},
        keys=[sample.key for sample in samples],
        sources=[sample.source for sample in samples],
        modalities=[sample.modality for sample in samples],
        bad=list(bad),
        seconds=seconds,
    )


def _media(samples: Sequence[Prepared], kind: Kind, ids_T: np.ndarray) -> MediaBatch:
    items: list[Item] = []
    medium_B: list[int] = []
    sample_B: list[int] = []
    num_media = 0
    for index, sample in enumerate(samples):
        for medium in sample.media.get(kind, []):
            items += medium
            medium_B += [num_media] * len(medium)
            sample_B += [index] * len(medium)
            num_media += 1
    arrays = [item.array for item in items]
    return MediaBatch(
        # Waves differ in length, and padding would change what is heard.
        inputs=_stacked(arrays) if arrays[0].ndim > 1 else [torch.from_numpy(wave_T) for wave_T in arrays],
        places_T=torch.from_numpy(np.flatnonzero(ids_T == PLACEHOLDER[kind])),
        features=[item.features for item in items],
        tokens=[item.tokens for item in items],
        # By way of numpy, which reads a list several times as fast.
        times_s_B=torch.from_numpy(np.array([item.time_s for item in items], np.float32)),
        medium_B=torch.from_numpy(np.array(medium_B)),
        sample_B=torch.from_numpy(np.array(sample_B)),
    )


def _stacked(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    """Arrays as one. Those that were put into the places of one array in turn, without a gap, are there already."""
    whole = arrays[0].base
    if isinstance(whole, np.ndarray) and all(array.base is whole for array in arrays) and len(arrays) <= len(whole):
        filled = whole[: len(arrays)]
        # A picture cut out of a larger one has a base too, of another shape.
        is_alike = (filled.shape[1:], filled.dtype) == (arrays[0].shape, arrays[0].dtype)
        if is_alike and all(filled[place].ctypes.data == arrays[place].ctypes.data for place in (0, -1)):
            return torch.from_numpy(filled)
    return torch.from_numpy(np.stack(arrays))
