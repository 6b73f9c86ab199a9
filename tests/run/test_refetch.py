"""Refetch: rows that failed are tried again and merged in place; the others keep their keys, order and bytes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from mmdata.errors import ConfigError, Reason
from mmdata.run.refetch import reasons_of
from mmdata.shards import ledger, tar
from tests.run.test_pipeline import LOCAL, manifest_of
from tests.run.world import ROWS, World

FLAKY = (5, 21, 33)  # rows whose host is down at first


def newest(world: World, shard: int) -> tuple[Path, Path]:
    """Ledger and staged tar of a shard's newest revision."""
    root = world.folder / "runs" / "small"
    ledgers = sorted((root / "ledger").glob(f"{shard:05d}*.parquet"), key=lambda path: len(path.name))
    return ledgers[-1], root / "staged" / ledgers[-1].with_suffix(".tar").name


def rows_of(world: World) -> dict[str, dict[str, object]]:
    shards = len({path.name[:5] for path in (world.folder / "runs" / "small" / "ledger").iterdir()})
    return {row["key"]: row for shard in range(shards) for row in ledger.read(str(newest(world, shard)[0])).to_pylist()}


def test_rows_that_failed_are_had_and_everything_else_stays(world: World) -> None:
    world.write_table()
    pipeline = world.write_pipeline()
    world.failing = set(FLAKY)
    world.mmdata("run", pipeline, LOCAL)
    before = rows_of(world)
    lost = {key for key, row in before.items() if row["reason"] == Reason.HTTP_5XX.value}
    assert sorted(before[key]["row"] for key in lost) == list(FLAKY)

    world.failing = set()
    world.requests.clear()
    done = world.mmdata("refetch", "runs/small", "--reason", "fetch.http_5xx", LOCAL)
    assert "3 rows in 3 shards tried again, 3 more samples" in done.stdout
    assert Counter(world.requests) == Counter(f"/{row}.jpg" for row in FLAKY)
    after = rows_of(world)
    assert list(after) == list(before)  # keys and order
    assert {key for key in after if after[key] != before[key]} == lost
    assert {after[key]["reason"] for key in lost} == {"ok"}

    # The same dataset as if nothing had ever been lost.
    world.mmdata("run", pipeline, LOCAL, "--run", "runs/clean", "--dataset", "datasets/clean")
    second = world.folder / "datasets" / "small-v2"
    assert manifest_of(second)["digest"] == manifest_of(world.folder / "datasets" / "clean")["digest"]


def test_the_staged_tar_of_the_new_revision_has_all_ok_samples_in_input_order(world: World) -> None:
    world.write_table()
    world.failing = set(FLAKY)
    world.mmdata("ingest", world.write_pipeline(), LOCAL)
    world.failing = set()
    world.mmdata("refetch", "runs/small", LOCAL)
    for shard in range(ROWS // 10):
        table, staged = newest(world, shard)
        ok = [row["key"] for row in ledger.read(str(table)).to_pylist() if row["status"] == "ok"]
        with staged.open("rb") as file:
            assert [key for key, _ in tar.read_samples(file, str(staged))] == ok


def test_a_second_refetch_and_a_second_run_find_nothing_to_do(world: World) -> None:
    world.write_table()
    pipeline = world.write_pipeline()
    world.failing = set(FLAKY)
    world.mmdata("run", pipeline, LOCAL)
    world.failing = set()
    world.mmdata("refetch", "runs/small", "--reason", "fetch.http_5xx", LOCAL)
    world.requests.clear()
    done = world.mmdata("refetch", "runs/small", "--reason", "fetch.http_5xx", LOCAL)
    assert "0 rows in 0 shards" in done.stdout
    world.mmdata("run", pipeline, LOCAL)
    assert world.requests == []


def test_rows_that_fail_again_keep_a_reason_and_are_not_lost(world: World) -> None:
    world.write_table()
    world.failing = set(FLAKY)
    world.mmdata("run", world.write_pipeline(), LOCAL)
    before = rows_of(world)
    world.mmdata("refetch", "runs/small", "--reason", "fetch.http_5xx", LOCAL)
    after = rows_of(world)
    assert [row["reason"] for row in after.values()] == [row["reason"] for row in before.values()]


def test_a_folder_that_is_no_run_is_refused_with_exit_2(world: World) -> None:
    done = world.mmdata("refetch", "runs/nowhere", LOCAL, check=False)
    assert done.returncode == 2
    assert "is it a run folder?" in done.stderr


def test_reasons_are_codes_groups_or_all_that_may_pass() -> None:
    assert reasons_of("fetch.timeout, fetch.http_5xx") == {"fetch.timeout", "fetch.http_5xx"}
    assert reasons_of("fetch") == {reason.value for reason in Reason if reason.group == "fetch"}
    assert reasons_of("") == {reason.value for reason in Reason if reason.is_transient}
    with pytest.raises(ConfigError, match=r"did you mean fetch\.timeout"):
        reasons_of("fetch.timeuot")
    with pytest.raises(ConfigError, match="no such reason"):
        reasons_of("ok")


def test_the_record_of_a_run_says_where_its_pipeline_file_is(world: World) -> None:
    world.write_table()
    pipeline = world.write_pipeline()
    world.mmdata("ingest", pipeline, LOCAL)
    import yaml

    record = yaml.safe_load((world.folder / "runs" / "small" / "config.yaml").read_text())
    assert record["file"] == str(world.folder / "small.yaml")
    assert json.loads((world.folder / "runs/small/commits/ingest/00000.0.json").read_text())["revision"] == 0
