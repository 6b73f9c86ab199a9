"""Ledgers of several modalities, sources and places, read as one table."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmdata.errors import ConfigError, ShardError
from mmdata.sample import sample_key
from mmdata.select.balance import Balance
from mmdata.select.dedup import Dedup
from mmdata.select.reference import fingerprint
from mmdata.select.tables import Columns, ShardTables
from mmdata.select.thresholds import Thresholds
from mmdata.select.where import Where
from tests.select.planted import decided, kept_rows, write_planted
from tests.select.selected import fates_of, selected


def test_a_run_of_every_modality_is_one_table_with_nulls_where_a_column_is_not(tmp_path: Path) -> None:
    modalities = ("image_text", "video_text", "audio_text", "interleaved", "instruct")
    rows = [{"modality": name, "row": row, "raw_sha256": str(row % 7)} for row, name in enumerate(modalities * 4)]
    for row in rows:
        if row["modality"] in ("video_text", "audio_text"):
            row["duration_s"] = float(row["row"])
        if row["modality"] in ("image_text", "video_text"):
            row["width_px"] = 100 + row["row"]
    rules = [
        Thresholds.parse(
            {"duration_s": {"min": 3, "missing": "keep"}, "width_px": {"max": 115, "missing": "keep"}}, "t"
        ),
        Where.parse({"expr": "num_images is null"}, "t"),
        Dedup(),
        Balance.parse({"by": "modality", "caps": 1}, "t"),
    ]
    found = decided(tmp_path, rows, rules)
    assert len(found) == 20
    assert {found[key]["reason"] for key in (sample_key("web", 1), sample_key("web", 2))} == {"filtered.threshold"}
    kept = [row for row in rows if found[sample_key("web", row["row"])]["keep"]]
    assert len({row["modality"] for row in kept}) == len(kept)


def test_names_that_differ_in_case_only_do_not_meet(tmp_path: Path) -> None:
    rows = [{"url": "one", "URL": 5}, {"url": "two", "URL": 1}]
    rule = Thresholds.parse({"URL": {"min": 3}}, "t")
    assert list(kept_rows(tmp_path, rows, [rule])) == [sample_key("web", 0)]
    assert len(kept_rows(tmp_path, rows, [Dedup(by="url")])) == 2
    with pytest.raises(ConfigError, match="columns URL and url differ in case only"):
        decided(tmp_path, rows, [rule, Where.parse({"expr": "url > 'a'"}, "t")])


def test_tables_in_remote_storage_are_read_like_local_ones(tmp_path: Path) -> None:
    rows = [{"row": row, "clip_similarity": row / 10, "raw_sha256": str(row // 2)} for row in range(10)]
    local = write_planted(tmp_path, rows, per_shard=4)
    memory = fsspec.filesystem("memory")
    remote = []
    for shard in local:
        paths = {}
        for place, path in shard.paths.items():
            paths[place] = f"memory://select-test/{shard.shard}-{place}.parquet"
            memory.pipe(paths[place], Path(path).read_bytes())
        remote.append(ShardTables(shard.shard, paths.pop("ledger"), paths))
    rules = [Thresholds.parse({"clip_similarity": {"min": 0.3}}, "t"), Dedup()]
    assert fates_of(selected(remote, rules, tmp_path)[1]) == fates_of(selected(local, rules, tmp_path)[1])


def test_a_dictionary_a_null_and_a_wider_type_of_one_column_go_together(tmp_path: Path) -> None:
    kinds = [
        pa.array(["a", "b"]).dictionary_encode(),
        pa.nulls(2),
        pa.array(["c", None]),
    ]
    numbers = [pa.array([1, 2], pa.int8()), pa.array([2**40, None], pa.int64()), pa.array([1.5, 2.5])]
    tables = []
    for number, (kind, size) in enumerate(zip(kinds, numbers, strict=True)):
        (shard,) = write_planted(tmp_path / str(number), [{"row": 2 * number}, {"row": 2 * number + 1}])
        table = pq.read_table(shard.ledger).append_column("kind", kind).append_column("size", size)
        pq.write_table(table, shard.ledger)
        tables.append(ShardTables(number, shard.ledger, shard.scores))
    rule = Where.parse({"expr": "kind in ('a', 'c') and size >= 1"}, "t")
    fates = fates_of(selected(tables, [rule], tmp_path)[1])
    assert [reason == "ok" for reason, _ in fates.values()] == [True, False, False, False, True, False]


def test_a_scorer_s_file_with_other_rows_is_named(tmp_path: Path) -> None:
    tables = write_planted(tmp_path, [{"row": row} for row in range(6)], per_shard=3)
    crossed = [ShardTables(0, tables[0].ledger, tables[0].scores), ShardTables(1, tables[1].ledger, tables[0].scores)]
    with pytest.raises(ShardError, match=r"scores/image_text/00000\.parquet: its keys are not those of the ledger"):
        selected(crossed, [], tmp_path)
    (short,) = write_planted(tmp_path, [{"row": 0}, {"row": 1}])
    with pytest.raises(ShardError, match=r"00000\.parquet: 2 rows, but"):
        selected([ShardTables(0, tables[0].ledger, short.scores)], [], tmp_path)


def test_a_ledger_that_says_no_modality_is_named(tmp_path: Path) -> None:
    (shard,) = write_planted(tmp_path, [{"row": 0}])
    pq.write_table(pq.read_table(shard.ledger).replace_schema_metadata(None), shard.ledger)
    with pytest.raises(ShardError, match=r"ledger/00000\.parquet: a ledger of modality ''"):
        selected([shard], [], tmp_path)


def test_shards_of_the_same_columns_are_read_together(tmp_path: Path) -> None:
    tables = write_planted(tmp_path, [{"row": row} for row in range(80)], per_shard=2)
    chunks = Columns.of(tables).chunks
    assert [len(chunk.shards) for chunk in chunks] == [32, 8]
    assert [chunk.first for chunk in chunks] == [0, 64]
    counts, written = selected(tables, [], tmp_path)
    assert counts.rows == 80
    assert [key for table in written.values() for key in table["key"].to_pylist()] == [
        sample_key("web", r) for r in range(80)
    ]


def test_a_reference_in_remote_storage_is_compared_with_and_counts_by_content(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    prints = []
    for name, values in (("a", ["one", "two"]), ("b", ["one", "two"]), ("c", ["three"])):
        table = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"sha256": values}), table)
        memory.pipe(f"memory://reference-{name}/part.parquet", table.read_bytes())
        prints.append((fingerprint(f"memory://reference-{name}/part.parquet"), fingerprint(str(table))))
    assert prints[0] == prints[1] != prints[2]
    assert all(remote == local for remote, local in prints)
    rows = [{"row": row, "raw_sha256": text} for row, text in enumerate(("one", "four", "two"))]
    rule = Dedup.parse({"against": "memory://reference-a"}, "t")
    assert list(kept_rows(tmp_path, rows, [rule])) == [sample_key("web", 1)]
    with pytest.raises(ConfigError, match="found no file, and no folder with Parquet files"):
        fingerprint("memory://nothing-there")
