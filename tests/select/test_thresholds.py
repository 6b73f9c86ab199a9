"""Thresholds by percentile and share, by group, and what wrong ones say."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.errors import ConfigError
from mmdata.sample import sample_key
from mmdata.select.thresholds import Thresholds
from tests.select.planted import decided, facts_of, kept_rows


def numbers_kept(folder: Path, rows: list[dict], limits: dict) -> list[int]:
    kept = kept_rows(folder, rows, [Thresholds.parse(limits, "t")])
    return sorted(int(key[-12:]) for key in kept)


@settings(max_examples=6, deadline=None)
@given(values=st.permutations(range(40)), share=st.floats(0.01, 1), percent=st.integers(0, 100))
def test_shares_and_percentiles_keep_as_many_rows_as_they_say(
    tmp_path_factory: pytest.TempPathFactory, values: list[int], share: float, percent: int
) -> None:
    folder = tmp_path_factory.mktemp("share")
    rows = [{"size": value} for value in values]
    top = decided(folder, rows, [Thresholds.parse({"size": {"top_share": share}}, "t")])
    best = sorted(range(40), key=lambda row: -values[row])[: max(1, round(40 * share))]
    assert {row for row in range(40) if top[sample_key("web", row)]["keep"]} == set(best)
    above = numbers_kept(folder, rows, {"size": {"min": f"p{percent}"}})
    assert sorted(values[row] for row in above) == list(range(max(1, math.ceil(percent * 40 / 100)) - 1, 40))


def test_a_share_per_group_is_taken_of_every_group_and_nulls_are_a_group(tmp_path: Path) -> None:
    rows = [{"language": ("en", "zh", None)[row % 3], "clip_similarity": row / 100 + row % 3} for row in range(60)]
    limits = {"clip_similarity": {"top_share": 0.25, "per": "language"}}
    assert numbers_kept(tmp_path, rows, limits) == list(range(45, 60))
    whole = {"clip_similarity": {"top_share": 0.25}}
    assert numbers_kept(tmp_path, rows, whole) == list(range(17, 60, 3))[-15:]
    (facts,) = facts_of(tmp_path, rows, [Thresholds.parse(limits, "t")])
    assert [bound["group"] for bound in facts["bounds"]["clip_similarity"]] == [["en"], ["zh"], [None]]
    assert facts["bounds"]["clip_similarity"][0]["min"] == pytest.approx(0.45)


def test_groups_of_several_columns_and_both_ends_at_once(tmp_path: Path) -> None:
    rows = [{"language": "en" if row < 20 else "zh", "license": f"l{row % 2}", "size": row} for row in range(40)]
    limits = {"size": {"min": "p20", "max": "p80", "per": ["language", "license"]}}
    kept = numbers_kept(tmp_path, rows, limits)
    assert kept == [*range(2, 16), *range(22, 36)]


def test_equal_values_at_the_end_of_a_share_are_all_kept(tmp_path: Path) -> None:
    rows = [{"size": value} for value in (1, 5, 5, 5, 9)]
    assert numbers_kept(tmp_path, rows, {"size": {"top_share": 0.4}}) == [1, 2, 3, 4]


def test_details_say_share_and_percentile_and_reasons_those_of_the_column(tmp_path: Path) -> None:
    rows = [{"clip_similarity": 0.1, "width_px": 5}, {"clip_similarity": 0.2, "width_px": 9}, {"width_px": 9}]
    found = decided(tmp_path, rows, [Thresholds.parse({"clip_similarity": {"top_share": 0.5}}, "t")])
    assert [(row["reason"], row["detail"]) for row in found.values()] == [
        ("filtered.score_low", "clip_similarity 0.1 is not in the top 0.5"),
        ("ok", ""),
        ("filtered.score_low", "clip_similarity is missing"),
    ]
    found = decided(tmp_path, rows, [Thresholds.parse({"width_px": {"min": "p50"}}, "t")])
    assert next((row["reason"], row["detail"]) for row in found.values()) == ("filtered.too_small", "width_px 5 < p50")


def test_a_limit_of_a_column_called_like_one_of_ours_is_no_trouble(tmp_path: Path) -> None:
    rows = [{"low": row, "high": -row, "g0": "x", "num": row} for row in range(10)]
    limits = {name: {"min": "p50", "per": "g0"} for name in ("low", "num")} | {"high": {"max": 0}}
    assert numbers_kept(tmp_path, rows, limits) == [4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"min": "p101"}, "percentiles such as p10"),
        ({"min": "low"}, "percentiles such as p10"),
        ({"min": 0.1, "top_share": 0.3}, "found min and top_share"),
        ({"min": 0.1, "per": "language"}, "per: is for percentiles and top_share"),
        ({"top_share": 0}, "greater than 0"),
        ({"per": "language"}, "neither min nor max"),
    ],
)
def test_wrong_limits_are_refused_with_what_is_allowed(limit: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Thresholds.parse({"size": limit}, "x.yaml: select[0].thresholds")


def test_plain_limits_have_the_options_they_always_had() -> None:
    rule = Thresholds.parse({"size": {"min": 3}}, "t")
    assert rule.limits == {"size": {"min": 3.0, "max": None, "missing": "drop"}}
