"""The losses that a run asks for, from what the model made of a pack: which items each counts, and its value for each.

Pairs are samples with media and something to say. Their media are the mean of the projected tokens, their text the mean
of the LLM's input embeddings of the answer (before the LLM: after it, the text has seen the media).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mmdata.errors import ConfigError
from mmdata.options import nearest
from mmdata.train import losses
from mmdata.train.chat import IGNORE
from mmdata.train.collate import Batch
from mmdata.train.dist import Dist
from mmdata.train.sections import Kind, LossOptions

_SHARED_WIDTH = 256
_PAIRS = ("info_nce", "siglip", "matching", "matching_rank", "l1", "l2")
_GATHERED = {"info_nce", "siglip"}  # they set pairs against those of all processes
_LABELS = ("lm", "kl")
_FRAMES = ("temporal", "next_frame")
NAMES = (*_LABELS, "masked_lm", *_PAIRS, *_FRAMES, "ctc", "update_norm")
_NEAR_S = 2.0


@dataclass
class Seen:
    """What the model made of a pack: media tokens by kind, and the input embeddings of the sequence."""

    tokens: dict[Kind, torch.Tensor]
    embeds_TE: torch.Tensor


def check(options: LossOptions, where: str) -> None:
    """Raise ConfigError for a name that is no loss."""
    for name, weight in options.weights.items():
        if name not in NAMES:
            known = f"{nearest(name, NAMES)}; allowed: {', '.join(NAMES)}"
            raise ConfigError(f"{where}.weights.{name}: no such loss{known}")
        if weight < 0:
            raise ConfigError(f"{where}.weights.{name}: found {weight}, allowed is 0 or more")


def pairs_of(batch: Batch) -> list[int]:
    """Samples of a pack with media and labels."""
    told = set(batch.sample_T[batch.labels_T != IGNORE].tolist())
    seen = {sample for media in batch.media.values() for sample in media.sample_B.tolist()}
    return sorted(told & seen)


def counts(batch: Batch, names: tuple[str, ...]) -> dict[str, float]:
    """Items that each loss has in this pack, known before the model runs: what sums are divided by."""
    found: dict[str, float] = {}
    for name in names:
        if name in _LABELS:
            found[name] = batch.num_labels
        elif name in _PAIRS:
            found[name] = len(pairs_of(batch))
        elif name in _FRAMES:
            video = batch.media.get("video")
            found[name] = len(losses.next_frames(video.medium_B)) if video else 0
        elif name == "ctc":
            found[name] = len(_heard(batch))
        elif name == "masked_lm":  # tokens are drawn later; the mean of a pack that has some counts as one
            found[name] = float(batch.num_labels > 0)
        else:  # the norm of the update is the same for every pack
            found[name] = 1
    return found


class Objectives(nn.Module):
    """Heads of the losses that need some; `forward` gives the pair, frame and sound losses of a pack by name."""

    def __init__(self, options: LossOptions, width_E: int, dist: Dist) -> None:
        super().__init__()
        self.options, self.dist = options, dist
        self.names = tuple(name for name in NAMES if options.weights.get(name, 0) > 0)
        if set(self.names) & set(_PAIRS):
            self.media_head = nn.Linear(width_E, _SHARED_WIDTH)
            self.text_head = nn.Linear(width_E, _SHARED_WIDTH)
        if set(self.names) & {"info_nce", "siglip", "matching", "temporal"}:
            self.log_temperature = nn.Parameter(torch.tensor(options.temperature).log())
            self.bias = nn.Parameter(torch.zeros(()))
        if "next_frame" in self.names:
            self.predictor = nn.Linear(width_E, width_E)

    @property
    def temperature(self) -> torch.Tensor:
        """The learnable temperature, never below its floor."""
        return self.log_temperature.exp().clamp(min=self.options.temperature_min)

    def forward(
        self, batch: Batch, seen: Seen, logits: losses.Logits, blank: int
    ) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """Losses by name, one number an item, and figures to report."""
        found: dict[str, torch.Tensor] = {}
        report: dict[str, float] = {}
        if set(self.names) & set(_PAIRS):
            self._pair_losses(batch, seen, found, report)
        if set(self.names) & set(_FRAMES) and "video" in batch.media:
            video = batch.media["video"]
            frames_FE = torch.stack([part.mean(0) for part in torch.split(seen.tokens["video"], video.tokens)])
            if "temporal" in self.names:
                found["temporal"] = losses.temporal_contrast(
                    frames_FE, video.medium_B, video.times_s_B, _NEAR_S, self.temperature
                )
            if "next_frame" in self.names:
                # The target is what the frame is, not what it might become to be predicted easily.
                predicted_FE = self.predictor(frames_FE)
                found["next_frame"] = losses.sequence_prediction(predicted_FE, frames_FE.detach(), video.medium_B)
        if "ctc" in self.names and "audio" in batch.media:
            heard = _heard(batch)
            spans = _sample_tokens(seen.tokens["audio"], batch, "audio")
            found["ctc"] = losses.ctc(
                [logits(spans[sample]) for sample in heard], [_labels(batch, sample) for sample in heard], blank
            )
        return found, report

    @property
    def gathers(self) -> bool:
        """True where `forward` is a collective call."""
        return bool(set(self.names) & _GATHERED)

    @property
    def compares(self) -> bool:
        """True where a loss brings media near their own texts and away from others: `pairs` can then be ranked."""
        return bool(set(self.names) & {"info_nce", "siglip", "matching", "matching_rank"})

    def pairs(self, batch: Batch, seen: Seen) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings [N, E] of the media and of the texts of a pack's pairs, in the order of `pairs_of`."""
        members = pairs_of(batch)
        media = [torch.cat(parts) for parts in _all_tokens(batch, seen, members)]
        texts = [seen.embeds_TE[_answer_places(batch, sample)] for sample in members]
        empty_0E = seen.embeds_TE[:0].float()
        # In fp32: similarities are divided by a small temperature.
        with torch.autocast(seen.embeds_TE.device.type, enabled=False):
            x = self.media_head(torch.stack([rows.float().mean(0) for rows in media]) if media else empty_0E)
            y = self.text_head(torch.stack([rows.float().mean(0) for rows in texts]) if texts else empty_0E)
        return x, y

    def _pair_losses(self, batch: Batch, seen: Seen, found: dict[str, Any], report: dict[str, float]) -> None:
        x, y = self.pairs(batch, seen)
        with torch.autocast(seen.embeds_TE.device.type, enabled=False):
            if self.gathers:
                all_x, start = self.dist.gather_rows(x)
                all_y, _ = self.dist.gather_rows(y)
            for name in self.names:
                match name:
                    case "info_nce":
                        found[name] = losses.info_nce(x, y, all_x, all_y, start, self.temperature)
                        if len(found[name]):
                            bound = losses.mutual_information(float(found[name].detach().mean()), len(all_x))
                            report.update(temperature=float(self.temperature.detach()), mutual_information=bound)
                    case "siglip":
                        found[name] = losses.siglip(x, all_y, start, self.temperature, self.bias)
                    case "matching":
                        found[name] = losses.matching(x, y, self.temperature, self.bias)
                    case "matching_rank":
                        found[name] = losses.matching_rank(x, y, self.options.margin)
                    case "l1":
                        found[name] = losses.l1(x, y)
                    case "l2":
                        found[name] = losses.l2(x, y)


def _sample_tokens(tokens: torch.Tensor, batch: Batch, kind: Kind) -> dict[int, torch.Tensor]:
    """Tokens of a kind of media, by sample."""
    media = batch.media[kind]
    parts: dict[int, list[torch.Tensor]] = {}
    for sample, part in zip(media.sample_B.tolist(), torch.split(tokens, media.tokens), strict=True):
        parts.setdefault(sample, []).append(part)
    return {sample: torch.cat(found) for sample, found in parts.items()}


def _all_tokens(batch: Batch, seen: Seen, members: list[int]) -> list[list[torch.Tensor]]:
    by_kind = [_sample_tokens(tokens, batch, kind) for kind, tokens in seen.tokens.items()]
    return [[spans[sample] for spans in by_kind if sample in spans] for sample in members]


def _answer_places(batch: Batch, sample: int) -> torch.Tensor:
    """Places of the tokens that are learned in a sample: one after where their labels stand."""
    return torch.nonzero((batch.sample_T == sample) & (batch.labels_T != IGNORE)).flatten() + 1


def _labels(batch: Batch, sample: int) -> torch.Tensor:
    labels_T = batch.labels_T[batch.sample_T == sample]
    return labels_T[labels_T != IGNORE]


def _heard(batch: Batch) -> list[int]:
    """Samples with sound and a transcript."""
    audio = batch.media.get("audio")
    return sorted(set(pairs_of(batch)) & set(audio.sample_B.tolist())) if audio else []
