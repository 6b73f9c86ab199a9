"""Losses as small pure functions. Each gives one number per item (token, pair, frame, sample), so that the caller can
divide their sum by the count over all processes and accumulated packs, and tell each sample's own.

Shape suffixes: K labelled tokens, V vocabulary, E width, N pairs, M candidates, F frames, T positions, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

Logits = Callable[[torch.Tensor], torch.Tensor]


def token_losses(hidden_KE: torch.Tensor, labels_K: torch.Tensor, logits: Logits, chunk: int) -> torch.Tensor:
    """- log p of each label, float32 [K]. At most `chunk` positions' logits are held at once, also for the gradient."""

    def part(hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits(hidden).float(), labels, reduction="none")

    if 0 < len(hidden_KE) <= chunk:
        return part(hidden_KE, labels_K)
    parts = [
        checkpoint(part, hidden, labels, use_reentrant=False)
        for hidden, labels in zip(torch.split(hidden_KE, chunk), torch.split(labels_K, chunk), strict=True)
    ]
    return torch.cat(parts) if parts else hidden_KE.new_zeros(0, dtype=torch.float32)


def kl_losses(
    hidden_KE: torch.Tensor,
    reference_KE: torch.Tensor,
    logits: Logits,
    reference_logits: Logits,
    temperature: float,
    chunk: int,
) -> torch.Tensor:
    """KL(tuned, reference) at each position, softened by a temperature and times its square [K]; chunked as above."""

    def part(hidden: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        tuned = F.log_softmax(logits(hidden).float() / temperature, dim=-1)
        with torch.no_grad():
            kept = F.log_softmax(reference_logits(reference).float() / temperature, dim=-1)
        return (tuned.exp() * (tuned - kept)).sum(-1) * temperature**2

    parts = [
        checkpoint(part, hidden, reference, use_reentrant=False)
        for hidden, reference in zip(torch.split(hidden_KE, chunk), torch.split(reference_KE, chunk), strict=True)
    ]
    return torch.cat(parts) if parts else hidden_KE.new_zeros(0, dtype=torch.float32)


def masked_tokens(
    ids_T: torch.Tensor, candidates_T: torch.Tensor, share: float, mask_id: int, vocabulary: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids with `share` of the candidates masked as BERT does (80 % mask, 10 % random, 10 % kept), and which."""
    chosen_T = candidates_T & (torch.rand(ids_T.shape, device=ids_T.device) < share)
    draw_T = torch.rand(ids_T.shape, device=ids_T.device)
    changed_T = torch.where(chosen_T & (draw_T < 0.8), mask_id, ids_T)
    random_T = torch.randint(vocabulary, ids_T.shape, device=ids_T.device)
    return torch.where(chosen_T & (draw_T >= 0.8) & (draw_T < 0.9), random_T, changed_T), chosen_T


def info_nce(
    x_NE: torch.Tensor,
    y_NE: torch.Tensor,
    all_x_ME: torch.Tensor,
    all_y_ME: torch.Tensor,
    start: int,
    temperature: torch.Tensor,
) -> torch.Tensor:
    """InfoNCE over cosine similarity, both directions averaged [N]. Row i of x, y is row start + i of all_x, all_y."""
    targets_N = torch.arange(start, start + len(x_NE), device=x_NE.device)
    x_NE, y_NE, all_x_ME, all_y_ME = (F.normalize(rows.float(), dim=-1) for rows in (x_NE, y_NE, all_x_ME, all_y_ME))
    forth = F.cross_entropy(x_NE @ all_y_ME.T / temperature, targets_N, reduction="none")
    back = F.cross_entropy(y_NE @ all_x_ME.T / temperature, targets_N, reduction="none")
    return (forth + back) / 2


def mutual_information(mean_info_nce: float, candidates: int) -> float:
    """The InfoNCE bound on mutual information in nats: log M - loss (van den Oord et al. 2018)."""
    return math.log(candidates) - mean_info_nce


def siglip(
    x_NE: torch.Tensor, all_y_ME: torch.Tensor, start: int, temperature: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Pairwise sigmoid loss of each x with every y, summed over y (Zhai et al. 2023, who divide by N only) [N]."""
    scores_NM = F.normalize(x_NE.float(), dim=-1) @ F.normalize(all_y_ME.float(), dim=-1).T / temperature + bias
    signs_NM = -torch.ones_like(scores_NM)
    rows = torch.arange(len(x_NE), device=x_NE.device)
    signs_NM[rows, rows + start] = 1
    return -F.logsigmoid(signs_NM * scores_NM).sum(1)


def temporal_contrast(
    frames_FE: torch.Tensor, medium_F: torch.Tensor, times_s_F: torch.Tensor, near_s: float, temperature: torch.Tensor
) -> torch.Tensor:
    """InfoNCE of each frame with the next of its clip; negatives are frames of other clips and those beyond near_s."""
    firsts = next_frames(medium_F)
    unit_FE = F.normalize(frames_FE.float(), dim=-1)
    scores = unit_FE[firsts] @ unit_FE.T / temperature
    same = medium_F[firsts].unsqueeze(1) == medium_F.unsqueeze(0)
    near = (times_s_F[firsts].unsqueeze(1) - times_s_F.unsqueeze(0)).abs() <= near_s
    allowed = ~(same & near)
    allowed[torch.arange(len(firsts), device=firsts.device), firsts + 1] = True
    return F.cross_entropy(scores.masked_fill(~allowed, -math.inf), firsts + 1, reduction="none")


def next_frames(medium_F: torch.Tensor) -> torch.Tensor:
    """Numbers of frames that are followed by another of the same clip."""
    return torch.nonzero(medium_F[1:] == medium_F[:-1]).flatten()


def sequence_prediction(predicted_FE: torch.Tensor, frames_FE: torch.Tensor, medium_F: torch.Tensor) -> torch.Tensor:
    """Mean squared error of what each frame predicts and the next frame of its clip, one number a pair."""
    firsts = next_frames(medium_F)
    return (predicted_FE[firsts].float() - frames_FE[firsts + 1].float()).square().mean(-1)


def matching(x_NE: torch.Tensor, y_NE: torch.Tensor, temperature: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of the true pair and of the hardest other y, averaged [N]; without another, of the pair."""
    scores_NN = F.normalize(x_NE.float(), dim=-1) @ F.normalize(y_NE.float(), dim=-1).T / temperature + bias
    right_N = -F.logsigmoid(scores_NN.diagonal())
    if len(x_NE) < 2:
        return right_N
    wrong_NN = scores_NN.masked_fill(torch.eye(len(x_NE), dtype=torch.bool, device=x_NE.device), -math.inf)
    return (right_N - F.logsigmoid(-wrong_NN.max(1).values)) / 2


def matching_rank(x_NE: torch.Tensor, y_NE: torch.Tensor, margin: float | None) -> torch.Tensor:
    """- sim(pair) + mean of sim over the others [N]; with a margin, mean of max(0, margin - sim(pair) + sim(other))."""
    similarity_NN = F.normalize(x_NE.float(), dim=-1) @ F.normalize(y_NE.float(), dim=-1).T
    right_N1 = similarity_NN.diagonal().unsqueeze(1)
    differences_NN = similarity_NN - right_N1
    if margin is not None:
        differences_NN = F.relu(differences_NN + margin)
    others_NN = ~torch.eye(len(x_NE), dtype=torch.bool, device=x_NE.device)
    if len(x_NE) < 2:
        return -similarity_NN.diagonal() if margin is None else 0 * similarity_NN.diagonal()
    return (differences_NN * others_NN).sum(1) / (len(x_NE) - 1)


def ctc(logits: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], blank: int) -> torch.Tensor:
    """CTC of each [T, V] with its transcript, per token of it [S]; 0 where no alignment fits."""
    found = []
    for scores_TV, target in zip(logits, targets, strict=True):
        log_p = F.log_softmax(scores_TV.float(), dim=-1).unsqueeze(1)
        lengths = torch.tensor([len(scores_TV)]), torch.tensor([len(target)])
        loss = F.ctc_loss(log_p, target.unsqueeze(0), *lengths, blank=blank, reduction="sum", zero_infinity=True)
        found.append(loss / max(1, len(target)))
    return torch.stack(found) if found else torch.zeros(0)


def l1(x_NE: torch.Tensor, y_NE: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of each row [N]."""
    return (x_NE.float() - y_NE.float()).abs().mean(-1)


def l2(x_NE: torch.Tensor, y_NE: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each row [N]."""
    return (x_NE.float() - y_NE.float()).square().mean(-1)


def update_norm(pairs: Sequence[tuple[torch.Tensor, torch.Tensor, float]]) -> torch.Tensor:
    """Sum of the squared Frobenius norms of LoRA's updates scale * B A, given (A [r, in], B [out, r], scale) [1]."""
    # |B A|^2 = trace((B^T B) (A A^T)), without ever forming the update.
    norms = [scale**2 * ((B.T @ B) * (A @ A.T)).sum() for A, B, scale in pairs]
    return torch.stack(norms).sum().reshape(1)
