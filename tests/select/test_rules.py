"""The rules: what each drops, its reason, and its detail."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmdata.errors import ConfigError
from mmdata.sample import sample_key
from mmdata.select.dedup import Dedup
from mmdata.select.subset import Subset
from mmdata.select.thresholds import Thresholds
from tests.select.selected import fates_of, selected, write_rows


def test_thresholds_name_the_value_and_the_limit(tmp_path: Path) -> None:
    rows = [
        {"row": 0, "similarity": 0.1234},
        {"row": 1, "similarity": 0.28, "size": 900, "punsafe": 0.1},
        {"row": 2, "similarity": 0.9, "size": 10, "punsafe": 0.1},
        {"row": 3, "similarity": 0.5, "size": 900, "punsafe": 0.75},
        {"row": 4, "similarity": 0.5, "size": 900},
        {"row": 5, "similarity": float("nan"), "size": 900, "punsafe": 0.1},
    ]
    tables = write_rows(tmp_path, rows, own={"size": 0, "punsafe": 0})
    rule = Thresholds.parse(
        {"clip_similarity": {"min": 0.28, "max": 0.8}, "punsafe": {"max": 0.5}, "width_px": {"min": 10}}, "t"
    )
    _, written = selected(tables, [rule], tmp_path)
    assert list(fates_of(written).values()) == [
        ("filtered.score_low", "clip_similarity 0.1234 < 0.28"),
        ("ok", ""),
        ("filtered.score_high", "clip_similarity 0.9 > 0.8"),
        ("filtered.threshold", "punsafe 0.75 > 0.5"),
        ("filtered.threshold", "punsafe is missing"),
        ("filtered.score_low", "clip_similarity is missing"),
    ]


def test_a_side_below_its_minimum_is_too_small_and_a_missing_value_may_be_kept(tmp_path: Path) -> None:
    tables = write_rows(tmp_path, [{"row": 0}, {"row": 1, "beauty_score": 3.0}], own={"beauty_score": 0})
    small = Thresholds.parse({"height_px": {"min": 49}}, "t")
    _, written = selected(tables, [small], tmp_path)
    assert set(fates_of(written).values()) == {("filtered.too_small", "height_px 48 < 49")}
    kept = Thresholds.parse({"beauty_score": {"min": 5, "missing": "keep"}}, "t")
    _, written = selected(tables, [kept], tmp_path)
    assert list(fates_of(written).values()) == [("ok", ""), ("filtered.score_low", "beauty_score 3 < 5")]


def test_float32_values_are_compared_exactly(tmp_path: Path) -> None:
    import numpy as np

    below = float(np.nextafter(np.float32(0.28), np.float32(0)))
    exact = float(np.float32(0.28))
    tables = write_rows(tmp_path, [{"row": 0, "similarity": below}, {"row": 1, "similarity": exact}])
    _, written = selected(tables, [Thresholds.parse({"clip_similarity": {"min": exact}}, "t")], tmp_path)
    assert [reason for reason, _ in fates_of(written).values()] == ["filtered.score_low", "ok"]


def test_wrong_thresholds_say_where_and_what_is_allowed(tmp_path: Path) -> None:
    for options, message in [
        ({}, "x.yaml: select\\[0\\].thresholds: found {}"),
        ({"a": {"mni": 1}}, r"did you mean min\?"),
        ({"a": {}}, "found neither min nor max"),
        ({"a": {"min": 2, "max": 1}}, "min 2 above max 1"),
        ({"a": {"min": "x"}}, "thresholds.a.min: found 'x'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            Thresholds.parse(options, "x.yaml: select[0].thresholds")
    tables = write_rows(tmp_path, [{"row": 0}])
    with pytest.raises(ConfigError, match=r"similarty: no such column \(did you mean clip_similarity\?\); there are: "):
        selected(tables, [Thresholds.parse({"clip_similarty": {"min": 1}}, "t")], tmp_path)
    with pytest.raises(ConfigError, match="caption: found a column of string, allowed are numbers"):
        selected(tables, [Thresholds.parse({"caption": {"min": 1}}, "t")], tmp_path)


def test_dedup_keeps_the_first_key_and_names_it(tmp_path: Path) -> None:
    contents = {2: "a", 0: "a", 1: "b", 3: None, 4: None, 5: "b"}
    rows = [{"row": row, "content": content} for row, content in contents.items()]
    _, written = selected(write_rows(tmp_path, rows), [Dedup()], tmp_path)
    gone = {key: fate for key, fate in fates_of(written).items() if fate[0] != "ok"}
    assert gone == {
        sample_key("pictures", 2): ("filtered.duplicate_content", sample_key("pictures", 0)),
        sample_key("pictures", 5): ("filtered.duplicate_content", sample_key("pictures", 1)),
    }


def test_dedup_by_url_keeps_the_best_and_a_missing_value_is_the_worst(tmp_path: Path) -> None:
    rows = [
        {"row": 0, "url": "u", "similarity": 0.1},
        {"row": 1, "url": "u", "similarity": 0.7},
        {"row": 2, "url": "u", "similarity": float("nan")},
        {"row": 3, "url": "u", "similarity": 0.7},
    ]
    _, written = selected(write_rows(tmp_path, rows), [Dedup(by="url", keep_best="clip_similarity")], tmp_path)
    best = sample_key("pictures", 1)
    assert list(fates_of(written).values()) == [
        ("filtered.duplicate_url", best),
        ("ok", ""),
        ("filtered.duplicate_url", best),
        ("filtered.duplicate_url", best),
    ]


def test_a_duplicate_of_a_row_that_an_earlier_rule_dropped_is_kept(tmp_path: Path) -> None:
    rows = [{"row": 0, "content": "a", "similarity": 0.1}, {"row": 1, "content": "a", "similarity": 0.9}]
    low = Thresholds.parse({"clip_similarity": {"min": 0.5}}, "t")
    tables = write_rows(tmp_path, rows)
    assert [reason for reason, _ in fates_of(selected(tables, [low, Dedup()], tmp_path)[1]).values()] == [
        "filtered.score_low",
        "ok",
    ]
    counts, _ = selected(tables, [Dedup(), low], tmp_path)
    assert [rule.reasons for rule in counts.rules] == [{"filtered.duplicate_content": 1}, {"filtered.score_low": 1}]
    assert [rule.given for rule in counts.rules] == [2, 1]


def test_a_subset_by_count_is_exact_and_by_share_grows_without_changing(tmp_path: Path) -> None:
    rows = [{"row": n, "content": str(n)} for n in range(300)]
    tables = write_rows(tmp_path, rows, per_shard=100)
    for count in (0, 1, 17, 300, 400):
        assert selected(tables, [Subset(count=count)], tmp_path)[0].num_kept == min(count, 300)
    kept = {}
    for share in (0.0, 0.3, 0.6, 1.0):
        fates = fates_of(selected(tables, [Subset(share=share)], tmp_path)[1])
        kept[share] = {key for key, (reason, _) in fates.items() if reason == "ok"}
        assert abs(len(kept[share]) - 300 * share) < 30
    assert kept[0.0] < kept[0.3] < kept[0.6] < kept[1.0]
    fewer = fates_of(selected(tables[:1], [Subset(share=0.3)], tmp_path)[1])
    assert {key for key, (reason, _) in fewer.items() if reason == "ok"} == kept[0.3] & set(fewer)
    other = fates_of(selected(tables, [Subset(share=0.3)], tmp_path, seed=18)[1])
    assert {key for key, (reason, _) in other.items() if reason == "ok"} != kept[0.3]
    gone = {fate for fate in other.values() if fate[0] != "ok"}
    assert gone == {("filtered.subset", "not in the random share of 0.3")}
    for wrong in ({}, {"share": 0.1, "count": 2}, {"share": 1.5}):
        with pytest.raises(ConfigError):
            Subset.parse(wrong, "x.yaml: select[0].subset")
