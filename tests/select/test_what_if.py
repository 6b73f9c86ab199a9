"""What-if: the same counts as deciding would give, and the samples at the edge."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmdata.errors import ConfigError
from mmdata.select.balance import Balance
from mmdata.select.dedup import Dedup
from mmdata.select.thresholds import Thresholds
from mmdata.select.what_if import Edge, what_if
from tests.select.planted import write_planted
from tests.select.selected import selected


def limit(value: float) -> Thresholds:
    return Thresholds.parse({"clip_similarity": {"min": value}}, "t")


def test_counts_are_those_of_deciding_and_the_rows_stay_as_they_are(tmp_path: Path) -> None:
    rows = [
        {
            "row": row,
            "clip_similarity": row / 100,
            "raw_sha256": str(row % 50),
            "language": f"l{row % 3}",
            "caption": f"c{row}",
        }
        for row in range(90)
    ]
    tables = write_planted(tmp_path, rows)
    after = Balance.parse({"by": "language", "temperature": 0}, "t")
    values = (0.1, 0.2, 0.75)
    outcomes = what_if(
        tables,
        [Dedup()],
        {str(value): [limit(value), after] for value in values},
        {str(value): Edge("clip_similarity", value) for value in values},
        seed=17,
        scratch=tmp_path / "what-if",
        examples=2,
    )
    for value, outcome in zip(values, outcomes, strict=True):
        counts, _ = selected(tables, [Dedup(), limit(value), after], tmp_path)
        assert outcome.kept == counts.num_kept
        assert outcome.given == counts.rules[1].given == 50
        assert outcome.dropped == counts.rules[1].reasons
    assert [(s.key[-2:], s.caption) for s in outcomes[1].below] == [("19", "c19"), ("18", "c18")]
    assert [(s.key[-2:], round(s.value or 0, 2)) for s in outcomes[1].above] == [("20", 0.2), ("21", 0.21)]
    assert outcomes[2].above == []
    assert not (tmp_path / "what-if").exists()


def test_a_value_equal_to_the_limit_is_above_it(tmp_path: Path) -> None:
    tables = write_planted(tmp_path, [{"row": row, "clip_similarity": row / 4} for row in range(4)])
    (outcome,) = what_if(
        tables, [], {"x": [limit(0.5)]}, {"x": Edge("clip_similarity", 0.5)}, seed=1, scratch=tmp_path / "w"
    )
    assert [sample.value for sample in outcome.below] == [0.25, 0.0]
    assert [sample.value for sample in outcome.above] == [0.5, 0.75]


def test_a_rule_without_an_edge_shows_what_it_drops(tmp_path: Path) -> None:
    rows = [{"row": row, "caption": "same", "url": f"u{row}"} for row in range(5)]
    variants = {by: [Dedup.parse({"by": by}, "t")] for by in ("caption", "url")}
    one, other = what_if(write_planted(tmp_path, rows), [], variants, {}, seed=1, scratch=tmp_path / "w")
    assert [(sample.key[-1], sample.detail[-1], sample.url) for sample in one.below] == [
        ("1", "0", "u1"),
        ("2", "0", "u2"),
        ("3", "0", "u3"),
    ]
    assert (one.kept, other.kept, other.below) == (1, 5, [])


def test_a_column_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    tables = write_planted(tmp_path, [{"row": 0}])
    with pytest.raises(ConfigError, match="beauty: no such column"):
        what_if(tables, [], {"x": [Thresholds.parse({"beauty": {"min": 1}}, "t")]}, {}, seed=1, scratch=tmp_path / "w")
