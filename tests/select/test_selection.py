"""Selection: every rule's reason, and the same outcome whatever the order of rows or the number of threads."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.errors import ConfigError, Reason, ShardError
from mmdata.sample import root_key, sample_key
from mmdata.select.counts import SelectionCounts
from mmdata.select.dedup import Dedup
from mmdata.select.rules import Rule
from mmdata.select.selection import SCHEMA, select
from mmdata.select.split import is_val_sql, split_of
from mmdata.select.subset import Subset
from mmdata.select.tables import ShardTables
from mmdata.select.thresholds import Thresholds
from mmdata.select.workspace import stable_hash
from mmdata.shards import ledger, storage
from mmdata.shards.folders import RunFolder
from tests.builders import failed_sample, image_sample, write_run, write_staged_shard

Fates = dict[str, tuple[str, str]]


def tables_of(run: RunFolder, shards: int) -> list[ShardTables]:
    return [
        ShardTables(number, run.ledger(number), {"image_text": run.scores("image_text", number)})
        for number in range(shards)
    ]


def selected(
    tables: list[ShardTables], rules: list[Rule], scratch: Path, **options: Any
) -> tuple[SelectionCounts, dict[int, pa.Table]]:
    written: dict[int, pa.Table] = {}
    options = {"seed": 17, "val_share": 0.2, **options}
    counts = select(tables, rules, scratch=scratch / "select", write=written.__setitem__, **options)
    return counts, written


def fates_of(written: dict[int, pa.Table]) -> Fates:
    """Reason and detail by key."""
    return {
        row["key"]: (row["reason"], row["detail"]) for table in written.values() for row in table.to_pylist()
    }


def write_rows(
    folder: Path, rows: list[dict[str, Any]], per_shard: int = 4, own: dict[str, Any] | None = None
) -> list[ShardTables]:
    """Shards with these rows; a row: number, content, url, similarity and own columns."""
    run = RunFolder(str(folder / f"run-{random.random()}"))
    shards = [rows[start : start + per_shard] for start in range(0, len(rows), per_shard)]
    for number, shard in enumerate(shards):
        samples = []
        for row in shard:
            sample = image_sample("pictures", row["row"], content=0)
            sample.columns |= {"raw_sha256": row.get("content"), "url": row.get("url", f"u{row['row']}")}
            samples.append(sample)
        columns = pa.table({name: [row.get(name) for row in shard] for name in own or ()}) if own else None
        write_staged_shard(run, number, samples, [row.get("similarity", 0.5) for row in shard], own=columns)
    return tables_of(run, len(shards))


def test_a_row_that_failed_at_ingest_keeps_its_reason_and_is_no_business_of_rules(tmp_path: Path) -> None:
    tables = tables_of(write_run(tmp_path / "run"), 3)
    counts, written = selected(tables, [Thresholds.parse({"clip_similarity": {"min": 2}}, "t")], tmp_path)
    fates = fates_of(written)
    assert fates["pictures-000000000003"] == ("fetch.http_4xx", "404")
    assert counts.reasons == {"fetch.http_4xx": 9, "filtered.score_low": 51}
    assert counts.num_kept == 0


def test_the_table_of_a_shard_is_row_aligned_with_its_ledger(tmp_path: Path) -> None:
    tables = tables_of(write_run(tmp_path / "run"), 3)
    _, written = selected(tables, [Dedup(), Subset(share=0.5)], tmp_path)
    for shard in tables:
        table = written[shard.shard]
        assert table.schema == SCHEMA
        assert table["key"].to_pylist() == ledger.read(shard.ledger, ["key"])["key"].to_pylist()
        for row in table.to_pylist():
            assert Reason(row["reason"]).status.value == row["status"]
            assert row["keep"] == (row["status"] == "ok") == (row["repeat"] == 1) == (row["split"] is not None)


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


CONTENTS = st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=1, max_size=24)


@settings(max_examples=15, deadline=None)
@given(contents=CONTENTS, seed=st.integers(0, 5), data=st.data())
def test_the_outcome_does_not_depend_on_the_order_of_rows_or_on_threads(
    tmp_path_factory: pytest.TempPathFactory, contents: list[str | None], seed: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("order")
    rows = [{"row": n, "content": c, "similarity": (n * 7 % 5) / 5} for n, c in enumerate(contents)]
    shuffled = data.draw(st.permutations(rows))
    rules: list[Rule] = [
        Thresholds.parse({"clip_similarity": {"min": 0.2}}, "t"),
        Dedup(keep_best="clip_similarity"),
        Subset(share=0.7),
        Subset(count=5),
    ]
    one = selected(write_rows(folder, rows), rules, folder, seed=seed, threads=1)
    two = selected(write_rows(folder, shuffled, per_shard=7), rules, folder, seed=seed, threads=4)
    assert fates_of(one[1]) == fates_of(two[1])
    splits = [
        {row["key"]: row["split"] for table in written.values() for row in table.to_pylist()}
        for _, written in (one, two)
    ]
    assert splits[0] == splits[1]
    assert one[0].reasons == two[0].reasons
    assert [rule.reasons for rule in one[0].rules] == [rule.reasons for rule in two[0].rules]
    assert one[0].rows == len(contents) == sum(one[0].reasons.values())


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


KEYS = st.lists(st.from_regex(r"\A[a-z-]{1,9}-[0-9]{12}(_[0-9]{4,5})?(-x[0-9]{2})?\Z"), max_size=30)


@settings(max_examples=25, deadline=None)
@given(keys=KEYS, seed=st.integers(-3, 10), share=st.floats(0, 1))
def test_splits_in_sql_are_those_in_python_and_children_go_with_their_parent(
    keys: list[str], seed: int, share: float
) -> None:
    import duckdb

    is_val = is_val_sql("key", seed=seed, val_share=share)
    db = duckdb.connect()
    found = ["val" if db.execute(f"SELECT {is_val} FROM (SELECT ? AS key)", [key]).fetchone()[0] else "train" for key in keys]
    assert found == [split_of(key, seed=seed, val_share=share) for key in keys]
    assert found == [split_of(root_key(key), seed=seed, val_share=share) for key in keys]


def test_val_share_is_met_and_a_hash_is_the_same_for_ever() -> None:
    splits = [split_of(sample_key("a", row), seed=1, val_share=0.1) for row in range(5000)]
    assert 400 < splits.count("val") < 600
    assert stable_hash(17, "split", "pictures-000000000001") == 11738472302688771350


def test_a_scorer_that_failed_gives_the_row_its_reason(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", shards=1)
    path = run.scores("image_text", 0)
    table = ledger.read(path)
    for name, value in (("status", "failed"), ("reason", "score.failed")):
        values = table[name].to_pylist()
        values[1] = value
        table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))
    storage.write_whole(path, ledger.parquet_bytes(table))
    counts, written = selected(tables_of(run, 1), [], tmp_path)
    assert fates_of(written)["pictures-000000000001"] == ("score.failed", "image_text")
    assert counts.reasons == {"fetch.http_4xx": 3, "score.failed": 1, "ok": 16}


def test_scores_of_other_rows_are_a_shard_error(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", shards=2)
    tables = [ShardTables(0, run.ledger(0), {"image_text": run.scores("image_text", 1)})]
    with pytest.raises(ShardError, match=r"scores/image_text/00001.parquet: its keys are not those of the ledger"):
        selected(tables, [], tmp_path)


def test_counts_add_up_and_go_through_json(tmp_path: Path) -> None:
    rules: list[Rule] = [Thresholds.parse({"clip_similarity": {"min": 0.1}}, "t"), Dedup(), Subset(share=0.8)]
    counts, _ = selected(tables_of(write_run(tmp_path / "run"), 3), rules, tmp_path)
    assert SelectionCounts.from_json(json.loads(json.dumps(counts.to_json()))).to_json() == counts.to_json()
    assert counts.rows == 60 == sum(counts.reasons.values()) == sum(counts.funnel.values())
    assert counts.reasons["ok"] == counts.num_kept == sum(kept.samples for kept in counts.kept)
    assert sum(rule.dropped for rule in counts.rules) == sum(
        number for reason, number in counts.reasons.items() if reason.startswith("filtered.")
    )
    for before, after in zip(counts.rules, counts.rules[1:], strict=False):
        assert before.given - before.dropped == after.given
    assert {kept.parts for kept in counts.kept} == {"jpg"}


def test_columns_that_two_places_have_need_their_place_before_them(tmp_path: Path) -> None:
    tables = write_rows(tmp_path, [{"row": 0, "clip_similarity": 9.0}], own={"clip_similarity": 0})
    with pytest.raises(ConfigError, match=r"ledger\.clip_similarity"):
        selected(tables, [Thresholds.parse({"clip_similarity": {"min": 1}}, "t")], tmp_path)
    limits = {"ledger.clip_similarity": {"min": 5}, "image_text.clip_similarity": {"max": 0.6}}
    assert selected(tables, [Thresholds.parse(limits, "t")], tmp_path)[0].num_kept == 1


def test_a_column_that_only_some_sources_have_is_missing_in_the_others(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "run"))
    for shard, own in enumerate([pa.table({"stars": [5]}), pa.table({"stars": [0.5]}), pa.table({"other": ["x"]})]):
        write_staged_shard(run, shard, [image_sample("pictures", shard)], [0.3], own=own)
    counts, written = selected(tables_of(run, 3), [Thresholds.parse({"stars": {"min": 1}}, "t")], tmp_path)
    assert list(fates_of(written).values()) == [
        ("ok", ""),
        ("filtered.threshold", "stars 0.5 < 1"),
        ("filtered.threshold", "stars is missing"),
    ]
    assert counts.own["image_text"].names == ["stars", "other"]


def test_no_shards_and_shards_without_an_ok_row_come_to_nothing(tmp_path: Path) -> None:
    rules: list[Rule] = [Thresholds.parse({"clip_similarity": {"min": 0.1}}, "t"), Dedup(), Subset(count=3)]
    assert selected([], rules, tmp_path)[0].rows == 0
    run = RunFolder(str(tmp_path / "run"))
    write_staged_shard(run, 0, [failed_sample("pictures", row) for row in range(3)], [0.0] * 3)
    counts, _ = selected(tables_of(run, 1), rules, tmp_path)
    assert (counts.rows, counts.num_kept, dict(counts.reasons)) == (3, 0, {"fetch.http_4xx": 3})


def test_nothing_is_left_in_the_scratch_folder(tmp_path: Path) -> None:
    selected(tables_of(write_run(tmp_path / "run"), 3), [Dedup()], tmp_path)
    assert [path for path in (tmp_path / "select").rglob("*") if path.is_file()] == []
