"""Pairs of embeddings: planted ones found, no others, the same for any order and threads."""

from __future__ import annotations

import numpy as np
import pytest

from mmdata.select.semantic import LENGTH, cosines, near_pairs, rounded


def planted(number: int, width: int, copies: int, cosine: float, seed: int = 0) -> np.ndarray:
    """Directions at random; each of the last `copies` at this cosine from one of the first. float16."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((number, width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    aside = rng.standard_normal((copies, width))
    aside -= (aside * vectors[:copies]).sum(axis=1, keepdims=True) * vectors[:copies]
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    vectors[number - copies :] = cosine * vectors[:copies] + np.sqrt(1 - cosine**2) * aside
    return vectors.astype(np.float16)


def pairs_of(vectors: np.ndarray, order: np.ndarray, cosine: float, threads: int = 1) -> set[tuple[int, int]]:
    left, right = near_pairs(vectors, order, cosine, threads)
    assert (left < right).all()
    return set(zip(left.tolist(), right.tolist(), strict=True))


def test_planted_pairs_are_found_and_no_others() -> None:
    vectors = planted(6000, 64, 300, 0.96)
    found = pairs_of(vectors, np.arange(6000), 0.95)
    expected = {(row, 5700 + row) for row in range(300)}
    assert len(found & expected) >= 0.99 * 300
    assert found <= expected
    assert not pairs_of(vectors, np.arange(6000), 0.97)


def test_neither_order_nor_threads_change_the_pairs() -> None:
    vectors = planted(3000, 32, 200, 0.93)
    one = pairs_of(vectors, np.arange(3000), 0.9, 1)
    shuffled = np.random.default_rng(5).permutation(3000)
    back = np.argsort(shuffled)
    other = pairs_of(vectors[shuffled], back, 0.9, 2)
    assert {tuple(sorted((int(shuffled[a]), int(shuffled[b])))) for a, b in other} == one


def test_length_does_not_matter_and_zero_is_like_nothing() -> None:
    vectors = np.array([[1, 2, 3], [10, 20, 30], [0, 0, 0], [0, 0, 0], [3, -2, 1]], np.float16)
    assert pairs_of(vectors, np.arange(5), 0.99) == {(0, 1)}


@pytest.mark.parametrize("width", [2, 384, 2048])
def test_a_sum_of_products_of_rounded_vectors_is_exact_in_float32(width: int) -> None:
    rows = rounded(np.random.default_rng(width).standard_normal((50, width)))
    exact = rows.astype(np.int64) @ rows.astype(np.int64).T
    assert exact.max() < 2**24
    assert np.array_equal(rows @ rows.T, exact)
    assert np.abs(np.sqrt(np.diag(exact)) - LENGTH).max() <= np.sqrt(width) / 2
    assert np.abs(cosines(rows, rows) - 1).max() < 1e-12
