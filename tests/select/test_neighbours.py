"""Star groups and connected parts."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.select.neighbours import components, stars

GRAPHS = st.integers(1, 30).flatmap(
    lambda nodes: st.tuples(
        st.just(nodes),
        st.lists(st.tuples(st.integers(0, nodes - 1), st.integers(0, nodes - 1)).filter(lambda e: e[0] != e[1])),
    )
)


def arrays(edges: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    flat = np.array(edges, np.int64).reshape(-1, 2)
    return flat[:, 0], flat[:, 1]


@settings(max_examples=200, deadline=None)
@given(graph=GRAPHS)
def test_stars_are_those_of_taking_nodes_from_the_best_on(graph: tuple[int, list[tuple[int, int]]]) -> None:
    nodes, edges = graph
    near = {node: {b for a, b in edges if a == node} | {a for a, b in edges if b == node} for node in range(nodes)}
    leaders: list[int] = []
    expected = []
    for node in range(nodes):
        mine = [leader for leader in leaders if leader in near[node]]
        expected.append(mine[0] if mine else node)
        if not mine:
            leaders.append(node)
    assert stars(*arrays(edges), nodes).tolist() == expected


def test_a_long_chain_is_no_group_and_takes_no_time() -> None:
    nodes = 3000
    chain = np.arange(nodes - 1)
    leader = stars(chain, chain + 1, nodes)
    assert leader.tolist() == [node - node % 2 for node in range(nodes)]


@settings(max_examples=100, deadline=None)
@given(graph=GRAPHS)
def test_components_are_what_can_be_reached(graph: tuple[int, list[tuple[int, int]]]) -> None:
    nodes, edges = graph
    found = components(*arrays(edges), nodes).tolist()
    assert all(found[a] == found[b] for a, b in edges)
    reach = {node: {node} for node in range(nodes)}
    for _ in range(nodes):
        for a, b in edges:
            both = reach[a] | reach[b]
            for node in both:
                reach[node] = reach[node] | both
    assert found == [min(reach[node]) for node in range(nodes)]
