"""Selection: every rule's reason, and the same outcome whatever the order of rows or the number of threads."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import psutil
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.errors import ConfigError, Reason, ShardError
from mmdata.sample import root_key, sample_key
from mmdata.select import selection
from mmdata.select.counts import SelectionCounts
from mmdata.select.dedup import Dedup
from mmdata.select.rules import Rule
from mmdata.select.selection import SCHEMA
from mmdata.select.split import is_val_sql, split_of
from mmdata.select.subset import Subset
from mmdata.select.tables import ShardTables
from mmdata.select.thresholds import Thresholds
from mmdata.select.workspace import stable_hash
from mmdata.shards import ledger, storage
from mmdata.shards.folders import RunFolder
from tests.builders import failed_sample, image_sample, write_run, write_staged_shard
from tests.select.selected import fates_of, selected, tables_of, write_rows


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


CONTENTS = st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=1, max_size=24)


@settings(max_examples=8, deadline=None)
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


KEYS = st.lists(st.from_regex(r"\A[a-z-]{1,9}-[0-9]{12}(_[0-9]{4,5})?(-x[0-9]{2})?\Z"), max_size=30)


@settings(max_examples=25, deadline=None)
@given(keys=KEYS, seed=st.integers(-3, 10), share=st.floats(0, 1))
def test_splits_in_sql_are_those_in_python_and_children_go_with_their_parent(
    keys: list[str], seed: int, share: float
) -> None:
    import duckdb

    is_val = is_val_sql("key", seed=seed, val_share=share)
    db = duckdb.connect()
    sides = [db.execute(f"SELECT {is_val} FROM (SELECT ? AS key)", [key]).fetchone() for key in keys]
    found = ["val" if side == (True,) else "train" for side in sides]
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


def test_a_container_that_allows_less_memory_is_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_CGROUP", tmp_path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=40 << 30))
    assert selection.spare_memory_mb() == 16 << 10
    (tmp_path / "memory.current").write_text(f"{2 << 30}\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert selection.spare_memory_mb() == 16 << 10
    (tmp_path / "memory.max").write_text(f"{12 << 30}\n")
    assert selection.spare_memory_mb() == 4 << 10
    (tmp_path / "memory.max").write_text(f"{3 << 30}\n")
    assert selection.spare_memory_mb() == selection.LEAST_MEMORY_MB
