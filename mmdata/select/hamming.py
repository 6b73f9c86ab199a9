"""All pairs of 64-bit hashes that differ in a few bits, found exactly and never by comparing all with all.

Multi-index hashing (Norouzi, Punjani, Fleet 2012; block permutations as in Manku, Jain, Das Sarma 2007): bits are cut
into `blocks`; two hashes that differ in at most `distance` bits agree in at least blocks - distance whole blocks, so
they meet in one of the tables that are sorted by that many blocks. No pair is missed. A table is the hashes themselves
with those blocks moved to the top, so sorting it needs no index beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

BITS = 64
MAX_DISTANCE = 10
_TABLE_COST = 6.0  # of one hash in one table, in comparisons: moving blocks, sorting
_MAX_BLOCKS = 16
_LONG_RUN = 20_000  # hashes that meet in a table, beyond which their other bits are cut into blocks too, once
Hashes = NDArray[np.uint64]
Pairs = tuple[Hashes, Hashes]


def near_pairs(hashes: Hashes, distance: int, threads: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places (i, j) of all pairs at most `distance` bits apart in a sorted array of distinct hashes.

    Every pair once, in an order that does not depend on threads. distance: up to 10. Memory: a few arrays of the size
    of `hashes` for every thread, and the pairs.
    """
    if len(hashes) < 2 or not distance:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    # Neighbouring bits of a perceptual hash go together: dealt out like cards, every block has some of each kind.
    deal = [bit for first in range(8) for bit in range(first, BITS, 8)]
    dealt = _moved(hashes, _bit_moves(deal))
    dealt.sort()
    found = list(_pairs(dealt, BITS, distance, threads))
    back = [
        (mask >> np.uint64(move) if move > 0 else mask << np.uint64(-move), -move) for mask, move in _bit_moves(deal)
    ]
    left, right = (
        np.searchsorted(hashes, _moved(np.concatenate([pair[side] for pair in found]), back))
        if found
        else np.empty(0, np.int64)
        for side in (0, 1)
    )
    return left, right


def blocks_for(hashes: int, width: int, distance: int) -> int:
    """How many blocks to cut into: more give more tables to sort, fewer give more comparisons in each."""

    def cost(blocks: int) -> float:
        return comb(blocks, distance) * (_TABLE_COST + hashes / 2 ** (width * (blocks - distance) / blocks + 1))

    return min(range(distance + 1, min(width, _MAX_BLOCKS) + 1), key=cost)


def _pairs(hashes: Hashes, width: int, distance: int, threads: int) -> Iterator[Pairs]:
    """Pairs at most `distance` apart in a sorted array of hashes that differ in their last `width` bits only."""
    if width <= distance + 1:
        yield from _all_pairs(hashes, distance)
        return
    blocks = blocks_for(len(hashes), width, distance)
    edges = [width * block // blocks for block in range(blocks + 1)]  # bits counted from the first of the `width`
    tables = list(combinations(range(blocks), blocks - distance))

    def search(table: Sequence[int]) -> list[Pairs]:
        return list(_table_pairs(hashes, width, edges, table, distance))

    if threads == 1:
        for table in tables:
            yield from search(table)
        return
    with ThreadPoolExecutor(threads) as pool:
        for pairs in pool.map(search, tables):
            yield from pairs


def _table_pairs(
    hashes: Hashes, width: int, edges: Sequence[int], table: Sequence[int], distance: int
) -> Iterator[Pairs]:
    """Pairs that agree in the blocks of this table, and in no table that comes before it."""
    order = [*table, *(block for block in range(len(edges) - 1) if block not in table)]
    moves, back, place = [], [], 0
    for block in order:
        size = edges[block + 1] - edges[block]
        mask, move = ((1 << size) - 1) << (width - edges[block + 1]), place - edges[block]
        moves.append((np.uint64(mask), move))
        back.append((np.uint64(mask >> move if move > 0 else mask << -move), -move))
        place += size
    rest = width - sum(edges[block + 1] - edges[block] for block in table)
    above = hashes[:1] >> np.uint64(width) << np.uint64(width) if width < BITS else np.zeros(1, np.uint64)
    keys = _moved(hashes, moves)
    keys.sort()
    masks = np.array([mask for _, (mask, _) in sorted(zip(order, moves, strict=True))], np.uint64)
    shift = np.uint64(rest)

    def first(low: Hashes, high: Hashes) -> Pairs:
        low, high = _moved(low, back) | above, _moved(high, back) | above
        agree = ((low ^ high)[:, None] & masks) == 0
        ours = agree[:, : table[-1] + 1].sum(axis=1) == len(table)  # no block before the last of them is left over
        return low[ours], high[ours]

    starts = np.arange(len(keys) - 1)
    if width == BITS and (keys[_LONG_RUN:] >> shift == keys[:-_LONG_RUN] >> shift).any():
        tops = keys >> shift
        ends = np.flatnonzero(np.concatenate([tops[1:] != tops[:-1], [True]])) + 1
        begins = np.concatenate([[0], ends[:-1]])
        is_long = ends - begins > _LONG_RUN
        for begin, end in zip(begins[is_long].tolist(), ends[is_long].tolist(), strict=True):
            for low, high in _pairs(keys[begin:end], rest, distance, 1):
                yield first(low, high)
        starts = starts[~np.repeat(is_long, ends - begins)[:-1]]
    for step in range(1, len(keys)):
        starts = starts[: np.searchsorted(starts, len(keys) - step)]
        differing = keys[starts] ^ keys[starts + step]
        together = differing >> shift == 0
        starts, differing = starts[together], differing[together]
        if not len(starts):
            return
        near = starts[np.bitwise_count(differing) <= distance]
        if len(near):
            yield first(keys[near], keys[near + step])


def _all_pairs(hashes: Hashes, distance: int) -> Iterator[Pairs]:
    for step in range(1, len(hashes)):
        close = np.bitwise_count(hashes[step:] ^ hashes[:-step]) <= distance
        if close.any():
            yield hashes[:-step][close], hashes[step:][close]


def _bit_moves(order: Sequence[int]) -> list[tuple[np.uint64, int]]:
    """Masks of the bits that move to the right by so much, where bit order[i], from the left, goes to place i."""
    by: dict[int, int] = {}
    for place, bit in enumerate(order):
        by[place - bit] = by.get(place - bit, 0) | 1 << (BITS - 1 - bit)
    return [(np.uint64(mask), move) for move, mask in sorted(by.items())]


def _moved(hashes: Hashes, moves: Sequence[tuple[np.uint64, int]]) -> Hashes:
    """The bits under every mask moved to the right by so much (left where negative); all others 0."""
    out = np.zeros_like(hashes)
    moved = np.empty_like(hashes)
    for mask, move in moves:
        np.bitwise_and(hashes, mask, out=moved)
        if move > 0:
            np.right_shift(moved, np.uint64(move), out=moved)
        elif move < 0:
            np.left_shift(moved, np.uint64(-move), out=moved)
        np.bitwise_or(out, moved, out=out)
    return out
