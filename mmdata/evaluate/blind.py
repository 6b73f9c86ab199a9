"""The media-blind probe: what samples cost the model with their media, and with media that show nothing.

Where both losses are the same, the answers can be had without looking, or the model has not learned to look.
Blank media stand where the real ones stood and go the same way: pictures of the encoder's mean colour, silence, a
log-mel of zeros. Shape suffixes: T tokens, K labelled ones, S samples, E width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from mmdata.shards import storage
from mmdata.train import losses
from mmdata.train.augment import AugmentOptions
from mmdata.train.chat import IGNORE
from mmdata.train.collate import Batch
from mmdata.train.dataset import PackDataset
from mmdata.train.device import computing
from mmdata.train.plan import Plan
from mmdata.train.pools import pool_of
from mmdata.train.restore import Restored
from mmdata.train.samples import SampleLoader
from mmdata.train.sections import DataOptions, Kind


@dataclass
class Blind:
    """Mean losses over the labelled tokens of one source of one modality."""

    loss: float = 0.0
    blind_loss: float = 0.0
    labels: int = 0
    samples: int = 0

    def add(self, loss: float, blind_loss: float, labels: int) -> None:
        """Count a sample by the sums of its losses."""
        self.labels += labels
        self.samples += 1
        self.loss += (loss - labels * self.loss) / max(1, self.labels)
        self.blind_loss += (blind_loss - labels * self.blind_loss) / max(1, self.labels)


def blind_losses(restored: Restored, packs: Iterable[Batch]) -> dict[tuple[str, str], Blind]:
    """Losses with media and with blank ones, by modality and source, of samples that have media."""
    found: dict[tuple[str, str], Blind] = {}
    for pack in packs:
        seen = {sample for media in pack.media.values() for sample in media.sample_B.tolist()}
        if not seen:
            continue
        loss_S, blind_S = (sample_losses(restored, of) for of in (pack, blinded(restored, pack)))
        labels_S = labels_of(pack)
        for number in sorted(seen):
            place = found.setdefault((pack.modalities[number], pack.sources[number]), Blind())
            place.add(float(loss_S[number]), float(blind_S[number]), int(labels_S[number]))
    return found


def held_out_packs(
    restored: Restored, data: Sequence[DataOptions], max_samples: int = 0, seed: int = 0
) -> Iterator[Batch]:
    """Packs of the entries of data as training makes them, without augmentation, each sample once.

    max_samples: ends after so many, in an order that follows from the seed; 0 for all.
    """
    config = restored.config
    options = replace(config.plan, epochs=1, max_steps=0, quotas={})
    entries = [replace(entry, weight=1.0) for entry in data]
    loader = SampleLoader(
        entries, restored.chat, restored.specs, AugmentOptions(), config.seed, config.plan.tokens_per_pack
    )
    kept = storage.join(str(restored.folder), "lengths")
    plan = Plan([pool_of(loader, number, options.lengths, kept) for number in range(len(entries))], options, seed)
    packs = PackDataset(loader, options.tokens_per_pack)
    given = 0
    for step in range(plan.num_steps):
        for asked in plan.packs_of(step):
            if asked.samples and (given < max_samples or not max_samples):
                given += len(asked.samples)
                yield packs[asked]


def sample_losses(restored: Restored, pack: Batch) -> torch.Tensor:
    """- log p of the labelled tokens of each sample, summed [S], on the CPU."""
    model, labelled_T = restored.model, pack.labels_T != IGNORE
    found_S = torch.zeros(max(1, len(pack.keys)))
    moved = pack.to(restored.device)
    with torch.inference_mode(), computing(restored.device, restored.config.machine.precision):
        hidden_KE = model.hidden(model.embed(moved).embeds_TE, moved)[labelled_T.to(restored.device)]
        chunk = restored.config.losses.chunk_tokens
        lost_K = losses.token_losses(hidden_KE, moved.labels_T[moved.labels_T != IGNORE], model.logits, chunk)
    return found_S.index_add_(0, pack.sample_T[labelled_T], lost_K.float().cpu())


def labels_of(pack: Batch) -> torch.Tensor:
    """How many tokens of each sample are labelled [S]."""
    return torch.bincount(pack.sample_T[pack.labels_T != IGNORE], minlength=max(1, len(pack.keys)))


def blinded(restored: Restored, pack: Batch) -> Batch:
    """The pack with blank media."""

    def blank(kind: Kind, inputs: torch.Tensor | list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        if isinstance(inputs, list):
            return [torch.zeros_like(wave_T) for wave_T in inputs]
        if inputs.dtype == torch.uint8:
            mean_3 = torch.tensor(restored.specs[kind].mean) * 255
            return mean_3.round().to(torch.uint8).to(inputs.device).expand_as(inputs).contiguous()
        return torch.zeros_like(inputs)

    media = {kind: replace(of, inputs=blank(kind, of.inputs)) for kind, of in pack.media.items()}
    return replace(pack, media=media)
