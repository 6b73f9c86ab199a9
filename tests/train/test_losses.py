"""Every loss against its formula, written out again in numpy, and against open_clip where it has the same."""

from __future__ import annotations

import math
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as td
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.train import losses
from mmdata.train.dist import Dist

RNG = np.random.default_rng(5)
X, Y = (RNG.standard_normal((6, 8)).astype(np.float32) for _ in range(2))
x, y = torch.from_numpy(X), torch.from_numpy(Y)
tau = torch.tensor(0.2)
bias = torch.tensor(-0.7)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def log_softmax(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    rows = rows - rows.max(-1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(-1, keepdims=True))


def log_sigmoid(values: np.ndarray) -> np.ndarray:
    return -np.log1p(np.exp(-values.astype(np.float64)))


def close(found: torch.Tensor, expected: Any) -> None:
    np.testing.assert_allclose(found.detach().numpy(), np.asarray(expected), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_language_modelling_is_minus_log_p_of_each_label_whatever_the_chunk(chunk: int) -> None:
    hidden, weight = RNG.standard_normal((7, 8)).astype(np.float32), RNG.standard_normal((11, 8)).astype(np.float32)
    labels = RNG.integers(0, 11, 7)
    head = torch.nn.Linear(8, 11, bias=False)
    head.weight.data = torch.from_numpy(weight)
    states = torch.from_numpy(hidden).requires_grad_()
    found = losses.token_losses(states, torch.from_numpy(labels), head, chunk)
    logged = log_softmax(hidden @ weight.T)
    close(found, -logged[np.arange(7), labels])
    found.sum().backward()
    one_hot = np.eye(11)[labels]
    close(states.grad, (np.exp(logged) - one_hot) @ weight)  # type: ignore[arg-type]


def test_language_modelling_without_labels_is_empty() -> None:
    assert losses.token_losses(
        torch.zeros(0, 8), torch.zeros(0, dtype=torch.int64), torch.nn.Linear(8, 3), 4
    ).shape == (0,)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_kl_is_of_the_tuned_against_the_reference(temperature: float) -> None:
    tuned, reference = RNG.standard_normal((2, 5, 9)).astype(np.float32)
    same = torch.nn.Identity()
    found = losses.kl_losses(torch.from_numpy(tuned), torch.from_numpy(reference), same, same, temperature, 2)
    p, q = log_softmax(tuned / temperature), log_softmax(reference / temperature)
    close(found, (np.exp(p) * (p - q)).sum(-1) * temperature**2)
    close(losses.kl_losses(torch.from_numpy(tuned), torch.from_numpy(tuned), same, same, temperature, 9), np.zeros(5))


def test_masking_is_of_the_share_and_kinds_that_bert_has() -> None:
    torch.manual_seed(0)
    ids = torch.full((40_000,), 7)
    candidates = torch.arange(40_000) % 2 == 0
    changed, chosen = losses.masked_tokens(ids, candidates, 0.15, 1, 1000)
    assert not (chosen & ~candidates).any()
    assert torch.equal(changed[~chosen], ids[~chosen])
    assert chosen.sum().item() / 20_000 == pytest.approx(0.15, abs=0.01)
    masked, kept = (changed[chosen] == 1).float().mean().item(), (changed[chosen] == 7).float().mean().item()
    assert masked == pytest.approx(0.8, abs=0.02)
    assert kept == pytest.approx(0.1, abs=0.02)


def info_nce_by_hand(a: np.ndarray, b: np.ndarray, temperature: float) -> np.ndarray:
    scores = unit(a).astype(np.float64) @ unit(b).astype(np.float64).T / temperature
    forth = [-(row[i] - np.log(np.exp(row).sum())) for i, row in enumerate(scores)]
    back = [-(row[i] - np.log(np.exp(row).sum())) for i, row in enumerate(scores.T)]
    return (np.array(forth) + np.array(back)) / 2


def test_info_nce_is_the_formula_in_both_directions() -> None:
    close(losses.info_nce(x, y, x, y, 0, tau), info_nce_by_hand(X, Y, 0.2))
    # A part of the rows against all of them, as one process of several has it.
    close(losses.info_nce(x[2:4], y[2:4], x, y, 2, tau), info_nce_by_hand(X, Y, 0.2)[2:4])
    assert losses.info_nce(x[:0], y[:0], x, y, 0, tau).shape == (0,)


def test_info_nce_and_siglip_are_those_of_open_clip() -> None:
    from open_clip.loss import ClipLoss, SigLipLoss

    a, b = torch.nn.functional.normalize(x, dim=-1), torch.nn.functional.normalize(y, dim=-1)
    close(losses.info_nce(x, y, x, y, 0, tau).mean(), ClipLoss()(a, b, 1 / tau))
    close(losses.siglip(x, y, 0, tau, bias).mean(), SigLipLoss()(a, b, 1 / tau, bias))


def test_mutual_information_is_bounded_by_log_n_minus_the_loss() -> None:
    assert losses.mutual_information(0.5, 8) == pytest.approx(math.log(8) - 0.5)
    same = losses.info_nce(x, x, x, x, 0, torch.tensor(0.01)).mean()
    assert losses.mutual_information(float(same), 6) == pytest.approx(math.log(6), abs=1e-4)


def test_siglip_asks_of_every_pair_whether_it_belongs_together() -> None:
    scores = unit(X) @ unit(Y).T / 0.2 - 0.7
    signs = 2 * np.eye(6) - 1
    close(losses.siglip(x, y, 0, tau, bias), -log_sigmoid(signs * scores).sum(1))
    close(losses.siglip(x[4:], y, 4, tau, bias), -log_sigmoid(signs * scores).sum(1)[4:])


MEDIUM = torch.tensor([0, 0, 0, 1, 1, 2])
TIMES = torch.tensor([0.0, 1.0, 9.0, 0.0, 1.0, 0.0])


def test_temporal_contrast_pulls_the_next_frame_from_other_clips_and_distant_frames() -> None:
    found = losses.temporal_contrast(x, MEDIUM, TIMES, 2.0, tau)
    scores = unit(X).astype(np.float64) @ unit(X).astype(np.float64).T / 0.2
    allowed = {0: [1, 2, 3, 4, 5], 1: [0, 2, 3, 4, 5], 3: [0, 1, 2, 4, 5]}
    allowed[1].remove(0)  # one second away
    expected = [-(scores[i, i + 1] - np.log(np.exp(scores[i, to]).sum())) for i, to in allowed.items()]
    close(found, expected)


def test_sequence_prediction_is_the_error_of_the_next_frame_of_the_clip() -> None:
    found = losses.sequence_prediction(y, x, MEDIUM)
    close(found, [((Y[i] - X[i + 1]) ** 2).mean() for i in (0, 1, 3)])
    assert losses.next_frames(torch.tensor([4])).shape == (0,)


def test_matching_is_cross_entropy_of_the_pair_and_of_the_hardest_other() -> None:
    scores = unit(X) @ unit(Y).T / 0.2 - 0.7
    hardest = np.where(np.eye(6, dtype=bool), -np.inf, scores).max(1)
    close(losses.matching(x, y, tau, bias), (-log_sigmoid(scores.diagonal()) - log_sigmoid(-hardest)) / 2)
    close(losses.matching(x[:1], y[:1], tau, bias), -log_sigmoid(scores.diagonal()[:1]))


@pytest.mark.parametrize("margin", [None, 0.3])
def test_matching_by_rank_is_similarity_of_others_less_that_of_the_pair(margin: float | None) -> None:
    similarity = unit(X) @ unit(Y).T
    expected = []
    for i in range(6):
        others = [similarity[i, j] - similarity[i, i] for j in range(6) if j != i]
        expected.append(np.mean(others if margin is None else [max(0.0, margin + o) for o in others]))
    close(losses.matching_rank(x, y, margin), expected)


def ctc_by_hand(log_p: np.ndarray, target: list[int], blank: int) -> float:
    """Sum over all paths of the forward recursion (Graves et al. 2006)."""
    labels = [blank]
    for token in target:
        labels += [token, blank]
    alpha = np.zeros(len(labels))
    alpha[:2] = np.exp(log_p[0, labels[:2]])
    for row in log_p[1:]:
        new = np.zeros_like(alpha)
        for s, label in enumerate(labels):
            total = alpha[s] + (alpha[s - 1] if s else 0)
            if s > 1 and label != blank and label != labels[s - 2]:
                total += alpha[s - 2]
            new[s] = total * np.exp(row[label])
        alpha = new
    return float(-np.log(alpha[-1] + alpha[-2]))


def test_ctc_is_the_sum_over_alignments_per_token() -> None:
    targets = [[2, 2, 3], [1]]
    logits = [RNG.standard_normal((length, 5)).astype(np.float32) for length in (9, 4)]
    found = losses.ctc([torch.from_numpy(a) for a in logits], [torch.tensor(t) for t in targets], 0)
    close(found, [ctc_by_hand(log_softmax(a), t, 0) / len(t) for a, t in zip(logits, targets, strict=True)])
    assert losses.ctc([torch.zeros(2, 5)], [torch.tensor([1, 2, 3])], 0).tolist() == [0.0], "no alignment fits"


def test_l1_and_l2_are_means_of_each_row() -> None:
    close(losses.l1(x, y), np.abs(X - Y).mean(1))
    close(losses.l2(x, y), ((X - Y) ** 2).mean(1))


def test_the_norm_of_an_update_is_that_of_its_product() -> None:
    a, b = RNG.standard_normal((2, 7)).astype(np.float32), RNG.standard_normal((5, 2)).astype(np.float32)
    pairs = [(torch.from_numpy(a), torch.from_numpy(b), 1.5), (torch.from_numpy(2 * a), torch.from_numpy(b), 0.5)]
    expected = ((1.5 * b @ a) ** 2).sum() + ((0.5 * b @ (2 * a)) ** 2).sum()
    close(losses.update_norm(pairs), [expected])


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(2, 6), scale=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_contrastive_losses_do_not_depend_on_lengths_of_vectors(rows: int, scale: float, seed: int) -> None:
    made = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rows, 5, generator=made), torch.randn(rows, 5, generator=made)
    for loss in (
        lambda p, q: losses.info_nce(p, q, p, q, 0, tau),
        lambda p, q: losses.siglip(p, q, 0, tau, bias),
        lambda p, q: losses.matching(p, q, tau, bias),
        lambda p, q: losses.matching_rank(p, q, 0.2),
    ):
        torch.testing.assert_close(loss(a * scale, b), loss(a, b), rtol=1e-3, atol=1e-4)


def gathered(rank: int, store: str, results: Any) -> None:
    """One of two processes with 4 and 2 of the pairs: its loss, summed, and its rows' gradients."""
    torch.set_num_threads(1)
    td.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    rows = slice(0, 4) if rank == 0 else slice(4, 6)
    a, b = x[rows].clone().requires_grad_(), y[rows].clone().requires_grad_()
    dist = Dist(rank, 2)
    all_a, start = dist.gather_rows(a)
    all_b, _ = dist.gather_rows(b)
    loss = losses.info_nce(a, b, all_a, all_b, start, tau).sum()
    loss.backward()
    empty, at = dist.gather_rows(a[:0] if rank else a)
    sums = dist.sums({"b": rank + 1.0, "a": 10.0})
    results.put((rank, float(loss.detach()), a.grad.tolist(), b.grad.tolist(), len(empty), at, sums))  # type: ignore[union-attr]
    td.destroy_process_group()


def test_gathered_negatives_give_the_loss_and_gradients_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    workers = [context.Process(target=gathered, args=(rank, str(tmp_path / "store"), results)) for rank in range(2)]
    for worker in workers:
        worker.start()
    found = sorted(results.get(timeout=100) for _ in workers)
    for worker in workers:
        worker.join(timeout=30)
        assert worker.exitcode == 0
    a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
    whole = losses.info_nce(a, b, a, b, 0, tau).sum()
    whole.backward()
    assert sum(part[1] for part in found) == pytest.approx(float(whole.detach()), rel=1e-5)
    close(torch.tensor(found[0][2] + found[1][2]), a.grad)
    close(torch.tensor(found[0][3] + found[1][3]), b.grad)
    assert [part[4:6] for part in found] == [(4, 0), (4, 4)]
    assert all(part[6] == {"a": 20.0, "b": 3.0} for part in found)
