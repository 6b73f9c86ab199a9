"""A trained probe of pairs: two linear maps over stored embeddings, joined by InfoNCE, and how well they find captions.

What pairs are worth shows on right pairs of other pictures. Shape suffixes: N pairs, Q captions, P pictures, B batch,
D numbers of an embedding, E numbers of the joint space.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

SEEDS = (0, 1, 2)
STEPS, BATCH = 500, 128
WIDTH = 128
RATE = 1e-3
TEMPERATURE = 0.07


@dataclass(frozen=True)
class HeldOut:
    """Right pairs: pictures, their captions, and which picture a caption is of."""

    pictures_PD: np.ndarray
    captions_QD: np.ndarray
    picture_Q: np.ndarray


@dataclass(frozen=True)
class Probed:
    """Share of held-out captions whose picture comes first, and among the first five, by seed."""

    first: tuple[float, ...]
    first_five: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.mean(self.first)

    @property
    def spread(self) -> float:
        """Best less worst seed."""
        return max(self.first) - min(self.first)

    def __str__(self) -> str:
        worst, best = min(self.first), max(self.first)
        five = statistics.mean(self.first_five)
        return f"R@1 {self.mean:.1%} ({worst:.1%} to {best:.1%}), R@5 {five:.1%}"


def probed(pictures_ND: np.ndarray, captions_ND: np.ndarray, held_out: HeldOut) -> Probed:
    """Train on the pairs once a seed, the same steps and batch whatever their number, and measure."""
    scores = [_measure(_train(pictures_ND, captions_ND, seed), held_out) for seed in SEEDS]
    return Probed(*(tuple(numbers) for numbers in zip(*scores, strict=True)))


def _train(pictures_ND: np.ndarray, captions_ND: np.ndarray, seed: int) -> tuple[torch.nn.Linear, torch.nn.Linear]:
    torch.manual_seed(seed)
    pictures, captions = (F.normalize(torch.tensor(rows, dtype=torch.float32)) for rows in (pictures_ND, captions_ND))
    maps = tuple(torch.nn.Linear(rows.shape[1], WIDTH, bias=False) for rows in (pictures, captions))
    optimizer = torch.optim.Adam([each.weight for each in maps], lr=RATE)
    right_B = torch.arange(BATCH)
    for _ in range(STEPS):
        chosen_B = torch.randint(len(pictures), (BATCH,))
        x_BE, y_BE = (F.normalize(each(rows[chosen_B])) for each, rows in zip(maps, (pictures, captions), strict=True))
        logits_BB = x_BE @ y_BE.T / TEMPERATURE
        loss = (F.cross_entropy(logits_BB, right_B) + F.cross_entropy(logits_BB.T, right_B)) / 2
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return maps[0], maps[1]


@torch.no_grad()
def _measure(maps: tuple[torch.nn.Linear, torch.nn.Linear], held_out: HeldOut) -> tuple[float, float]:
    x_PE, y_QE = (
        F.normalize(each(F.normalize(torch.tensor(rows, dtype=torch.float32))))
        for each, rows in zip(maps, (held_out.pictures_PD, held_out.captions_QD), strict=True)
    )
    best_Q5 = (y_QE @ x_PE.T).topk(5, dim=1).indices.numpy()
    hits_Q5 = best_Q5 == held_out.picture_Q[:, None]
    return float(hits_Q5[:, 0].mean()), float(hits_Q5.any(axis=1).mean())
