"""Groups from pairs of rows that are near each other: stars around the best rows, and connected parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 40
_UNDECIDED, _LEADER, _FOLLOWER = 0, 1, 2


def stars(left: NDArray[np.int64], right: NDArray[np.int64], nodes: int) -> NDArray[np.int64]:
    """Leader of every node; a leader leads itself. Nodes are numbered from the best on; pairs in any order.

    As if nodes were taken from the best on: one that is near no leader becomes a leader, any other follows the best
    leader it is near. So a follower is near its leader itself, never by way of a third node.
    """
    low, high = np.minimum(left, right), np.maximum(left, right)
    state = np.zeros(nodes, np.int8)
    lows, highs = low, high
    for _ in range(_ROUNDS):
        if not len(lows):
            break
        waits = np.zeros(nodes, bool)
        waits[highs] = True  # by a better neighbour that may still become a leader
        state[lows[~waits[lows]]] = _LEADER
        follows = highs[state[lows] == _LEADER]
        state[follows] = _FOLLOWER
        open_pairs = (state[lows] == _UNDECIDED) & (state[highs] == _UNDECIDED)
        lows, highs = lows[open_pairs], highs[open_pairs]
    order = np.lexsort((highs, lows))
    for near, far in zip(lows[order].tolist(), highs[order].tolist(), strict=True):  # a long chain, one by one
        if state[near] != _FOLLOWER:
            state[near], state[far] = _LEADER, _FOLLOWER
    leader = np.arange(nodes)
    led = (state[low] != _FOLLOWER) & (state[high] == _FOLLOWER)
    leader[high[led]] = nodes
    np.minimum.at(leader, high[led], low[led])
    return leader


def components(left: NDArray[np.int64], right: NDArray[np.int64], nodes: int) -> NDArray[np.int64]:
    """The least node of the connected part that every node is in."""
    least = np.arange(nodes)
    while True:
        before = least.copy()
        one, other = least[left], least[right]
        np.minimum.at(least, one, other)
        np.minimum.at(least, other, one)
        least = least[least]
        if np.array_equal(before, least):
            return least
