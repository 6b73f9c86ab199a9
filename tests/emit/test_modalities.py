"""What the files of every modality hold: parts, json, sidecar, stats, index, manifest; the same in every window."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmdata.config import EmitOptions
from mmdata.emit.index import schema_of
from mmdata.emit.messages import parse, text_of
from mmdata.emit.plan import WindowJob, annotations_of, plan_windows, score_schemas
from mmdata.emit.verify import problems, read_manifest, verify
from mmdata.emit.window import emit_window
from mmdata.errors import ShardError
from mmdata.sample import Sample
from mmdata.shards.folders import RunFolder
from mmdata.shards.tar import TarWriter, read_samples
from tests.builders import image_sample
from tests.emit.emitted import SEED, emit_staged
from tests.emit.media import (
    STAGES,
    Annotator,
    Mixed,
    audio_sample,
    conversation,
    document,
    emit_all,
    staged_shard,
    video_sample,
    write_shards,
)
from tests.emit.test_manifest import relisted

MODALITIES = ("image_text", "video_text", "audio_text", "interleaved", "instruct")
IMG2DATASET = ["caption", "url", "key", "status", "error_message"]
SIZES = ["width", "height", "original_width", "original_height"]
NAMES_IN_JSON = {
    "image_text": [*IMG2DATASET, *SIZES, "sha256", "extra"],
    "video_text": [
        *(*IMG2DATASET, *SIZES, "sha256", "duration_s", "fps", "num_frames", "sample_rate_hz", "num_mel_frames"),
        *("has_sound", "frame_times_s", "motion", "extra"),
    ],
    "audio_text": [
        *(*IMG2DATASET, "sha256", "duration_s", "sample_rate_hz", "num_mel_frames"),
        *("audio_codec", "snr_db", "extra"),
    ],
    "interleaved": [*IMG2DATASET, "sha256", "num_images", "messages", "media_reasons", "extra"],
    "instruct": [*IMG2DATASET, "sha256", "num_images", "messages", "media_reasons", "extra"],
}
each_modality = pytest.mark.parametrize("modality", MODALITIES)


def tars(mixed: Mixed, modality: str) -> list[Path]:
    return sorted(mixed.path.glob(f"{modality}/*/*.tar"))


def samples_of(mixed: Mixed, modality: str) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = {}
    for path in tars(mixed, modality):
        with path.open("rb") as file:
            found |= dict(read_samples(file, path.name))
    return found


def of_modality(mixed: Mixed, modality: str) -> dict[str, Sample]:
    return {key: sample for key, sample in mixed.samples.items() if sample.columns["modality"] == modality}


@each_modality
def test_every_sample_has_its_staged_parts_and_txt_and_json(mixed: Mixed, modality: str) -> None:
    staged, found = of_modality(mixed, modality), samples_of(mixed, modality)
    assert set(found) == set(staged)
    for key, parts in found.items():
        assert {name: data for name, data in parts.items() if name not in ("txt", "json")} == staged[key].parts
        assert {"txt", "json"} <= set(parts)


@each_modality
def test_all_samples_of_a_shard_have_the_same_parts_sorted_by_extension(mixed: Mixed, modality: str) -> None:
    for path in tars(mixed, modality):
        with path.open("rb") as file:
            names = {tuple(parts) for _, parts in read_samples(file, path.name)}
        assert len(names) == 1
        assert all(list(each) == sorted(each) for each in names)


@each_modality
def test_json_has_the_same_names_order_and_types_in_every_window_and_no_null(mixed: Mixed, modality: str) -> None:
    entries = [json.loads(parts["json"]) for parts in samples_of(mixed, modality).values()]
    assert {tuple(entry) for entry in entries} == {tuple(NAMES_IN_JSON[modality])}
    assert len({tuple(type(value) for value in entry.values()) for entry in entries}) == 1
    assert b"null" not in b"".join(parts["json"] for parts in samples_of(mixed, modality).values())


def test_json_holds_the_values_of_the_ledger_and_zero_or_empty_where_there_is_none(mixed: Mixed) -> None:
    videos = {key: json.loads(parts["json"]) for key, parts in samples_of(mixed, "video_text").items()}
    first, second, last = (videos[f"video-text-{row:012d}"] for row in (0, 1, 5))
    assert (first["frame_times_s"], first["motion"], first["has_sound"]) == ([], 0.0, True)
    assert (second["frame_times_s"], second["motion"]) == ([0.0, 0.25, 0.5], 0.0)
    assert (last["sample_rate_hz"], last["has_sound"], last["motion"], last["fps"]) == (0, False, 0.625, 10.0)
    sounds = {key: json.loads(parts["json"]) for key, parts in samples_of(mixed, "audio_text").items()}
    assert [sounds[f"audio-text-{row:012d}"]["snr_db"] for row in (0, 7)] == [0.0, 17.0]
    assert sounds["audio-text-000000000003"]["caption"] == "六十四"


@pytest.mark.parametrize("modality", ["interleaved", "instruct"])
def test_messages_are_structured_in_json_and_txt_is_their_text(mixed: Mixed, modality: str) -> None:
    for key, parts in samples_of(mixed, modality).items():
        row, images = mixed.samples[key].columns["row"], mixed.samples[key].columns["num_images"]
        assert parts["txt"].decode() == f"What is number {row}?\nIt is {row}."
        entry = json.loads(parts["json"])
        pieces = [piece for message in entry["messages"] for piece in message["content"]]
        wanted = [piece for message in conversation(row, images) for piece in message["content"]]
        assert pieces == [{"text": "", **piece} for piece in wanted]
        assert [message["role"] for message in entry["messages"]] == (
            ["assistant"] if modality == "interleaved" else ["user", "assistant"]
        )


def test_a_sidecar_has_what_users_of_video2dataset_expect(mixed: Mixed) -> None:
    tables = [pq.read_table(path) for path in sorted(mixed.path.glob("video_text/train/*.parquet"))]
    assert len({table.schema for table in tables}) == 1
    table = pa.concat_tables(tables).sort_by("key")
    numbers = ["duration_s", "fps", "num_frames", "sample_rate_hz", "num_mel_frames"]
    assert table.column_names == [
        *("license", *IMG2DATASET, *SIZES, "sha256", *numbers),
        *("has_sound", "frame_times_s", "motion"),
    ]
    assert set(table["status"].to_pylist()) == {"success"}
    assert table["sample_rate_hz"].to_pylist() == [16_000] * 3 + [None] * 3
    stats = json.loads((mixed.path / "video_text/train/00001_stats.json").read_bytes())
    keys = pq.read_table(mixed.path / "video_text/train/00001.parquet")["key"].to_pylist()
    assert stats["bytes_downloaded"] == sum(mixed.samples[key].columns["bytes"] for key in keys)
    assert (stats["count"], stats["successes"], stats["failed_to_subsample"]) == (len(keys), len(keys), 0)


@each_modality
def test_sizes_name_every_tar_and_its_samples(mixed: Mixed, modality: str) -> None:
    sizes = json.loads((mixed.path / modality / "train/sizes.json").read_bytes())
    assert list(sizes) == [path.name for path in tars(mixed, modality)]
    assert sum(sizes.values()) == len(of_modality(mixed, modality))


def index_of(mixed: Mixed, modality: str) -> dict[str, dict[str, Any]]:
    tables = [pq.read_table(path) for path in sorted(mixed.path.glob(f"index/{modality}/train/*.parquet"))]
    assert {tuple(table.column_names) for table in tables} == {tuple(schema_of(modality).names)}
    assert len({table.schema for table in tables}) == 1
    return {row["key"]: row for table in tables for row in table.to_pylist()}


@each_modality
def test_the_index_finds_every_part_in_tar_and_parquet(mixed: Mixed, modality: str) -> None:
    index, found = index_of(mixed, modality), samples_of(mixed, modality)
    assert set(index) == set(found)
    for path in tars(mixed, modality):
        data = path.read_bytes()
        file = pq.ParquetFile(mixed.path / "parquet" / modality / "train" / f"{path.stem}.parquet")
        for row in pq.read_table(mixed.path / "index" / modality / "train" / f"{path.stem}.parquet").to_pylist():
            places = {each["part"]: data[each["offset"] : each["offset"] + each["size"]] for each in row["parts"]}
            assert places == found[row["key"]]
            assert file.read_row_group(row["row_group"], columns=["key"])["key"][row["row"]].as_py() == row["key"]


def test_the_index_says_what_packing_needs(mixed: Mixed) -> None:
    video, sound = index_of(mixed, "video_text"), index_of(mixed, "audio_text")
    names = ("num_frames", "num_images", "sample_rate_hz", "duration_s", "width_px", "text_tokens")
    assert [video["video-text-000000000001"][name] for name in names] == [3, None, 16_000, 1.0, 64, 3]
    assert [video["video-text-000000000004"][name] for name in names] == [2, None, None, 1.0, 64, 3]
    names = ("num_mel_frames", "sample_rate_hz", "duration_s", "text_tokens", "language", "width_px")
    assert [sound["audio-text-000000000001"][name] for name in names] == [51, 16_000, 0.5, 3, "zh", None]
    for modality in ("interleaved", "instruct"):
        for key, row in index_of(mixed, modality).items():
            assert row["num_images"] == mixed.samples[key].columns["num_images"]
            assert row["text_tokens"] == len(f"What is number 1? It is {mixed.samples[key].columns['row']}.".split())


def test_a_clip_without_frames_is_counted_by_the_frames_it_has(tmp_path: Path) -> None:
    clip = video_sample(1, 0)
    mixed = emit_all(tmp_path, [[clip]], EmitOptions(), STAGES)
    assert index_of(mixed, "video_text")[clip.key]["num_frames"] == 10
    assert read_manifest(mixed.emitted.root)[0]["amounts"]["video_text"]["frames"] == 10


def test_the_manifest_counts_hours_frames_and_sampling_rates(mixed: Mixed) -> None:
    verify(mixed.emitted.root)
    tree, _ = read_manifest(mixed.emitted.root)
    assert {name: split["train"]["samples"] for name, split in tree["samples"].items()} == {
        "audio_text": 8,
        "image_text": 6,
        "instruct": 6,
        "interleaved": 6,
        "video_text": 6,
    }
    amounts = tree["amounts"]
    assert amounts["audio_text"] == {
        "rows": 8,
        "hours": round(8 * 0.5 / 3600, 6),
        "images": 0,
        "frames": 0,
        "mel_frames": 8 * 51,
        "sample_rates_hz": {"16000": 8},
    }
    assert (amounts["video_text"]["frames"], amounts["video_text"]["sample_rates_hz"]) == (
        3 * 3 + 3 + 2 + 3,
        {"16000": 3},
    )
    assert (amounts["interleaved"]["images"], amounts["instruct"]["images"]) == (2 + 4 + 6, 3)
    assert tree["channels"]["pixels"] == 6 * 64 * 48
    card = (mixed.path / "README.md").read_text()
    assert "| audio_text | 8 | 0.00 | 0 | 0 | 408 | 16000 Hz: 8 |" in card


def test_any_order_of_windows_gives_the_same_digest(mixed: Mixed, tmp_path: Path) -> None:
    shards = [staged_shard(mixed.run, number) for number in range(8)]
    options = EmitOptions(samples_per_shard=4, window_shards=3)
    again = emit_staged(
        shards, tmp_path / "again", mixed.counts, options, stages=STAGES, order=lambda jobs: list(reversed(jobs))
    )
    assert again.digest == mixed.emitted.digest
    job = mixed.emitted.jobs[1]
    assert WindowJob.from_json(json.loads(json.dumps(job.to_json()))) == job


def test_verify_finds_a_sample_with_other_parts(mixed: Mixed, tmp_path: Path) -> None:
    import io

    copy = shutil.copytree(mixed.path, tmp_path / "copy")
    name = "audio_text/train/00000"
    with (copy / f"{name}.tar").open("rb") as file:
        samples = dict(read_samples(file, name))
    first = next(iter(samples))
    del samples[first]["mel.npy"]
    sink = io.BytesIO()
    writer = TarWriter(sink)
    places = [writer.add(key, parts) for key, parts in samples.items()]
    writer.close()
    table = pq.read_table(copy / f"index/{name}.parquet")
    parts = [[{"part": p, "offset": o, "size": s} for p, (o, s) in place.items()] for place in places]
    at = table.column_names.index("parts")
    table = table.set_column(at, table.schema.field("parts"), pa.array(parts, table.schema.field("parts").type))
    index = io.BytesIO()
    pq.write_table(table, index)
    relisted(copy, f"{name}.tar", sink.getvalue())
    relisted(copy, f"index/{name}.parquet", index.getvalue())
    assert list(problems(str(copy))) == [f"{name}.tar: its samples do not all have the same parts"]


def test_only_a_document_may_have_no_media(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "run"))
    silent = audio_sample(0)
    silent.parts.clear()
    counts = write_shards(run, [[silent], [document("instruct", 0, 0)]], tmp_path / "select")
    jobs = plan_windows([staged_shard(run, n) for n in range(2)], counts, EmitOptions(window_shards=1), seed=SEED)
    with pytest.raises(ShardError, match=r"audio-text-000000000000 has parts '', its ledger has ''"):
        emit_window(jobs[0], str(tmp_path / "dataset"), "a", tmp_path / "scratch")
    assert emit_window(jobs[1], str(tmp_path / "dataset"), "b", tmp_path / "scratch").counts["shards"] == [
        ["instruct", "train", 0, 1]
    ]


def test_annotations_are_those_that_stages_of_the_modality_write_beside_its_fixed_columns() -> None:
    assert annotations_of(STAGES) == {
        "audio_text": ["audio_codec", "snr_db"],
        "instruct": ["media_reasons"],
        "interleaved": ["media_reasons"],
        "video_text": ["has_sound", "frame_times_s", "motion"],
    }


def test_an_annotation_is_in_every_file_of_its_modality_and_only_there(tmp_path: Path) -> None:
    shards = [[image_sample("pictures", 0)], [image_sample("pictures", 1)], [audio_sample(0)]]
    for number, (sample,) in enumerate(shards):
        sample.columns |= {"faces": number or None, "token_ids": [number, 7], "text_tokens": 40 + number}
    tokenise = Annotator.of("image_text", "faces token_ids")
    counting = Annotator.of("image_text", "text_tokens")
    mixed = emit_all(tmp_path, shards, EmitOptions(window_shards=1), [tokenise, counting])
    entries = {key: json.loads(parts["json"]) for key, parts in samples_of(mixed, "image_text").items()}
    assert {key[-1]: (entry["faces"], entry["token_ids"]) for key, entry in entries.items()} == {
        "0": (0, [0, 7]),
        "1": (1, [1, 7]),
    }
    index = index_of(mixed, "image_text")
    assert {key[-1]: row["text_tokens"] for key, row in index.items()} == {"0": 40, "1": 41}
    for folder in ("image_text", "parquet/image_text"):
        schemas = [pq.read_schema(path) for path in sorted(mixed.path.glob(f"{folder}/train/*.parquet"))]
        assert [{"faces", "token_ids", "text_tokens"} <= set(schema.names) for schema in schemas] == [True, True]
    assert "faces" not in json.loads(samples_of(mixed, "audio_text")["audio-text-000000000000"]["json"])


def test_a_scorer_that_scored_nothing_in_one_window_has_the_same_columns_there(tmp_path: Path) -> None:
    from dataclasses import replace

    run = RunFolder(str(tmp_path / "run"))
    shards = [[image_sample("pictures", 0)], [image_sample("pictures", 1)]]
    counts = write_shards(run, shards, tmp_path / "select")
    staged = []
    for number, values in enumerate([[None], [0.5]]):
        key = shards[number][0].key
        none = values == [None]
        scores = {
            "key": [key],
            "status": pa.array([None if none else "ok"], pa.string()),
            "reason": pa.array([None if none else "ok"], pa.string()),
            "image_embedding": pa.nulls(1) if none else pa.array([[0.5, 0.5]], pa.list_(pa.float16(), 2)),
            "matched": pa.nulls(1) if none else pa.array(["[1]"]),
            "similarity": pa.nulls(1) if none else pa.array(values, pa.float32()),
        }
        path = tmp_path / f"scores-{number}.parquet"
        pq.write_table(pa.table(scores), path)
        staged.append(replace(staged_shard(run, number), scores={"scorer": str(path)}))
    assert list(score_schemas(staged)[0]) == ["scorer"]
    emitted = emit_staged(staged, tmp_path / "dataset", counts, EmitOptions(window_shards=1))
    mixed = Mixed(run, counts, emitted, {})
    entries = [json.loads(parts["json"]) for _, parts in sorted(samples_of(mixed, "image_text").items())]
    assert [(entry["matched"], entry["similarity"]) for entry in entries] == [("", 0.0), ("[1]", 0.5)]
    assert all("image_embedding" not in entry for entry in entries)
    schemas = {pq.read_schema(path) for path in sorted(mixed.path.glob("parquet/image_text/train/*.parquet"))}
    assert len(schemas) == 1


@pytest.mark.parametrize("text", ["{", '[{"role": "user"}]', '["x"]', "3", '[{"role": "user", "content": [4]}]'])
def test_a_column_that_holds_no_messages_is_a_shard_error_that_names_the_sample(text: str) -> None:
    with pytest.raises(ShardError, match="chat-000000000003: its column messages holds no messages"):
        parse(text, "chat-000000000003")


def test_messages_with_plain_strings_are_text_pieces() -> None:
    messages = parse('[{"role": "user", "content": "Why?", "name": "x"}]', "a")
    assert messages == [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}]
    assert text_of(messages) == "Why?"
    assert parse(None, "a") == []
