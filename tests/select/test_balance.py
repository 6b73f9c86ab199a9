"""Balance: shares within one sample of target in samples, hours and tokens; caps, floors; what cannot be had."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.errors import ConfigError
from mmdata.select.balance import Balance
from mmdata.select.shares import targets_of_shares
from tests.select.planted import decided, facts_of


def balance(**options: Any) -> Balance:
    return Balance.parse(options, "x.yaml: select[0].balance")


def amounts(rows: list[dict[str, Any]], found: dict[str, dict[str, Any]], by: str, weight: Any) -> dict[str, float]:
    """What every group has in the dataset, repeats counted."""
    have: dict[str, float] = defaultdict(float)
    for row, outcome in zip(rows, sorted(found.values(), key=lambda row: row["key"]), strict=True):
        have[str(row[by])] += outcome["repeat"] * weight(row)
    return dict(have)


def test_images_ten_times_the_text_are_sampled_down_until_the_ratio_holds(tmp_path: Path) -> None:
    rows = [{"kind": "image" if row % 11 else "text"} for row in range(1100)]
    found = decided(tmp_path, rows, [balance(by="kind", shares={"image": 0.6, "text": 0.4})])
    assert amounts(rows, found, "kind", lambda row: 1) == {"text": 100, "image": 150}
    gone = [row for row in found.values() if not row["keep"]]
    assert {row["reason"] for row in gone} == {"filtered.balance"}
    assert {row["detail"] for row in gone} == {"image: 150 of 1000 samples"}


PLANTED = st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(1, 40), st.integers(1, 10)), min_size=1)


@settings(max_examples=9, deadline=None)
@given(groups=PLANTED, unit=st.sampled_from(["samples", "hours", "tokens"]), repeat=st.integers(1, 3), data=st.data())
def test_shares_are_within_one_sample_of_their_targets_in_every_unit(
    tmp_path_factory: pytest.TempPathFactory,
    groups: dict[str, tuple[int, int]],
    unit: str,
    repeat: int,
    data: st.DataObject,
) -> None:
    total = sum(parts for _, parts in groups.values())
    shares = {name: parts / total for name, (_, parts) in groups.items()}
    lengths = st.integers(1, 60)
    rows = [
        {"group": name, "duration_s": float(data.draw(lengths)), "size": data.draw(lengths)}
        for name, (number, _) in groups.items()
        for _ in range(number)
    ]
    tokens = {"tokens": "size + 1"} if unit == "tokens" else {}
    rule = balance(by="group", unit=unit, shares=shares, max_repeat=repeat, **tokens)
    weight = {
        "samples": lambda row: 1,
        "hours": lambda row: row["duration_s"] / 3600,
        "tokens": lambda row: row["size"] + 1,
    }[unit]
    found = decided(tmp_path_factory.mktemp("shares"), rows, [rule])
    have = amounts(rows, found, "group", weight)
    there = {name: sum(weight(row) for row in rows if row["group"] == name) for name in groups}
    most = min(there[name] * repeat / share for name, share in shares.items())
    for name, share in shares.items():
        heaviest = max(weight(row) for row in rows if row["group"] == name)
        assert abs(have[name] - share * most) <= heaviest + share + 1e-9
    assert max(row["repeat"] for row in found.values()) <= repeat


@settings(max_examples=4, deadline=None)
@given(data=st.data(), temperature=st.floats(0, 1))
def test_neither_order_of_rows_nor_threads_change_who_stays(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, temperature: float
) -> None:
    folder = tmp_path_factory.mktemp("order")
    rows = [{"row": row, "language": "en" if row % 4 else "zh", "duration_s": float(row % 7)} for row in range(80)]
    rule = balance(by="language", unit="hours", temperature=temperature, max_repeat=2)
    one = decided(folder, rows, [rule], threads=1)
    other = decided(folder, data.draw(st.permutations(rows)), [rule], threads=3)
    assert one == {key: other[key] for key in one}


def test_more_rows_of_one_group_change_nothing_in_another(tmp_path: Path) -> None:
    rows = [{"row": row, "language": "en"} for row in range(200)] + [
        {"row": 200 + row, "language": "zh"} for row in range(50)
    ]
    more = [*rows, *({"row": 300 + row, "language": "zh"} for row in range(50))]
    kept = []
    for given_rows, caps in ((rows, 40), (more, 40), (more, 60)):
        found = decided(tmp_path, given_rows, [balance(by="language", caps={"en": caps})])
        kept.append({key for key, row in found.items() if row["keep"] and int(key[-12:]) < 200})
    assert kept[0] == kept[1]
    assert len(kept[0]) == 40
    assert kept[0] < kept[2]


def test_temperature_brings_groups_nearer_to_each_other(tmp_path: Path) -> None:
    rows = [{"language": "en" if row < 160 else "zh"} for row in range(200)]
    sizes = {}
    for alpha in (1.0, 0.5, 0.0):
        found = decided(tmp_path, rows, [balance(by="language", temperature=alpha)])
        sizes[alpha] = amounts(rows, found, "language", lambda row: 1)
    assert sizes == {1.0: {"en": 160, "zh": 40}, 0.5: {"en": 80, "zh": 40}, 0.0: {"en": 40, "zh": 40}}


def test_caps_and_floors_hold_by_group_and_repeats_end_at_their_most(tmp_path: Path) -> None:
    rows = [{"kind": "a" if row < 50 else "b" if row < 60 else "c" if row < 62 else None} for row in range(65)]
    found = decided(tmp_path, rows, [balance(by="kind", caps=20, floors={"b": 15, "c": 20, "none": 4}, max_repeat=3)])
    assert amounts(rows, found, "kind", lambda row: 1) == {"a": 20, "b": 15, "c": 6, "None": 4}
    repeats = sorted(row["repeat"] for key, row in found.items() if 50 <= int(key[-12:]) < 60)
    assert repeats == [1] * 5 + [2] * 5


def test_groups_of_several_columns_are_called_by_their_values(tmp_path: Path) -> None:
    rows = [
        {"language": ("en", None)[row % 2], "source": ("web", "books")[row // 2 % 2], "row": row} for row in range(40)
    ]
    rule = balance(by=["language", "source"], caps={"en, web": 3, "none, books": 2})
    (facts,) = facts_of(tmp_path, rows, [rule])
    assert facts["groups"] == [
        ["en, books", 10, 10, 10],
        ["en, web", 10, 3, 3],
        ["none, books", 10, 2, 2],
        ["none, web", 10, 10, 10],
    ]


def test_tokens_are_words_and_what_the_media_come_to(tmp_path: Path) -> None:
    rows = [
        {"modality": "image_text", "caption": "two words"},
        {"modality": "audio_text", "caption": "\u4f60\u597d ok", "duration_s": 10.0},
        {"modality": "video_text", "caption": None, "duration_s": 2.0},
        {"modality": "instruct", "num_images": 3, "messages": "a b c"},
    ]
    (facts,) = facts_of(tmp_path, rows, [balance(by="modality", unit="tokens", temperature=1)])
    assert [group[:2] for group in facts["groups"]] == [
        ["instruct", 3 + 3 * 256],
        ["image_text", 2 + 256],
        ["audio_text", 3 + 250],
        ["video_text", 128],
    ]
    rule = balance(by="modality", unit="tokens", temperature=1, tokens={"image": 100, "audio_s": 50})
    (facts,) = facts_of(tmp_path, rows, [rule])
    assert {group[0]: group[1] for group in facts["groups"]} == {
        "image_text": 102,
        "audio_text": 503,
        "video_text": 128,
        "instruct": 303,
    }


def test_words_are_counted_as_the_index_counts_them(tmp_path: Path) -> None:
    from mmdata.emit.records import text_tokens

    captions = ["", "a b", "\u732b and \u72d7", "don't  stop\tme\nnow", "\uac00\ub098 x", "\U00020000\u3042"]
    rows = [{"caption": caption, "name": str(n)} for n, caption in enumerate(captions)]
    rule = balance(by="name", unit="tokens", temperature=1, tokens={"image": 1})
    (facts,) = facts_of(tmp_path, rows, [rule])
    assert {int(name): number - 1 for name, number, *_ in facts["groups"]} == dict(
        enumerate(map(text_tokens, captions))
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": {"en": 0.5, "fr": 0.5}}, r"shares of fr cannot be had: no rows .* nearest: {en: 1}"),
        (
            {"shares": {"en": 0.5, "zh": 0.5}, "total": 100},
            r"zh has 10 samples, which is enough for 20; nearest: total: 20",
        ),
        ({"shares": {"en": 0.5, "zh": 0.5}, "total": 100, "max_repeat": 2}, "enough for 40; nearest: total: 40"),
        ({"shares": {"en": 0.2, "zh": 0.2}}, r"come to 0.4 and no other group .* {en: 0.5, zh: 0.5}"),
        ({"caps": {"fr": 3}}, "fr: no rows of this group; there are en, zh"),
        ({"caps": 5, "floors": 8, "max_repeat": 2}, "floor 8 above cap 5"),
        ({"temperature": 1, "unit": "hours"}, "40 rows have no hours to count, the first is web-000000000000"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_nearest_that_can(tmp_path: Path, options: dict, message: str) -> None:
    rows = [{"language": "zh" if row < 10 else "en"} for row in range(40)]
    with pytest.raises(ConfigError, match=message):
        decided(tmp_path, rows, [balance(by="language", **options)])


def test_the_nearest_feasible_total_is_feasible() -> None:
    have, shares = {"a": 7.0, "b": 91.0, "c": 30.0}, {"a": 0.3, "b": 0.6, "c": 0.1}
    with pytest.raises(ConfigError) as error:
        targets_of_shares(shares, have, 1e9, 2, "hours", whole=False)
    total = float(str(error.value).rpartition("total: ")[2])
    found = targets_of_shares(shares, have, total, 2, "hours", whole=False)
    assert sum(found.values()) == pytest.approx(total)
    assert total == pytest.approx(7 * 2 / 0.3, abs=0.001)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of shares, temperature, and caps"),
        ({"shares": {"a": 0.5}, "temperature": 0.5}, "one of shares, temperature, and caps"),
        ({"shares": {"a": 0.9, "b": 0.6}}, r"they come to 1.5, .*{a: 0.6, b: 0.4}"),
        ({"caps": 3, "total": 5}, "total: is for shares"),
        ({"floors": 3}, "need max_repeat"),
        ({"caps": 3, "tokens": "size"}, "tokens: is for unit: tokens"),
        ({"caps": 3, "unit": "tokens", "tokens": "random()"}, "found function random"),
        ({"caps": 3, "unit": "tokens", "tokens": {"film": 3}}, "allowed are image, video_s, audio_s"),
        ({"caps": 0}, "greater than 0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        balance(by="language", **options)


def test_a_share_that_is_not_named_goes_to_the_others_as_they_are(tmp_path: Path) -> None:
    rows = [{"source": name} for name, number in (("a", 100), ("b", 60), ("c", 20)) for _ in range(number)]
    rows = [{"row": row, **of} for row, of in enumerate(rows)]
    (facts,) = facts_of(tmp_path, rows, [balance(by="source", shares={"a": 0.5})])
    assert [group[3] for group in facts["groups"]] == [80, 60, 20]
    (facts,) = facts_of(tmp_path, rows, [balance(by="source", shares={"a": 0.25, "b": 0.75})])
    assert [group[3] for group in facts["groups"]] == [20, 60, 0]


def test_a_later_balance_forgets_the_repeats_of_an_earlier_one(tmp_path: Path) -> None:
    rows = [{"kind": "a" if row < 5 else "b"} for row in range(25)]
    rules = [balance(by="kind", floors=10, max_repeat=4), balance(by="kind", temperature=1)]
    assert {row["repeat"] for row in decided(tmp_path, rows, rules[:1]).values()} == {1, 2}
    assert {row["repeat"] for row in decided(tmp_path, rows, rules).values()} == {1}


def test_reasons_need_no_regular_expression(tmp_path: Path) -> None:
    rows = [{"kind": "it's (a) [kind]"} for _ in range(4)]
    found = decided(tmp_path, rows, [balance(by="kind", caps=2)])
    assert all(
        re.fullmatch(r"it's \(a\) \[kind\]: 2 of 4 samples", r["detail"]) for r in found.values() if not r["keep"]
    )
