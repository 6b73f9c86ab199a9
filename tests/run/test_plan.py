"""The plan: the same rows make the same shards, new files add shards, and what was planned never changes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.config import load
from mmdata.errors import ChangedError, SourceError
from mmdata.run import plan as plan_module
from mmdata.run.catalog import resolve
from mmdata.run.plan import Plan, extend_plan, read_plan
from mmdata.shards import ledger, storage
from mmdata.shards.folders import RunFolder


class Place:
    """A folder with input tables, a pipeline file over them, and a run."""

    def __init__(self, folder: Path, **plan: Any) -> None:
        self.folder = folder
        self.tables = folder / "tables"
        self.tables.mkdir(parents=True)
        self.run = RunFolder(str(folder / "run"))
        self.tree: dict[str, Any] = {
            "sources": {"pictures": {"kind": "url_table", "path": "tables"}},
            "plan": {"rows_per_shard": 10, "shuffle_window_shards": 2} | plan,
        }

    def table(self, name: str, rows: Sequence[int], **own: Any) -> Path:
        path = self.tables / f"{name}.parquet"
        columns = {
            "url": [f"http://host{row // 10}.example/{row}.jpg" for row in rows],
            "caption": [f"c{row}" for row in rows],
        }
        pq.write_table(pa.table(columns | own), path)
        return path

    def plan(self, run: RunFolder | None = None) -> Plan:
        path = self.folder / "p.yaml"
        path.write_text(yaml.safe_dump(self.tree, sort_keys=False))
        pipeline = load(path)
        return extend_plan(run or self.run, pipeline, resolve(pipeline))

    def rows(self, shard: int) -> pa.Table:
        return ledger.read(self.run.rows(shard))

    def numbers(self, plan: Plan) -> list[int]:
        return [number for shard in plan.shards for number in self.rows(shard.shard)["number"].to_pylist()]

    def files(self) -> dict[str, bytes]:
        return {
            name: storage.read_bytes(storage.join(self.run.root, name)) for name in storage.list_files(self.run.root)
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_every_row_is_in_exactly_one_shard(place: Place) -> None:
    place.table("a", range(33))
    place.table("b", range(33, 57))
    plan = place.plan()
    assert [shard.rows for shard in plan.shards] == [10, 10, 10, 10, 10, 7]
    assert [shard.shard for shard in plan.shards] == list(range(6))
    assert sorted(place.numbers(plan)) == list(range(57))
    assert plan.rows == 57
    assert {shard.source for shard in plan.shards} == {"pictures"}
    assert {shard.modality for shard in plan.shards} == {"image_text"}


def test_a_number_follows_its_row(place: Place) -> None:
    place.table("a", range(25))
    for shard in place.plan().shards:
        for row in place.rows(shard.shard).to_pylist():
            assert row["caption"] == f"c{row['number']}"
            assert row["url"].endswith(f"/{row['number']}.jpg")


def test_the_same_input_gives_the_same_files(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "other")
    for each in (place, other):
        each.table("a", range(45))
        each.plan()
    mine = {name: data for name, data in place.files().items() if name.startswith("plan/rows/")}
    assert mine == {name: data for name, data in other.files().items() if name.startswith("plan/rows/")}
    assert len(mine) == 5
    assert [s.fingerprint for s in place.plan().shards] == [s.fingerprint for s in other.plan().shards]


def test_planning_again_writes_nothing(place: Place) -> None:
    place.table("a", range(25))
    first = place.plan()
    before = {path: path.stat().st_mtime_ns for path in Path(place.run.root).rglob("*")}
    assert place.plan() == first == read_plan(place.run)
    assert {path: path.stat().st_mtime_ns for path in Path(place.run.root).rglob("*")} == before


def test_new_files_add_shards_and_old_ones_stay(place: Place) -> None:
    place.table("a", range(25))
    first, before = place.plan(), place.files()
    place.table("b", range(100, 113))
    second = place.plan()
    assert second.shards[: len(first.shards)] == first.shards
    assert [shard.rows for shard in second.shards[len(first.shards) :]] == [10, 3]
    assert before.items() <= place.files().items()
    added = [row for shard in second.shards[3:] for row in place.rows(shard.shard).to_pylist()]
    assert sorted(row["number"] for row in added) == list(range(25, 38)), "the numbering of keys goes on"
    assert sorted(row["caption"] for row in added) == sorted(f"c{row}" for row in range(100, 113))
    place.table("0-sorts-first", range(200, 202))
    assert sorted(place.numbers(place.plan())) == list(range(40))


def test_a_planned_file_that_changed_is_refused_by_name_and_nothing_is_written(place: Place) -> None:
    place.table("a", range(25))
    place.plan()
    before = place.files()
    changed = place.table("a", range(26))
    place.table("b", range(5))
    with pytest.raises(ChangedError) as caught:
        place.plan()
    message = str(caught.value)
    assert message.startswith(
        f"{changed}: this input of source pictures changed since the run was planned with it (fingerprint "
    )
    assert " -> " in message
    assert "choose another RUN" in message
    assert place.files() == before


def test_of_two_files_with_the_same_content_each_is_watched(place: Place) -> None:
    for name in "ab":
        place.table(name, range(10))
    assert place.plan().rows == 20
    for name in "ab":
        kept = (place.tables / f"{name}.parquet").read_bytes()
        place.table(name, range(11))
        with pytest.raises(ChangedError, match=rf"{name}\.parquet: "):
            place.plan()
        (place.tables / f"{name}.parquet").write_bytes(kept)
    assert place.plan().rows == 20


def test_files_that_moved_are_known_by_their_content(place: Place) -> None:
    place.table("a", range(25))
    first = place.plan()
    place.tables.rename(place.folder / "elsewhere")
    place.tree["sources"]["pictures"]["path"] = "elsewhere"
    assert place.plan() == first


def test_a_window_is_shuffled_so_that_hosts_are_spread(place: Place) -> None:
    place.tree["plan"] = {"rows_per_shard": 50, "shuffle_window_shards": 4}
    place.table("a", range(200))
    plan = place.plan()
    for shard in plan.shards:
        hosts = {url.split("/")[2] for url in place.rows(shard.shard)["url"].to_pylist()}
        assert len(hosts) >= 15, "ten rows a host, twenty hosts: fifty rows in order would see five"


def test_rows_change_places_within_their_window_only(place: Place) -> None:
    place.table("a", range(60))
    plan = place.plan()
    for window in range(3):
        numbers = [
            n for s in plan.shards[2 * window : 2 * window + 2] for n in place.rows(s.shard)["number"].to_pylist()
        ]
        assert sorted(numbers) == list(range(20 * window, 20 * window + 20))
        assert numbers != sorted(numbers)


def test_another_seed_gives_another_order_and_no_shuffle_the_files_own(place: Place, tmp_path: Path) -> None:
    place.table("a", range(40))
    orders = {}
    for seed in (0, 1):
        place.tree["seed"] = seed
        place.run = RunFolder(str(tmp_path / f"run{seed}"))
        orders[seed] = place.numbers(place.plan())
    assert orders[0] != orders[1]
    place.tree["plan"]["shuffle"] = False
    place.run = RunFolder(str(tmp_path / "plain"))
    assert place.numbers(place.plan()) == list(range(40))


def test_a_source_without_rows_is_refused_and_nothing_is_written(place: Place) -> None:
    path = place.table("a", [])
    with pytest.raises(SourceError, match="holds no rows"):
        place.plan()
    path.unlink()
    with pytest.raises(SourceError, match=r"holds no \*\.parquet"):
        place.plan()
    (place.tables / "a.csv").write_bytes(b"")
    with pytest.raises(SourceError, match="is empty"):
        place.plan()
    assert not storage.exists(place.run.root)


def test_a_second_source_that_is_missing_is_refused_before_the_first_is_written(place: Place) -> None:
    place.table("a", range(25))
    place.tree["sources"]["others"] = {"kind": "url_table", "path": "none"}
    with pytest.raises(SourceError, match="none: no such file or folder"):
        place.plan()
    assert not storage.exists(place.run.root)


def test_two_sources_have_shards_and_numbers_of_their_own(place: Place) -> None:
    place.table("a", range(12))
    place.tree["sources"]["others"] = {"kind": "url_table", "path": "tables"}
    plan = place.plan()
    assert [(shard.source, shard.rows) for shard in plan.shards] == [
        ("pictures", 10),
        ("pictures", 2),
        ("others", 10),
        ("others", 2),
    ]
    assert sorted(place.numbers(plan)) == sorted([*range(12), *range(12)])
    place.table("b", range(50, 53))
    longer = place.plan()
    assert longer.shards[:4] == plan.shards
    assert [(shard.source, shard.rows) for shard in longer.shards[4:]] == [("pictures", 3), ("others", 3)]


@settings(deadline=None, max_examples=15)
@given(st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=3), min_size=2, max_size=3))
def test_numbers_go_on_after_any_files(tmp_path_factory: pytest.TempPathFactory, rounds: list[list[int]]) -> None:
    """Files of several sizes, planned in several rounds: every row has a number, and no two share one."""
    place = Place(tmp_path_factory.mktemp("plan") / "p", rows_per_shard=4)
    place.table("0", [0])
    start = 1
    for number, sizes in enumerate(rounds):
        for index, size in enumerate(sizes):
            place.table(f"{number}-{index}", range(start, start + size))
            start += size
        assert sorted(place.numbers(place.plan())) == list(range(start))


@pytest.mark.parametrize("limit", [1, 10, 24, 25, 26, 30])
def test_a_limit_is_of_the_whole_source(place: Place, limit: int) -> None:
    place.tree["sources"]["pictures"]["limit"] = limit
    place.table("a", range(15))
    place.table("b", range(15, 25))
    plan = place.plan()
    assert plan.rows == min(limit, 25)
    assert sorted(place.numbers(plan)) == list(range(min(limit, 25)))
    place.table("c", range(25, 30))
    longer = place.plan()
    assert longer.rows == min(limit, 30)
    assert longer.shards[: len(plan.shards)] == plan.shards
    assert place.plan() == longer


def test_a_column_of_two_types_becomes_text_and_loses_nothing(place: Place) -> None:
    place.table("a", range(3), width=[1, 2, 3])
    place.table("b", range(3, 6), width=["x", "y", None])
    place.table("c", range(6, 8))
    rows = {row["number"]: row["width"] for shard in place.plan().shards for row in place.rows(shard.shard).to_pylist()}
    assert rows == {0: "1", 1: "2", 2: "3", 3: "x", 4: "y", 5: None, 6: None, 7: None}


def test_a_column_of_two_types_in_windows_and_sources_apart_becomes_text_in_all(place: Place) -> None:
    place.tree["plan"] |= {"rows_per_shard": 2, "shuffle_window_shards": 1, "shuffle": False}
    place.tree["sources"] = {
        "a": {"kind": "url_table", "path": "tables/a.parquet"},
        "b": {"kind": "url_table", "path": "tables/b.parquet"},
    }
    place.table("a", range(5), width=[1, 2, 3, 4, 5], depth=[1, 2, 3, 4, 5])
    place.table("b", range(5, 8), width=["x", "y", None], depth=[0.5, 1.5, None])
    plan = place.plan()
    tables = [place.rows(shard.shard) for shard in plan.shards]
    assert [value for table in tables for value in table["width"].to_pylist()] == [*"12345", "x", "y", None]
    assert [table.schema.field("depth").type for table in tables] == [pa.int64()] * 3 + [pa.float64()] * 2
    for shard in plan.shards:
        data = storage.read_bytes(place.run.rows(shard.shard))
        assert shard.fingerprint == hashlib.sha256(data).hexdigest()[:16]
    assert place.plan() == plan


def test_a_new_file_whose_column_does_not_go_with_what_was_planned_is_refused(place: Place) -> None:
    place.table("a", range(3), width=[1, 2, 3])
    before = place.plan()
    place.table("b", range(3, 5), width=["x", "y"])
    with pytest.raises(SourceError, match=r"column 'width': the new files have string, .* have int64; write it alike"):
        place.plan()
    assert read_plan(place.run) == before


@pytest.mark.parametrize("column", ["number", "key", "status", "row_error", "phash"])
def test_a_sources_column_with_one_of_our_names_keeps_its_values(place: Place, column: str) -> None:
    place.table("a", range(3), **{column: ["x", "y", "z"]})
    table = place.rows(place.plan().shards[0].shard)
    found = {row["number"]: row[f"src_{column}"] for row in table.to_pylist()}
    assert found == {0: "x", 1: "y", 2: "z"}


def test_a_kill_before_the_plan_is_recorded_costs_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.table("a", range(25))
    with monkeypatch.context() as broken:
        broken.setattr(plan_module.storage, "create_if_absent", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            place.plan()
    assert read_plan(place.run) == Plan([], [])
    assert sorted(place.numbers(place.plan())) == list(range(25))


@settings(deadline=None, max_examples=20)
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=4).filter(lambda sizes: sum(sizes) > 0),
    rows_per_shard=st.integers(1, 12),
    window=st.integers(1, 4),
)
def test_no_row_is_lost_or_doubled(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], rows_per_shard: int, window: int
) -> None:
    place = Place(tmp_path_factory.mktemp("plan") / "p", rows_per_shard=rows_per_shard, shuffle_window_shards=window)
    start = 0
    for index, size in enumerate(sizes):
        place.table(f"t{index}", range(start, start + size))
        start += size
    plan = place.plan()
    assert sorted(place.numbers(plan)) == list(range(start))
    assert all(shard.rows == rows_per_shard for shard in plan.shards[:-1])
    assert sum(shard.rows for shard in plan.shards) == plan.rows == start


def test_memory_is_bounded_by_the_window(place: Place) -> None:
    """Twelve files instead of four take no more of Arrow's memory."""
    place.tree["plan"] = {"rows_per_shard": 500, "shuffle_window_shards": 2}

    def peak(name: str, files: range) -> int:
        for file in files:
            place.table(f"{file:03d}", range(2000 * file, 2000 * (file + 1)))
        pool = pa.default_memory_pool()
        held: list[int] = []
        original = plan_module.ledger.parquet_bytes

        def watched(table: pa.Table) -> bytes:
            held.append(pool.bytes_allocated())
            return original(table)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plan_module.ledger, "parquet_bytes", watched)
            place.plan(RunFolder(str(place.folder / name)))
        return max(held)

    few = peak("few", range(4))
    many = peak("many", range(4, 16))
    assert many < 1.5 * few + (1 << 20)
