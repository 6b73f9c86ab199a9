"""The long tail: what is a concept, how many captions of a common one stay, and that rare ones all do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import ConfigError
from mmdata.sample import sample_key
from mmdata.select.long_tail import LongTail
from tests.select.planted import decided, facts_of, kept_rows


def long_tail(folder: Path, concepts: str = "", **options: Any) -> LongTail:
    if concepts:
        (folder / "concepts.txt").write_text(concepts, encoding="utf-8")
        options["concepts"] = str(folder / "concepts.txt")
    return LongTail.parse(options, "x.yaml: select[0].long_tail")


def captions(*texts: str | None) -> list[dict[str, Any]]:
    return [{"caption": text} for text in texts]


def test_concepts_match_whole_words_in_order_whatever_their_case_and_marks(tmp_path: Path) -> None:
    rows = captions(
        "A Red Panda!",
        "red pandas",
        "panda red",
        "the (red) panda, asleep",
        "\u4e00\u53ea\u5c0f\u718a\u732b\u3002",
        None,
        "",
    )
    found = decided(tmp_path, rows, [long_tail(tmp_path, "red panda\n\u718a\u732b\n\nRED  PANDA\n")])
    kept = [key for key, row in found.items() if row["keep"]]
    assert kept == [sample_key("web", row) for row in (0, 3, 4)]
    assert {(row["reason"], row["detail"]) for row in found.values() if not row["keep"]} == {
        ("filtered.no_concept", "no concept in the caption")
    }
    assert len(kept_rows(tmp_path, rows, [long_tail(tmp_path, "red panda", unmatched="keep")])) == 7


def test_a_common_concept_keeps_about_t_captions_and_a_rare_one_all(tmp_path: Path) -> None:
    rows = captions(*["a photo of a cat"] * 2000, *["a photo of an axolotl"] * 15, *["a cat and an axolotl"] * 5)
    found = decided(tmp_path, rows, [long_tail(tmp_path, "cat\naxolotl", t=300)])
    kept = [row["key"] for row in found.values() if row["keep"]]
    cats = [key for key in kept if int(key[-12:]) < 2000]
    assert 240 < len(cats) < 360
    assert len(kept) - len(cats) == 20
    gone = {(row["reason"], row["detail"]) for row in found.values() if not row["keep"]}
    assert gone == {("filtered.long_tail", "cat is its rarest concept, in 2005 captions")}


def test_chances_are_those_of_metaclip_for_captions_of_several_concepts(tmp_path: Path) -> None:
    rows = captions(*["red car"] * 1500, *["red"] * 500, *["car"] * 1500)
    found = decided(tmp_path, rows, [long_tail(tmp_path, "red\ncar", t=600)])
    red, car = 600 / 2000, 600 / 3000
    for start, end, chance in ((0, 1500, 1 - (1 - red) * (1 - car)), (1500, 2000, red), (2000, 3500, car)):
        kept = sum(found[sample_key("web", row)]["keep"] for row in range(start, end))
        spread = (chance * (1 - chance) * (end - start)) ** 0.5
        assert abs(kept - chance * (end - start)) < 4 * spread


def test_a_larger_t_keeps_all_that_a_smaller_one_keeps(tmp_path: Path) -> None:
    rows = captions(*[f"cat number {row % 7}" for row in range(300)])
    kept = [set(kept_rows(tmp_path, rows, [long_tail(tmp_path, "cat", t=t)])) for t in (20, 100, 300)]
    assert kept[0] < kept[1] < kept[2]
    assert len(kept[2]) == 300


def test_runs_of_words_serve_as_concepts_where_they_occur_often_enough(tmp_path: Path) -> None:
    rows = captions("old red car", "old red bus", "new red car", "red", None)
    (facts,) = facts_of(tmp_path, rows, [long_tail(tmp_path, ngrams=2, t=5)])
    assert facts["head"] == [["old red", 2, 2], ["red car", 2, 2]]
    assert (facts["concepts"], facts["capped"]) == (2, 0)
    assert len(kept_rows(tmp_path, rows, [long_tail(tmp_path, ngrams=2, t=5)])) == 3
    (facts,) = facts_of(tmp_path, rows, [long_tail(tmp_path, ngrams=1, min_count=1, t=5)])
    assert facts["head"][0] == ["red", 4, 4]
    assert facts["tail"][:2] == [[1, 4, 4], [2, 2, 2]]


def test_order_and_threads_change_nothing(tmp_path: Path) -> None:
    rows = [{"row": row, "caption": f"cat {'dog' if row % 3 else 'owl'} {row % 5}"} for row in range(200)]
    rule = long_tail(tmp_path, ngrams=1, t=30)
    one = decided(tmp_path, rows, [rule], threads=1)
    other = decided(tmp_path, rows[::-1], [rule], threads=3)
    assert one == {key: other[key] for key in one}
    assert 0 < sum(row["keep"] for row in one.values()) < 200


def test_wrong_options_and_empty_lists_are_refused(tmp_path: Path) -> None:
    for options in ({}, {"ngrams": 2, "concepts": "a"}):
        with pytest.raises(ConfigError, match="allowed is one of concepts: FILE and ngrams: N"):
            LongTail.parse(options, "t")
    with pytest.raises(ConfigError, match="found no concept of 1 to 12 words"):
        decided(tmp_path, captions("a"), [long_tail(tmp_path, "...\n!")])
    with pytest.raises(ConfigError, match=r"none\.txt: no such file"):
        decided(tmp_path, captions("a"), [LongTail(concepts=str(tmp_path / "none.txt"))])
