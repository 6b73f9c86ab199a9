"""Windows: the plan puts every kept sample into exactly one shard, and each window gives the same bytes at any time."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.config import EmitOptions
from mmdata.emit.plan import StagedShard, WindowJob, cut, plan_windows
from mmdata.emit.space import check_space, needed_bytes
from mmdata.emit.window import emit_window
from mmdata.errors import ShardError, StorageError
from mmdata.sample import Sample
from mmdata.select.counts import KeptCount, SelectionCounts
from mmdata.shards import ledger, storage
from mmdata.shards.folders import RunFolder
from mmdata.shards.tar import read_samples
from tests.builders import image_sample, write_run, write_staged_shard
from tests.emit.emitted import SEED, Emitted, emit_run, select_run, staged_shard

KEPT = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(["image_text", "video_text"]), st.sampled_from(["train", "val"])),
    max_size=40,
)


@given(samples=st.integers(0, 100_000), per_shard=st.integers(1, 12_000))
def test_shards_are_nearly_equal_and_hold_every_sample(samples: int, per_shard: int) -> None:
    sizes = cut(samples, per_shard)
    assert sum(sizes) == samples
    if samples:
        assert max(sizes) - min(sizes) <= 1
        assert len(sizes) == max(1, int(samples / per_shard + 0.5))


@given(kept=KEPT, window=st.integers(1, 4), per_shard=st.integers(1, 30), data=st.data())
def test_every_kept_sample_has_one_place_and_shard_numbers_have_no_gap(
    kept: list[tuple[int, str, str]], window: int, per_shard: int, data: st.DataObject
) -> None:
    counts = [
        KeptCount(shard, modality, split, "jpg", rows, rows + data.draw(st.integers(0, 3)))
        for (shard, modality, split), rows in Counter(kept).items()
    ]
    options = EmitOptions(samples_per_shard=per_shard, window_shards=window)
    shards = [StagedShard(number, "", "", "") for number in range(10)]
    jobs = plan_windows(shards, SelectionCounts(kept=counts), options, seed=1)
    assert [shard.shard for job in jobs for shard in job.shards] == list(range(10))
    for modality in ("image_text", "video_text"):
        for split in ("train", "val"):
            outputs = [o for job in jobs for o in job.outputs if (o.modality, o.split) == (modality, split)]
            numbers = [o.first_shard + index for o in outputs for index in range(len(o.sizes))]
            assert numbers == list(range(len(numbers)))
            wanted = sum(c.samples for c in counts if (c.modality, c.split) == (modality, split))
            assert sum(sum(o.sizes) for o in outputs) == wanted


def test_a_job_goes_through_json_and_pickle_and_its_fingerprint_knows_no_place(emitted: Emitted) -> None:
    job = emitted.jobs[0]
    assert WindowJob.from_json(json.loads(json.dumps(job.to_json()))) == job
    assert pickle.loads(pickle.dumps(job)) == job
    elsewhere = [{**shard, "staged": "s3://x"} for shard in job.to_json()["shards"]]
    moved = WindowJob.from_json({**job.to_json(), "shards": elsewhere})
    assert moved.fingerprint == job.fingerprint
    assert WindowJob.from_json({**job.to_json(), "seed": 2}).fingerprint != job.fingerprint


def test_the_dataset_holds_every_kept_key_once_with_its_own_bytes(emitted: Emitted) -> None:
    found = {}
    for path in sorted(emitted.path.glob("image_text/*/*.tar")):
        with path.open("rb") as file:
            for key, parts in read_samples(file, path.name):
                assert key not in found
                found[key] = (path.parent.name, hashlib.sha256(parts["jpg"]).hexdigest())
    wanted = {}
    for shard in emitted.jobs[0].shards + emitted.jobs[1].shards + emitted.jobs[2].shards:
        rows, chosen = pq.read_table(shard.ledger), pq.read_table(shard.selection)
        for row, choice in zip(rows.to_pylist(), chosen.to_pylist(), strict=True):
            if choice["keep"]:
                wanted[row["key"]] = (choice["split"], row["raw_sha256"])
    assert found == wanted
    assert len(found) == 61


def test_any_order_of_windows_and_a_second_attempt_give_the_same_bytes(emitted: Emitted, tmp_path: Path) -> None:
    for job, result in zip(emitted.jobs[::-1], emitted.results[::-1], strict=True):
        again = emit_window(job, str(tmp_path / "other"), "second", tmp_path / "scratch")
        assert [(f.path, f.bytes, f.sha256) for f in again.files] == [(f.path, f.bytes, f.sha256) for f in result.files]
        assert again.counts == result.counts
        for file in again.files:
            assert storage.sha256_of(str(tmp_path / "other" / file.attempt_path)) == file.sha256
    assert not list((tmp_path / "scratch").iterdir())


def test_samples_of_different_staged_shards_stand_side_by_side(emitted: Emitted) -> None:
    keys = pq.read_table(emitted.path / "index/image_text/train/00000.parquet")["key"].to_pylist()
    assert keys != sorted(keys)
    assert {int(key.rpartition("-")[2]) // 20 for key in keys} == {0, 1}


def repeated(run: RunFolder, shard: int, repeats: dict[str, int]) -> SelectionCounts:
    """A selection that keeps and repeats what is named, as balance will."""
    table = ledger.read(run.ledger(shard), ["key", "status", "reason", "detail"])
    repeat = [repeats.get(key, 0) for key in table["key"].to_pylist()]
    table = table.append_column("keep", pa.array([number > 0 for number in repeat]))
    table = table.append_column("repeat", pa.array(repeat, pa.int32()))
    table = table.append_column("split", pa.array(["train" if number else None for number in repeat], pa.string()))
    storage.write_whole(run.selection("s", shard), ledger.parquet_bytes(table))
    kept = KeptCount(shard, "image_text", "train", "jpg", len(repeats), sum(repeats.values()))
    return SelectionCounts(rows=len(repeat), kept=[kept])


def test_a_repeated_sample_is_there_as_often_with_marked_keys(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", shards=1)
    counts = repeated(run, 0, {"pictures-000000000001": 1, "pictures-000000000002": 3})
    dataset = emit_run(run, tmp_path / "dataset", counts, EmitOptions(), shards=1)
    with (dataset.path / "image_text/train/00000.tar").open("rb") as file:
        samples = dict(read_samples(file, "tar"))
    assert sorted(samples) == [
        "pictures-000000000001",
        "pictures-000000000002",
        "pictures-000000000002-x02",
        "pictures-000000000002-x03",
    ]
    assert samples["pictures-000000000002-x03"]["jpg"] == samples["pictures-000000000002"]["jpg"]
    assert json.loads(samples["pictures-000000000002-x03"]["json"])["key"] == "pictures-000000000002-x03"


def test_a_missing_value_is_zero_or_empty_and_an_own_column_of_our_name_is_renamed(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "run"))
    samples = [image_sample("pictures", row) for row in range(2)]
    samples[0].columns |= {"caption": None, "original_width_px": None, "url": None}
    own = pa.table({"width": [7, 8], "note": ["a\u2028|`b", None]})
    write_staged_shard(run, 0, samples, [float("nan"), 0.25], own=own)
    counts = select_run(run, 1, tmp_path / "select", val_share=0)
    dataset = emit_run(run, tmp_path / "dataset", counts, EmitOptions(), shards=1)
    with (dataset.path / "image_text/train/00000.tar").open("rb") as file:
        found = {key: (json.loads(parts["json"]), parts["txt"]) for key, parts in read_samples(file, "tar")}
    entry, text = found["pictures-000000000000"]
    assert text == b""
    assert [entry[n] for n in ("caption", "url", "original_width", "clip_similarity")] == ["", "", 0, 0.0]
    assert json.loads(entry["extra"]) == {"width": 7, "note": "a\u2028|`b"}
    assert [type(value) for value in entry.values()] == [
        type(value) for value in found["pictures-000000000001"][0].values()
    ]
    sidecar = pq.read_table(dataset.path / "image_text/train/00000.parquet")
    assert sidecar.column_names[:3] == ["src_width", "note", "caption"]
    assert sidecar["width"].to_pylist() == [64, 64]


def test_sources_with_other_columns_give_sidecars_of_one_schema(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "run"))
    for shard, own in enumerate([pa.table({"stars": [5]}), pa.table({"stars": [0.5]}), pa.table({"note": ["x"]})]):
        write_staged_shard(run, shard, [image_sample("pictures", shard)], [0.3], own=own)
    counts = select_run(run, 3, tmp_path / "select", val_share=0)
    dataset = emit_run(run, tmp_path / "dataset", counts, EmitOptions(window_shards=1), shards=3)
    tables = [pq.read_table(path) for path in sorted(dataset.path.glob("image_text/train/*.parquet"))]
    assert len({table.schema for table in tables}) == 1
    assert [table.select(["stars", "note"]).to_pylist() for table in tables] == [
        [{"stars": 5.0, "note": None}],
        [{"stars": 0.5, "note": None}],
        [{"stars": None, "note": "x"}],
    ]


def test_pictures_of_several_types_go_to_shards_of_their_own(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "run"))
    samples = [image_sample("pictures", row) for row in range(10)]
    for sample in samples[::2]:
        sample.parts = {"png": sample.parts["jpg"]}
    write_staged_shard(run, 0, samples, [0.3] * 10)
    counts = select_run(run, 1, tmp_path / "select", val_share=0)
    dataset = emit_run(run, tmp_path / "dataset", counts, EmitOptions(samples_per_shard=3), shards=1)
    kinds = []
    for path in sorted(dataset.path.glob("image_text/train/*.tar")):
        with path.open("rb") as file:
            kinds.append({tuple(sorted(parts)) for _, parts in read_samples(file, path.name)})
    assert kinds == [{("jpg", "json", "txt")}] * 2 + [{("json", "png", "txt")}] * 2


def test_a_kept_sample_that_is_not_in_the_staged_tar_is_a_shard_error(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", shards=1)
    counts = select_run(run, 1, tmp_path / "select")
    job = plan_windows([staged_shard(run, 0)], counts, EmitOptions(), seed=SEED)[0]
    lost: list[Sample] = [image_sample("pictures", row) for row in range(5, 20)]
    other = RunFolder(str(tmp_path / "other"))
    write_staged_shard(other, 0, lost)
    Path(run.staged(0)).write_bytes(Path(other.staged(0)).read_bytes())
    with pytest.raises(ShardError, match=r"pictures-00000000000\d has parts '', its ledger has 'jpg'"):
        emit_window(job, str(tmp_path / "dataset"), "a", tmp_path / "scratch")


def test_a_plan_of_another_selection_is_a_shard_error(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", shards=1)
    counts = select_run(run, 1, tmp_path / "select")
    job = plan_windows([staged_shard(run, 0)], counts, EmitOptions(), seed=SEED)[0]
    select_run(run, 1, tmp_path / "select", val_share=0.9)
    with pytest.raises(ShardError, match="made from another selection"):
        emit_window(job, str(tmp_path / "dataset"), "a", tmp_path / "scratch")


def test_too_little_free_space_is_a_storage_error_with_found_and_needed(tmp_path: Path, emitted: Emitted) -> None:
    samples = {shard.shard: 17 for job in emitted.jobs for shard in job.shards}
    needed = needed_bytes(emitted.jobs, samples)
    written = sum(path.stat().st_size for path in emitted.path.rglob("*") if path.is_file())
    assert written / 4 < needed < 4 * written
    check_space(str(tmp_path), needed)
    with pytest.raises(StorageError, match="MB free, but the dataset needs about") as error:
        check_space(str(tmp_path), 10**18)
    assert error.value.exit_code == 5


@settings(max_examples=30, deadline=None)
@given(groups=st.lists(st.integers(0, 200), min_size=1, max_size=5))
def test_row_groups_hold_every_sample_where_the_index_says(groups: list[int]) -> None:
    import io

    from mmdata.emit import parquet_shard
    from mmdata.emit.layout import LAYOUTS
    from mmdata.emit.rows import WindowRows
    from mmdata.emit.shard import Shard

    keys = [f"a-{number:012d}" for number in range(len(groups))]
    rows = pa.table({"key": keys, "caption": ["x"] * len(keys)})
    sink = io.BytesIO()
    layout = LAYOUTS["image_text"]
    window = WindowRows(rows, *[rows.select(["key"])] * 3)
    shard = Shard(layout, keys, ["jpg"], window, layout.media, ["{}"] * len(keys))
    limit, parquet_shard.ROW_GROUP_BYTES = parquet_shard.ROW_GROUP_BYTES, 150
    try:
        writer = parquet_shard.ParquetShardWriter(sink, shard)
        for number, size in enumerate(groups):
            writer.add({"jpg": bytes([number]) * size})
        writer.close()
    finally:
        parquet_shard.ROW_GROUP_BYTES = limit
    file = pq.ParquetFile(io.BytesIO(sink.getvalue()))
    for number, (group, row) in enumerate(writer.places):
        image = file.read_row_group(group)["image"][row].as_py()
        assert image == {"bytes": bytes([number]) * groups[number], "path": f"{keys[number]}.jpg"}
    assert all(
        sum(len(image["bytes"]) for image in file.read_row_group(group)["image"].to_pylist()) <= max(150, *groups)
        for group in range(file.num_row_groups)
    )


def test_a_run_and_a_dataset_in_object_storage_give_the_same_bytes(emitted: Emitted, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    tree = emitted.jobs[0].to_json()
    for shard in tree["shards"]:
        for name in ("staged", "ledger", "selection"):
            memory.pipe_file(f"/run/{name}/{shard['shard']}", Path(shard[name]).read_bytes())
            shard[name] = f"memory://run/{name}/{shard['shard']}"
        for scorer, path in shard["scores"].items():
            memory.pipe_file(f"/run/{scorer}/{shard['shard']}", Path(path).read_bytes())
            shard["scores"][scorer] = f"memory://run/{scorer}/{shard['shard']}"
    scratch = tmp_path / "scratch"
    try:
        result = emit_window(WindowJob.from_json(tree), "memory://dataset", "a", scratch)
        expected = {file.path: file.sha256 for file in emitted.results[0].files}
        assert {file.path: file.sha256 for file in result.files} == expected
        for file in result.files:
            assert storage.sha256_of(f"memory://dataset/{file.attempt_path}") == file.sha256
        assert not list(scratch.iterdir())
    finally:
        memory.rm("/", recursive=True)
