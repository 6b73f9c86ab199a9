"""emit.augment: copies of repeated samples differ, the sample itself never does, and what is told of a copy is true."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

from mmdata.audio.log_mel import LogMel
from mmdata.augment import AUGMENTS, MODULES
from mmdata.config import EmitOptions, load
from mmdata.emit.verify import verify
from mmdata.errors import ConfigError, ShardError
from mmdata.sample import Sample
from mmdata.select.counts import KeptCount, SelectionCounts
from mmdata.shards import ledger, storage
from mmdata.shards.folders import RunFolder
from mmdata.shards.tar import read_samples
from tests.builders import image_sample
from tests.emit.emitted import emit_staged
from tests.emit.media import audio_sample, staged_shard, video_sample, write_shards

IMAGE = {"crop": 0.3, "flip": 0.5, "colour": 0.2}
FASTER = {"min_speed": 1.5, "max_speed": 1.5}


def emit_twice(folder: Path, sample: Sample, augment: dict[str, Any], stages: list[Any] | None = None) -> Path:
    """A dataset of the sample and a copy of it."""
    run = RunFolder(str(folder / "run"))
    write_shards(run, [[sample]], folder / "select", stages or [])
    chosen = ledger.read(run.selection("s", 0))
    twice = pa.array([2], pa.int32())
    chosen = chosen.set_column(chosen.column_names.index("repeat"), "repeat", twice)
    storage.write_whole(run.selection("s", 0), ledger.parquet_bytes(chosen))
    modality = sample.columns["modality"]
    kept = KeptCount(0, modality, "train", " ".join(sorted(sample.parts)), 1, 2)
    counts = SelectionCounts(rows=1, kept=[kept])
    options = EmitOptions(augment=augment)
    emitted = emit_staged([staged_shard(run, 0)], folder / "dataset", counts, options, stages=stages or [])
    verify(emitted.root)
    return emitted.path / modality / "train"


def both(folder: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Parts of the sample and of its copy."""
    with (folder / "00000.tar").open("rb") as file:
        samples = dict(read_samples(file, "tar"))
    first, copy = sorted(samples)
    assert copy == f"{first}-x02"
    return samples[first], samples[copy]


def rows(folder: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rows of the sample and of its copy in the sidecar (""), the Parquet shard or the index."""
    place = folder.parents[1] / kind / folder.relative_to(folder.parents[1]) / "00000.parquet"
    first, copy = pq.ParquetFile(place).read().sort_by("key").to_pylist()
    return first, copy


def test_a_copy_of_a_picture_differs_and_its_size_is_told_everywhere(tmp_path: Path) -> None:
    sample = image_sample("pictures", 1)
    folder = emit_twice(tmp_path, sample, {"image": IMAGE})
    first, copy = both(folder)
    assert first["jpg"] == sample.parts["jpg"] != copy["jpg"]
    size = Image.open(io.BytesIO(copy["jpg"])).size
    assert size != (64, 48)
    entry = json.loads(copy["json"])
    assert (entry["width"], entry["height"], entry["original_width"]) == (*size, 640)
    assert [(row["width"], row["height"]) for row in rows(folder, "")] == [(64, 48), size]
    for kind in ("parquet", "index"):
        assert [(row["width_px"], row["height_px"]) for row in rows(folder, kind)] == [(64, 48), size]
    assert [row["image"]["bytes"] for row in rows(folder, "parquet")] == [first["jpg"], copy["jpg"]]
    again = emit_twice(tmp_path / "again", image_sample("pictures", 1), {"image": IMAGE})
    assert (again / "00000.tar").read_bytes() == (folder / "00000.tar").read_bytes()


def test_without_options_a_copy_is_the_sample_itself(tmp_path: Path) -> None:
    first, copy = both(emit_twice(tmp_path, image_sample("pictures", 1), {"audio": {}, "video": {}}))
    assert (first["jpg"], first["txt"]) == (copy["jpg"], copy["txt"])


def test_a_copied_caption_is_told_everywhere(tmp_path: Path) -> None:
    sample = image_sample("pictures", 1, caption="a dog and a dog")
    options = {"caption": {"synonyms": {"dog": ["large hound"]}, "synonym_share": 1.0}}
    folder = emit_twice(tmp_path, sample, options)
    first, copy = both(folder)
    varied = "a large hound and a large hound"
    assert (first["txt"], copy["txt"]) == (b"a dog and a dog", varied.encode())
    assert first["jpg"] == copy["jpg"]
    assert json.loads(copy["json"])["caption"] == varied
    for kind in ("", "parquet"):
        assert [row["caption"] for row in rows(folder, kind)] == ["a dog and a dog", varied]
    assert [row["text_tokens"] for row in rows(folder, "index")] == [5, 7]
    assert rows(folder, "parquet")[1]["messages"][1]["content"][0]["text"] == varied


def test_a_transcript_is_left_alone_unless_its_modality_is_named(tmp_path: Path) -> None:
    caption = {"synonyms": {"tone": ["note"]}, "synonym_share": 1.0}
    _, copy = both(emit_twice(tmp_path / "a", audio_sample(2), {"caption": caption}))
    assert copy["txt"] == b"the tone of 2"
    _, copy = both(emit_twice(tmp_path / "b", audio_sample(2), {"caption": caption | {"modalities": ["audio_text"]}}))
    assert copy["txt"] == b"the note of 2"


def test_a_faster_copy_of_a_sound_has_features_of_its_own(tmp_path: Path) -> None:
    stage = LogMel()
    stage.setup()
    sample = audio_sample(2)
    stage.process([sample])
    folder = emit_twice(tmp_path, sample, {"audio": FASTER | {"noise_db": 40.0}}, [LogMel()])
    first, copy = both(folder)
    assert (first["flac"], first["mel.npy"]) == (sample.parts["flac"], sample.parts["mel.npy"])
    heard_T, rate_hz = soundfile.read(io.BytesIO(copy["flac"]))
    assert heard_T.size == pytest.approx(8000 / 1.5, abs=2)
    again = Sample("a", {"flac": copy["flac"]}, {"modality": "audio_text"})
    stage.process([again])
    assert copy["mel.npy"] == again.parts["mel.npy"] != first["mel.npy"]
    frames = np.load(io.BytesIO(copy["mel.npy"])).shape[1]
    entry = json.loads(copy["json"])
    assert entry["duration_s"] == pytest.approx(heard_T.size / rate_hz)
    assert entry["num_mel_frames"] == frames
    assert [row["num_mel_frames"] for row in rows(folder, "index")] == [again_frames(first), frames]


def again_frames(parts: dict[str, bytes]) -> int:
    return int(np.load(io.BytesIO(parts["mel.npy"])).shape[1])


def test_features_that_no_stage_can_make_again_are_a_shard_error(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"audio-text-000000000002-x02: emit.augment: parts \['mel.npy'\] went"):
        emit_twice(tmp_path, audio_sample(2), {"audio": FASTER})


def test_a_faster_copy_of_a_clip_has_its_sound_and_times_in_step(tmp_path: Path) -> None:
    from tests.emit.media import STAGES

    folder = emit_twice(tmp_path, video_sample(1), {"video": FASTER | {"flip": 1.0}}, STAGES)
    first, copy = both(folder)
    assert set(first) == set(copy)
    assert all(first[part] != copy[part] for part in ("mp4", "000.jpg", "001.jpg", "002.jpg", "flac"))
    entry = json.loads(copy["json"])
    assert entry["duration_s"] == pytest.approx(1 / 1.5)
    assert entry["frame_times_s"] == pytest.approx([0, 0.25 / 1.5, 0.5 / 1.5])
    assert soundfile.info(io.BytesIO(copy["flac"])).duration == pytest.approx(1 / 1.5, abs=0.001)
    assert [row["duration_s"] for row in rows(folder, "index")] == pytest.approx([1.0, 1 / 1.5])
    assert Image.open(io.BytesIO(copy["000.jpg"])).size == (entry["width"], entry["height"])


def test_options_are_checked_and_filled_in_when_the_pipeline_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "name: a\nsources: {a: {kind: url_table, path: x}}\nemit: {augment: {image: {flip: 0.5}, video: }}\n"
    )
    assert load(path).emit.augment == {
        "image": {"crop": 0.1, "flip": 0.5, "colour": 0.1},
        "video": {"min_speed": 0.8, "max_speed": 1.25, "crop": 0.1, "flip": 0.0, "colour": 0.1},
    }
    with pytest.raises(ConfigError, match=r"emit.augment.image.flop: no such option \(did you mean flip\?\)"):
        load(path, ["emit.augment.image.flop=1"])
    with pytest.raises(ConfigError, match=r"emit.augment.imag: .*did you mean image"):
        load(path, ["emit.augment.imag={}"])
    with pytest.raises(ConfigError, match=r"min_speed 1.5 is above max_speed 1.25"):
        load(path, ["emit.augment.video.min_speed=1.5"])


def test_every_kind_has_a_function_and_options() -> None:
    import importlib

    assert set(AUGMENTS) == set(MODULES)
    assert all(callable(importlib.import_module(module).augment) for module in MODULES.values())
