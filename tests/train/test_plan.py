"""What the plan promises: every sample as often as its weight says, no pack too full, the same steps on every rank."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.errors import ConfigError
from mmdata.train.plan import Place, Plan
from mmdata.train.pools import Pool
from mmdata.train.sections import PlanOptions


def pool(
    tokens: list[int], *, weight: float = 1.0, modality: str = "image_text", media: list[int] | None = None
) -> Pool:
    numbers = np.arange(len(tokens), dtype=np.int32)
    lengths = np.array(tokens, np.int32)
    return Pool(
        modality, weight, shard=numbers // 7, row=numbers % 7, tokens=lengths,
        media=np.array(media if media is not None else [t // 2 for t in tokens], np.int32), labels=lengths // 3,
        source=np.zeros(len(tokens), np.int32), source_names=["made"], refused=Counter(),
    )  # fmt: skip


def options(**values: Any) -> PlanOptions:
    return PlanOptions(**{"tokens_per_pack": 64, "packs_per_step": 4, "window_samples": 16, **values})


def seen(plan: Plan) -> list[list[Place]]:
    """Samples of every step, over all its packs."""
    return [[place for pack in plan.packs_of(step) for place in pack.samples] for step in range(plan.num_steps)]


lengths = st.lists(st.integers(0, 64), min_size=1, max_size=80).filter(any)


@settings(max_examples=60, deadline=None)
@given(
    tokens=lengths,
    seed=st.integers(0, 5),
    epochs=st.integers(1, 3),
    group=st.sampled_from([1, 2, 6]),
    window=st.integers(1, 100),
    media_limit=st.sampled_from([0, 20]),
    packing=st.booleans(),
)
def test_every_usable_sample_is_there_once_an_epoch_and_no_pack_is_too_full(
    tokens: list[int], seed: int, epochs: int, group: int, window: int, media_limit: int, packing: bool
) -> None:
    made = pool(tokens)
    chosen = options(
        packs_per_step=group, epochs=epochs, window_samples=window, media_per_pack=media_limit, packing=packing
    )
    plan = Plan([made], chosen, seed)
    by_epoch: list[list[tuple[int, int]]] = [[] for _ in range(epochs)]
    for step in range(plan.num_steps):
        packs = plan.packs_of(step)
        assert len(packs) == group
        for pack in packs:
            rows = [place.shard * 7 + place.row for place in pack.samples]
            by_epoch[pack.epoch] += [(place.shard, place.row) for place in pack.samples]
            assert sum(tokens[row] for row in rows) <= 64
            media = sum(tokens[row] // 2 for row in rows)
            assert media <= (media_limit or 64) or len(rows) == 1
            assert packing or len(rows) <= 1
    usable = [(row // 7, row % 7) for row, length in enumerate(tokens) if length]
    for found in by_epoch:
        assert sorted(found) == usable


@settings(max_examples=40, deadline=None)
@given(tokens=lengths, seed=st.integers(0, 5), epochs=st.integers(1, 2))
def test_any_number_of_ranks_that_divides_the_batch_sees_the_same_samples_in_equal_steps(
    tokens: list[int], seed: int, epochs: int
) -> None:
    plan = Plan([pool(tokens)], options(packs_per_step=12, epochs=epochs), seed)
    for step in range(plan.num_steps):
        alone = {pack.number: pack.samples for pack in plan.packs_of(step)}
        for world in (2, 3, 4, 6, 12):
            ranks = [plan.packs_of(step, rank, world) for rank in range(world)]
            assert {len(packs) for packs in ranks} == {12 // world}
            assert {pack.number: pack.samples for packs in ranks for pack in packs} == alone
    with pytest.raises(ConfigError, match="5 processes do not divide"):
        plan.packs_of(0, 0, 5)


@settings(max_examples=40, deadline=None)
@given(first=lengths, second=lengths, weight=st.sampled_from([0.25, 0.5, 1.5, 2.0, 3.0]), seed=st.integers(0, 3))
def test_weights_are_passes_and_fractions_come_round(
    first: list[int], second: list[int], weight: float, seed: int
) -> None:
    epochs = 4
    plan = Plan([pool(first), pool(second, weight=weight)], options(epochs=epochs), seed)
    counts: list[Counter[tuple[int, int, int]]] = [Counter() for _ in range(epochs)]
    for step in range(plan.num_steps):
        for pack in plan.packs_of(step):
            counts[pack.epoch].update((p.entry, p.shard, p.row) for p in pack.samples)
    usable = sum(1 for length in second if length)
    for epoch, found in enumerate(counts):
        expected = round(weight * usable * (epoch + 1)) - round(weight * usable * epoch)
        assert sum(count for (entry, *_), count in found.items() if entry == 1) == expected
        assert all(count == 1 for (entry, *_), count in found.items() if entry == 0)
    total = sum(counts, Counter())
    times = [count for (entry, *_), count in total.items() if entry == 1]
    # Over all epochs no sample is seen twice more often than another.
    assert len(times) == usable or weight * epochs < 1
    assert max(times) - min(times) <= 1


def test_the_plan_is_the_same_each_time_and_another_for_another_seed_epoch_or_length() -> None:
    tokens = [5 + number % 23 for number in range(60)]
    plan = Plan([pool(tokens)], options(epochs=2), 1)
    again = Plan([pool(tokens)], options(epochs=2), 1)
    assert (plan.hash, seen(plan)) == (again.hash, seen(again))
    per_epoch = plan.num_steps // 2
    assert seen(plan)[:per_epoch] != seen(plan)[per_epoch:]
    others = [
        Plan([pool(tokens)], options(epochs=2), 2),
        Plan([pool([6, *tokens[1:]])], options(epochs=2), 1),
        Plan([pool(tokens)], options(epochs=2, packs_per_step=2), 1),
    ]
    assert len({plan.hash, *(other.hash for other in others)}) == 4


def test_packing_leaves_under_five_percent_of_padding_on_mixed_lengths() -> None:
    rng = np.random.default_rng(0)
    tokens = np.clip(rng.lognormal(5.0, 0.8, 4000), 20, 2048).astype(int).tolist()
    plan = Plan([pool(tokens)], PlanOptions(tokens_per_pack=2048, packs_per_step=8), 0)
    used, _, packs = plan.fill()
    assert used == sum(tokens)
    assert 1 - used / (packs * 2048) < 0.05


def test_quotas_are_shares_of_tokens_and_the_scarcest_modality_is_taken_whole() -> None:
    rng = np.random.default_rng(1)
    pictures = pool(rng.integers(10, 30, 600).tolist())
    text = pool(rng.integers(20, 60, 300).tolist(), modality="instruct")
    plan = Plan([pictures, text], options(quotas={"image_text": 0.75, "instruct": 0.25}), 0)
    found: Counter[int] = Counter()
    for samples in seen(plan):
        for place in samples:
            found[place.entry] += int((pictures, text)[place.entry].tokens[place.shard * 7 + place.row])
    assert found[0] / (found[0] + found[1]) == pytest.approx(0.75, abs=0.01)
    assert found[0] == pictures.tokens.sum()
    with pytest.raises(ConfigError, match="no tokens of instruct"):
        Plan([pictures, pool([0], modality="instruct")], options(quotas={"image_text": 0.5, "instruct": 0.5}), 0)


def test_pools_are_mixed_evenly_over_the_steps() -> None:
    plan = Plan([pool([16] * 400), pool([16] * 100)], options(window_samples=40), 0)
    for samples in seen(plan)[:-1]:
        share = sum(place.entry for place in samples) / len(samples)
        assert 0 < share < 0.6


def test_reading_stays_near_itself_within_a_window() -> None:
    plan = Plan([pool([32] * 700)], options(window_samples=28), 0)
    for samples in seen(plan):
        assert len({place.shard for place in samples}) <= 8, "two windows of four shards"


def test_packs_of_like_cost_stand_next_to_each_other() -> None:
    plan = Plan([pool([5 + 37 * number % 60 for number in range(90)])], options(packing=False, packs_per_step=6), 0)
    tokens = plan.pools[0].tokens
    for step in range(plan.num_steps):
        costs = [sum(int(tokens[p.shard * 7 + p.row]) for p in pack.samples) for pack in plan.packs_of(step)]
        assert costs == sorted(costs, reverse=True)


def test_steps_can_be_limited_and_a_plan_without_samples_is_refused() -> None:
    assert Plan([pool([32] * 100)], options(max_steps=3, epochs=100), 0).num_steps == 3
    empty = pool([0, 0])
    empty.refused["decode.corrupt"] = 2
    with pytest.raises(ConfigError, match=r"decode\.corrupt"):
        Plan([empty], options(), 0)
