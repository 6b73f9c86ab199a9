"""Projectors: features of an encoder to embeddings of the LLM, chosen by name in the YAML.

Shape suffixes: B items, P features of one, K tokens, D width of the encoder, E width of the LLM.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from mmdata.train.media import MediaSpec
from mmdata.train.sections import ProjectorOptions

_TIME_WAVES = 32


class Projector(nn.Module):
    """A map from [B, P, D] to [B, K, E]; where media have times, each feature is first told when it was."""

    def __init__(self, options: ProjectorOptions, spec: MediaSpec, width_E: int) -> None:
        super().__init__()
        self.width_D = spec.width
        # Begins at zero: an untrained clock says nothing.
        self.clock = nn.Linear(2 * _TIME_WAVES, spec.width, bias=False) if spec.kind != "image" else None
        if self.clock is not None:
            nn.init.zeros_(self.clock.weight)
        match options.kind:
            case "linear":
                self.net: nn.Module = nn.Linear(spec.width, width_E)
            case "mlp":
                self.net = _mlp(spec.width, width_E, options.layers)
            case "pixel_shuffle":
                self.net = nn.Sequential(
                    PixelShuffle(options.merge, spec.grid), _mlp(spec.width * options.merge, width_E, options.layers)
                )
            case "cross_attention":
                self.net = Queries(options, spec.width, width_E, Resampler)
            case "qformer":
                self.net = Queries(options, spec.width, width_E, _qformer_layer)

    @torch.no_grad()
    def scale_tokens(self, rms: float, features: Sequence[torch.Tensor]) -> None:
        """Scale the last layer so that tokens of items with features [P, D] have this root mean square.

        By layers' usual beginnings they come out many times as large as an LLM's own embeddings, and the first steps
        of training would go into making them smaller.
        """
        tokens_KE = self(features, torch.zeros(len(features)))
        last = [layer for layer in self.net.modules() if isinstance(layer, nn.Linear)][-1]
        factor = rms / tokens_KE.pow(2).mean().sqrt().clamp(min=1e-6)
        for parameter in last.parameters():
            parameter.mul_(factor)

    def forward(self, features: Sequence[torch.Tensor], times_s: torch.Tensor) -> torch.Tensor:
        """Embeddings [sum of K, E] of items with features [P, D], in order; times_s [B]: when each item begins."""
        dtype = next(self.net.parameters()).dtype
        by_length: dict[int, list[int]] = {}
        for index, features_PD in enumerate(features):
            by_length.setdefault(len(features_PD), []).append(index)
        found: list[torch.Tensor] = [features[0]] * len(features)
        for members in by_length.values():
            stacked_BPD = torch.stack([features[index] for index in members]).to(dtype)
            if self.clock is not None:
                stacked_BPD = stacked_BPD + self.clock(_waves(times_s[members]).to(dtype)).unsqueeze(1)
            for index, tokens_KE in zip(members, self.net(stacked_BPD), strict=True):
                found[index] = tokens_KE
        return torch.cat(found)


def _waves(times_s: torch.Tensor) -> torch.Tensor:
    """Sines and cosines [B, 64] of times, with periods from 0.1 s to 1,000 s."""
    periods_s = torch.logspace(-1, 3, _TIME_WAVES, device=times_s.device)
    angles = 2 * math.pi * times_s.float().unsqueeze(1) / periods_s
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _mlp(width_D: int, width_E: int, layers: int) -> nn.Sequential:
    steps: list[nn.Module] = [nn.Linear(width_D, width_E)]
    for _ in range(layers - 1):
        steps += [nn.GELU(), nn.Linear(width_E, width_E)]
    return nn.Sequential(*steps)


class PixelShuffle(nn.Module):
    """Makes one token of `merge` neighbours: of a square of patches, or of a row of features; zeros fill the edge."""

    def __init__(self, merge: int, grid: bool) -> None:
        super().__init__()
        self.merge, self.grid = merge, grid

    def forward(self, x_BPD: torch.Tensor) -> torch.Tensor:
        """[B, P / merge, D * merge], rounded up."""
        items, length, width = x_BPD.shape
        if not self.grid:
            x_BPD = F.pad(x_BPD, (0, 0, 0, -length % self.merge))
            return x_BPD.reshape(items, -1, width * self.merge)
        side, step = round(length**0.5), round(self.merge**0.5)
        blocks = -(-side // step)
        x = F.pad(x_BPD.reshape(items, side, side, width), (0, 0, 0, -side % step, 0, -side % step))
        x = x.reshape(items, blocks, step, blocks, step, width).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(items, blocks * blocks, width * self.merge)


class Resampler(nn.Module):
    """One layer of Flamingo's perceiver (Alayrac et al. 2022): queries look at features and each other, then an MLP."""

    def __init__(self, width_E: int, heads: int) -> None:
        super().__init__()
        self.norm_q, self.norm_x, self.norm_f = (nn.LayerNorm(width_E) for _ in range(3))
        self.attention = nn.MultiheadAttention(width_E, heads, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(width_E, 4 * width_E), nn.GELU(), nn.Linear(4 * width_E, width_E))

    def forward(self, queries_BKE: torch.Tensor, x_BPE: torch.Tensor) -> torch.Tensor:
        asked = self.norm_q(queries_BKE)
        seen = torch.cat([self.norm_x(x_BPE), asked], dim=1)
        queries_BKE = queries_BKE + self.attention(asked, seen, seen, need_weights=False)[0]
        return queries_BKE + self.feed(self.norm_f(queries_BKE))  # type: ignore[no-any-return]


def _qformer_layer(width_E: int, heads: int) -> nn.Module:
    """One layer of the Q-Former (Li et al. 2023): the queries look at each other, then at the features, then an MLP."""
    return nn.TransformerDecoderLayer(
        width_E, heads, 4 * width_E, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )


class Queries(nn.Module):
    """K learned queries that layers of one kind fill from the features."""

    def __init__(self, options: ProjectorOptions, width_D: int, width_E: int, layer: object) -> None:
        super().__init__()
        self.enter = nn.Linear(width_D, width_E)
        self.queries_KE = nn.Parameter(torch.randn(options.queries, width_E) * 0.02)
        self.layers = nn.ModuleList(layer(width_E, options.heads) for _ in range(options.layers))  # type: ignore[operator]
        self.leave = nn.Sequential(nn.LayerNorm(width_E), nn.Linear(width_E, width_E))

    def forward(self, x_BPD: torch.Tensor) -> torch.Tensor:
        x_BPE = self.enter(x_BPD)
        queries_BKE = self.queries_KE.to(x_BPE.dtype).expand(len(x_BPE), -1, -1)
        for layer in self.layers:
            queries_BKE = layer(queries_BKE, x_BPE)
        return self.leave(queries_BKE)  # type: ignore[no-any-return]
