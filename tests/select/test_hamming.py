"""Pairs of hashes: all that there are and no others, whatever the distance, and never by way of all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.select.hamming import blocks_for, near_pairs


def brute_force(hashes: np.ndarray, distance: int) -> set[tuple[int, int]]:
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    return set(zip(*(side.tolist() for side in np.nonzero(np.triu(apart <= distance, 1))), strict=True))


def as_set(pairs: tuple[np.ndarray, np.ndarray]) -> set[tuple[int, int]]:
    low, high = np.minimum(*pairs), np.maximum(*pairs)
    found = set(zip(low.tolist(), high.tolist(), strict=True))
    assert len(found) == len(low), "a pair was found twice"
    return found


def planted(rng: np.random.Generator, number: int, distances: range) -> np.ndarray:
    """Distinct hashes, sorted: some at random, and copies of them so many bits away."""
    base = rng.integers(0, 2**64, number, dtype=np.uint64)
    copies = [base]
    for distance in distances:
        flips = np.array(
            [sum(1 << int(bit) for bit in rng.choice(64, distance, replace=False)) for _ in base], np.uint64
        )
        copies.append(base ^ flips)
    return np.unique(np.concatenate(copies))


@pytest.mark.parametrize("distance", [1, 2, 4, 5, 6, 8, 10])
def test_pairs_are_those_of_brute_force(distance: int) -> None:
    hashes = planted(np.random.default_rng(distance), 150, range(1, 12))
    expected = brute_force(hashes, distance)
    assert len(expected) >= 150 * distance
    assert as_set(near_pairs(hashes, distance)) == expected


@settings(max_examples=20, deadline=None)
@given(
    values=st.lists(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 300)), max_size=60),
    distance=st.integers(0, 10),
    threads=st.integers(1, 3),
)
def test_any_hashes_have_the_pairs_of_brute_force(values: list[int], distance: int, threads: int) -> None:
    hashes = np.unique(np.array(values, np.uint64))
    expected = brute_force(hashes, distance) if distance else set()
    assert as_set(near_pairs(hashes, distance, threads)) == expected


def test_hashes_that_agree_in_most_bits_are_cut_into_blocks_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmdata.select.hamming._LONG_RUN", 20)
    rng = np.random.default_rng(1)
    crowd = rng.integers(0, 2**20, 300, dtype=np.uint64)
    hashes = np.unique(np.concatenate([crowd, planted(rng, 60, range(1, 6))]))
    for distance in (1, 3, 6):
        assert as_set(near_pairs(hashes, distance, 2)) == brute_force(hashes, distance)


def test_threads_change_nothing_not_even_the_order() -> None:
    hashes = planted(np.random.default_rng(3), 400, range(1, 7))
    one, two = near_pairs(hashes, 6, 1), near_pairs(hashes, 6, 2)
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])


def test_ten_million_hashes_meet_a_few_others_in_a_table_and_not_thousands() -> None:
    for distance in (2, 4, 6):
        blocks = blocks_for(10_000_000, 64, distance)
        assert 10_000_000 / 2 ** (64 * (blocks - distance) / blocks) < 20
