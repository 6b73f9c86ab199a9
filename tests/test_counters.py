"""Counts add up, travel as JSON, and the law catches every lost, doubled or made-up key."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.counters import Counters, StageCount, check_law
from mmdata.errors import Reason, Status
from mmdata.sample import Sample, child_key, sample_key

KEYS = [sample_key("pictures", number) for number in range(5)]
REASONS = st.sampled_from(list(Reason))


def _samples(reasons: list[Reason]) -> list[Sample]:
    return [Sample(sample_key("a", number), reason=reason) for number, reason in enumerate(reasons)]


def _counted(reasons: list[Reason]) -> Counters:
    counters = Counters(samples=len(reasons), bytes_in=10, bytes_out=3, seconds=0.5)
    counters.reasons.update(reason.value for reason in reasons)
    counters.stage("decode", _samples(reasons), 0.25)
    return counters


@given(st.lists(REASONS, max_size=30))
def test_given_is_ok_and_failed_and_dropped(reasons: list[Reason]) -> None:
    counters = _counted(reasons)
    count = counters.stages["decode"]
    assert count.given == count.ok + count.failed + count.dropped == len(reasons)
    assert sum(counters.by_status.values()) == len(reasons)
    assert counters.by_status == Counter(reason.status for reason in reasons)


@given(st.lists(REASONS, max_size=20), st.lists(REASONS, max_size=20))
def test_counts_of_two_shards_add_up_in_either_order(one: list[Reason], two: list[Reason]) -> None:
    forth, back = Counters(), Counters()
    for counters, parts in ((forth, (one, two)), (back, (two, one))):
        for part in parts:
            counters.add(_counted(part))
    assert forth == back
    assert forth.samples == len(one) + len(two)
    assert forth.reasons == Counter(reason.value for reason in one + two)
    assert forth.stages["decode"].seconds == 0.5


@given(st.lists(REASONS, max_size=20))
def test_counters_come_back_from_json_as_they_went(reasons: list[Reason]) -> None:
    counters = _counted(reasons)
    assert Counters.from_json(json.loads(json.dumps(counters.to_json()))) == counters


def test_adding_leaves_the_other_alone() -> None:
    shard = _counted([Reason.OK])
    total = Counters()
    total.add(shard)
    total.add(shard)
    assert shard == _counted([Reason.OK])
    assert total.stages["decode"] == StageCount(2, 2, 0, 0, 0.5)
    assert total.by_status == Counter({Status.OK: 2})


def test_the_law_holds_for_all_keys_in_any_order_and_status() -> None:
    samples = [Sample(key, reason=Reason.TIMEOUT) for key in reversed(KEYS)]
    check_law("a stage", KEYS, samples)


def test_a_key_may_come_back_as_its_children() -> None:
    children = [Sample(child_key(KEYS[0], index)) for index in range(3)]
    check_law("a stage", KEYS, [*children, *(Sample(key) for key in KEYS[1:])])


@pytest.mark.parametrize(
    ("back", "says"),
    [
        (KEYS[1:], f"lost keys ['{KEYS[0]}']"),
        ([*KEYS, KEYS[2]], f"doubled ['{KEYS[2]}']"),
        ([*KEYS, "other-000000000009"], "made up ['other-000000000009']"),
        ([*KEYS[1:], KEYS[1]], "lost keys"),
        ([], "lost keys"),
    ],
)
def test_a_broken_law_names_stage_and_key(back: list[str], says: str) -> None:
    with pytest.raises(AssertionError, match="ingest of shard 7: ") as caught:
        check_law("ingest of shard 7", KEYS, [Sample(key) for key in back])
    assert says in str(caught.value)


def test_a_child_beside_its_whole_parent_is_no_loss() -> None:
    check_law("a stage", KEYS[:1], [Sample(KEYS[0]), Sample(child_key(KEYS[0], 0))])
