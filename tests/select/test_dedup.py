"""Dedup by every measure: which row stays, which reason the others have, and which rows another dataset has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.errors import ConfigError
from mmdata.sample import sample_key
from mmdata.select.dedup import Dedup
from mmdata.select.split import split_of
from tests.select.planted import decided, facts_of, kept_rows, write_planted
from tests.select.test_semantic import planted


def web(row: int) -> str:
    return sample_key("web", row)


def dedup(**options: Any) -> Dedup:
    return Dedup.parse(options, "x.yaml: select[0].dedup")


def leaders(found: dict[str, dict[str, Any]]) -> dict[int, int]:
    """Row that was dropped, and the row that its detail names."""
    return {int(k[-12:]): int(row["detail"][-12:]) for k, row in found.items() if row["status"] == "dropped"}


def test_captions_that_differ_in_case_and_white_space_are_the_same(tmp_path: Path) -> None:
    captions = ["A red  car", "a red car ", "a red cart", "\u00c9t\u00e9", "e\u0301te\u0301", None, None, ""]
    found = decided(tmp_path, [{"caption": text} for text in captions], [dedup(by="caption")])
    assert leaders(found) == {1: 0, 4: 3}
    assert {row["reason"] for row in found.values()} == {"ok", "filtered.duplicate_caption"}


def test_a_stage_s_caption_hash_serves_as_well(tmp_path: Path) -> None:
    rows = [{"caption_hash": value} for value in (7, 7, None, None, 2**63 + 5, 2**63 + 5)]
    assert leaders(decided(tmp_path, rows, [dedup(by="caption_hash")])) == {1: 0, 5: 4}


def flipped(value: int, *bits: int) -> int:
    for bit in bits:
        value ^= 1 << bit
    return value


HASH = 0x0123_4567_89AB_CDEF


def test_pictures_within_four_bits_are_the_same_and_never_by_way_of_a_third(tmp_path: Path) -> None:
    rows = [
        {"phash": HASH},
        {"phash": flipped(HASH, 0, 17, 33, 62)},  # four bits from row 0
        {"phash": flipped(HASH, 0, 17, 33, 62, 5, 6)},  # two from row 1, six from row 0
        {"phash": HASH},
        {"phash": flipped(HASH, *range(5))},
        {"phash": None},
    ]
    found = decided(tmp_path, rows, [dedup(by="phash")])
    assert leaders(found) == {1: 0, 3: 0}
    assert found[web(1)]["reason"] == "filtered.near_duplicate"
    assert leaders(decided(tmp_path, rows, [dedup(by="phash", distance=6)])) == {1: 0, 2: 0, 3: 0, 4: 0}
    assert leaders(decided(tmp_path, rows, [dedup(by="phash", distance=0)])) == {3: 0}


def test_the_best_row_of_a_star_is_kept_and_the_star_is_drawn_around_it(tmp_path: Path) -> None:
    rows = [
        {"phash": HASH, "clip_similarity": 0.2},
        {"phash": flipped(HASH, 1, 2, 3), "clip_similarity": 0.9},
        {"phash": flipped(HASH, 1, 2, 3, 4, 5, 6), "clip_similarity": 0.5},
        {"phash": flipped(HASH, 1, 2, 3), "clip_similarity": float("nan")},
    ]
    found = decided(tmp_path, rows, [dedup(by="phash", keep_best="clip_similarity")])
    assert leaders(found) == {0: 1, 2: 1, 3: 1}
    assert {row["duplicate_group"] for row in found.values()} == {web(1)}


def test_beyond_six_bits_the_embeddings_must_agree(tmp_path: Path) -> None:
    one, other = np.eye(8, dtype=np.float32)[:2]
    eight = flipped(HASH, *range(0, 64, 8))
    rows = [
        {"phash": HASH, "image_embedding": one},
        {"phash": eight, "image_embedding": one + 0.1 * other},
        {"phash": flipped(HASH, *range(1, 64, 8)), "image_embedding": other},
        {"phash": flipped(HASH, 9, 22), "image_embedding": other},
        {"phash": flipped(HASH, *range(2, 64, 8)), "image_embedding": None},
    ]
    far = dedup(by="phash", distance=8, embedding="image_embedding", cosine=0.95)
    assert leaders(decided(tmp_path, rows, [far])) == {1: 0, 3: 0}
    # One row of that hash that does not agree is enough for all of them to stay.
    rows.append({"phash": eight, "image_embedding": other})
    assert leaders(decided(tmp_path, rows, [far])) == {3: 0, 5: 1}


def test_embeddings_that_nearly_agree_are_semantic_duplicates(tmp_path: Path) -> None:
    vectors = planted(300, 32, 40, 0.96)
    rows = [{"image_embedding": vector, "clip_similarity": row / 300} for row, vector in enumerate(vectors)]
    rows.append({"image_embedding": None})
    found = decided(tmp_path, rows, [dedup(by="embedding", embedding="image_embedding")])
    assert leaders(found) == {260 + row: row for row in range(40)}
    assert {row["reason"] for row in found.values()} == {"ok", "filtered.semantic_duplicate"}
    best = dedup(by="embedding", embedding="image_embedding", keep_best="clip_similarity")
    assert leaders(decided(tmp_path, rows, [best])) == {row: 260 + row for row in range(40)}


@settings(max_examples=6, deadline=None)
@given(data=st.data(), by=st.sampled_from(["phash", "embedding", "caption"]), drops=st.booleans())
def test_the_outcome_does_not_depend_on_the_order_of_rows_or_on_threads(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, by: str, drops: bool
) -> None:
    folder = tmp_path_factory.mktemp("dedup")
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    vectors = planted(60, 8, 20, 0.97)
    rows = [
        {
            "row": row,
            "phash": flipped(HASH, *rng.choice(12, 3, replace=False).tolist()) if row % 2 else row << 32,
            "caption": f"caption {row % 23}",
            "image_embedding": vectors[row],
            "clip_similarity": float(rng.integers(0, 3)),
        }
        for row in range(60)
    ]
    rule = dedup(
        by=by,
        keep_best="clip_similarity",
        action="drop" if drops else "group",
        **({"embedding": "image_embedding"} if by == "embedding" else {}),
    )
    one = decided(folder, rows, [rule], threads=1)
    other = decided(folder, data.draw(st.permutations(rows)), [rule], threads=3)
    assert one == {key: other[key] for key in one}
    assert any(row["duplicate_group"] for row in one.values())


def test_groups_that_are_only_recorded_are_never_parted_by_a_split(tmp_path: Path) -> None:
    other = np.random.default_rng(2).integers(0, 2**64, 81, dtype=np.uint64).tolist()
    rows: list[dict[str, Any]] = [{"phash": flipped(HASH, *range(n % 3)) if n % 2 else other[n]} for n in range(80)]
    films = ["films-000000000001_0003", "films-000000000001_0004"]
    rows += [{"phash": HASH, "key": films[0]}, {"phash": other[80], "key": films[1]}]
    found = decided(tmp_path, rows, [dedup(by="phash", action="group")], val_share=0.5)
    assert all(row["keep"] for row in found.values())
    alike = [*(found[web(row)] for row in range(1, 80, 2)), found[films[0]]]
    assert {row["duplicate_group"] for row in alike} == {films[0]}
    # The film's other clip is in no group, and goes with its film all the same.
    assert found[films[1]]["duplicate_group"] is None
    assert len({row["split"] for row in [*alike, found[films[1]]]}) == 1
    others = {web(row): found[web(row)]["split"] for row in range(0, 80, 2)}
    assert others == {key: split_of(key, seed=17, val_share=0.5) for key in others}
    assert set(others.values()) == {"train", "val"}


def test_facts_tell_groups_and_the_largest_of_them(tmp_path: Path) -> None:
    rows = [{"caption": text} for text in ("a", "b", "a", "c", "a", "b")]
    (facts,) = facts_of(tmp_path, rows, [dedup(by="caption")])
    assert facts == {"groups": 2, "rows": 5, "largest": [[web(0), 3], [web(1), 2]]}


def test_leakage_of_a_hundred_planted_near_copies_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    theirs = rng.integers(0, 2**64, 500, dtype=np.uint64)
    run = tmp_path / "evaluation"
    write_planted(run, [{"phash": int(value)} for value in theirs])
    (folder,) = run.iterdir()
    ours = rng.integers(0, 2**64, 900, dtype=np.uint64).tolist()
    for row in range(100):
        ours.insert(7 * row, flipped(int(theirs[row]), *rng.choice(64, row % 5, replace=False).tolist()))
    found = decided(tmp_path, [{"phash": value} for value in ours], [dedup(by="phash", against=str(folder))])
    leaked = {key for key, row in found.items() if row["reason"] == "filtered.leakage"}
    assert leaked == {web(7 * row) for row in range(100)}
    assert {row["detail"] for row in found.values() if not row["keep"]} == {str(folder)}
    assert {row["reason"] for row in found.values()} == {"ok", "filtered.leakage"}


@pytest.mark.parametrize(
    ("by", "column", "name"),
    [("sha256", "raw_sha256", "sha256"), ("url", "url", "URL"), ("caption", "caption", "TEXT")],
)
def test_what_another_table_has_is_leakage_by_exact_values_too(tmp_path: Path, by: str, column: str, name: str) -> None:
    pq.write_table(pa.table({name: ["one", "Two ", None]}), tmp_path / "eval.parquet")
    rows = [{column: text} for text in ("one", "two", "three", None, "three")]
    kept = kept_rows(tmp_path, rows, [dedup(by=by, against=str(tmp_path / "eval.parquet"))])
    gone = {0, 1} if by == "caption" else {0}
    assert set(kept) == {web(row) for row in range(5) if row not in gone}


def test_embeddings_near_those_of_another_run_are_leakage(tmp_path: Path) -> None:
    vectors = planted(200, 16, 30, 0.97)
    write_planted(tmp_path / "eval", [{"image_embedding": vector} for vector in vectors[:30]])
    (folder,) = (tmp_path / "eval").iterdir()
    rows = [{"image_embedding": vector} for vector in vectors[30:]] + [{"image_embedding": vectors[40]}]
    rule = dedup(by="embedding", embedding="image_embedding", against=str(folder))
    found = decided(tmp_path, rows, [rule])
    assert {key for key, row in found.items() if not row["keep"]} == {web(row) for row in range(140, 170)}


def test_a_reference_without_the_column_says_what_it_has(tmp_path: Path) -> None:
    pq.write_table(pa.table({"name": ["x"]}), tmp_path / "eval.parquet")
    with pytest.raises(ConfigError, match=r"eval\.parquet: no column phash to compare by; there are: name"):
        decided(tmp_path, [{"phash": 1}], [dedup(by="phash", against=str(tmp_path / "eval.parquet"))])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "url", "distance": 3}, "distance: is for phash"),
        ({"by": "phash", "distance": 7}, "beyond 6 bits embeddings must agree"),
        ({"by": "caption_simhash", "distance": 7, "embedding": "e"}, "beyond 6 bits embeddings must agree"),
        ({"by": "phash", "distance": 11}, "less than or equal to 10"),
        ({"by": "embedding"}, "embedding: is required"),
        ({"by": "url", "cosine": 0.9}, "cosine and embedding are for"),
        ({"by": "url", "against": "x", "action": "group"}, "against: goes without"),
        ({"by": "name"}, "Input should be|input should be"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dedup(**options)


def test_rows_without_any_value_are_no_trouble(tmp_path: Path) -> None:
    rows = [{"phash": None, "image_embedding": None, "caption": None} for _ in range(3)]
    rows[0]["image_embedding"] = np.ones(4)
    rules = [dedup(by="phash"), dedup(by="caption"), dedup(by="embedding", embedding="image_embedding")]
    assert len(kept_rows(tmp_path, rows, rules)) == 3
    assert len(kept_rows(tmp_path, rows[:1], rules)) == 1
