"""Plain webdataset and Hugging Face datasets on clips, sound, documents and instructions.

Sound and clips are decoded by torchcodec where it finds FFmpeg's libraries; else the bytes that datasets gives are
decoded with soundfile and PyAV, and only that is said of it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from mmdata.config import EmitOptions
from tests.builders import jpeg, picture_HWC
from tests.emit.media import FPS, RATE_HZ, STAGES, Mixed, conversation, emit_all, mel, shards_of_all, wave_T

Load = Callable[..., Any]
DOCUMENTS = ("interleaved", "instruct")


def _has_torchcodec() -> bool:
    try:
        import torchcodec.decoders  # type: ignore[import-not-found]  # noqa: F401
    except (ImportError, RuntimeError, OSError):
        return False
    return True


HAS_TORCHCODEC = _has_torchcodec()
needs_torchcodec = pytest.mark.skipif(not HAS_TORCHCODEC, reason="torchcodec finds no FFmpeg libraries here")


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """load_dataset with a cache of its own; sound and clips as bytes where they cannot be decoded."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()

    def load(*args: object, **options: object) -> Any:
        dataset = datasets.load_dataset(*args, split="train", cache_dir=str(tmp_path / "cache"), **options)
        for column, feature in (("audio", datasets.Audio), ("video", datasets.Video)):
            if not HAS_TORCHCODEC and column in dataset.column_names:
                dataset = dataset.cast_column(column, feature(decode=False))
        return dataset

    return load


def row_of(key: str) -> int:
    return int(key.rpartition("-")[2])


def check_sound(given: Any, row: int, seconds: float) -> None:
    """The tone of a row, by whichever decoder is there."""
    if HAS_TORCHCODEC:
        samples = given.get_all_samples()
        heard_T, rate_hz = samples.data[0].numpy(), samples.sample_rate
    else:
        heard_T, rate_hz = soundfile.read(io.BytesIO(given["bytes"]), dtype="float32")
    assert rate_hz == RATE_HZ
    assert np.abs(heard_T - wave_T(row, seconds)).max() < 1e-4


def check_clip(given: Any, row: int) -> None:
    """Ten pictures of a row, by whichever decoder is there."""
    if HAS_TORCHCODEC:
        frames = [frame.permute(1, 2, 0).numpy() for frame in given]
    else:
        with av.open(io.BytesIO(given["bytes"])) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            assert container.streams.video[0].average_rate == FPS
    assert len(frames) == 10
    assert all(np.abs(frame.astype(int) - picture_HWC(row)).mean() < 6 for frame in frames)


def urls(mixed: Mixed, modality: str) -> list[str]:
    return [str(path) for path in sorted((mixed.path / modality / "train").glob("*.tar"))]


def test_plain_webdataset_reads_sound_and_features(mixed: Mixed) -> None:
    wds = pytest.importorskip("webdataset")
    samples = list(wds.WebDataset(urls(mixed, "audio_text"), shardshuffle=False).decode())
    assert len(samples) == 8
    for sample in samples:
        row = row_of(sample["__key__"])
        assert {name for name in sample if not name.startswith("__")} == {"flac", "mel.npy", "txt", "json"}
        heard_T, rate_hz = soundfile.read(io.BytesIO(sample["flac"]), dtype="float32")
        assert (rate_hz, heard_T.shape) == (RATE_HZ, (8000,))
        assert np.array_equal(sample["mel.npy"], mel(row))
        assert sample["mel.npy"].dtype == np.float16
        assert sample["txt"] == sample["json"]["caption"]


def test_plain_webdataset_reads_clips_and_their_frames(mixed: Mixed) -> None:
    wds = pytest.importorskip("webdataset")
    samples = list(wds.WebDataset(urls(mixed, "video_text"), shardshuffle=False).decode("rgb8"))
    assert len(samples) == 6
    for sample in samples:
        row = row_of(sample["__key__"])
        frames = sorted(name for name in sample if name.endswith(".jpg"))
        assert frames == [f"{number:03d}.jpg" for number in range(3 if row < 3 or row % 2 else 2)]
        for number, name in enumerate(frames):
            assert np.array_equal(sample[name], np.array(Image.open(io.BytesIO(jpeg(100 * row + number)))))
        with av.open(io.BytesIO(sample["mp4"])) as container:
            assert sum(1 for _ in container.decode(video=0)) == 10
        assert ("flac" in sample) == sample["json"]["has_sound"] == (row < 3)


@pytest.mark.parametrize("modality", DOCUMENTS)
def test_plain_webdataset_reads_documents_with_and_without_pictures(mixed: Mixed, modality: str) -> None:
    wds = pytest.importorskip("webdataset")
    samples = list(wds.WebDataset(urls(mixed, modality), shardshuffle=False).decode("pil"))
    assert len(samples) == 6
    for sample in samples:
        pieces = [piece for message in sample["json"]["messages"] for piece in message["content"]]
        pictures = [sample[name] for name in sorted(sample) if name.endswith(".jpg")]
        assert [piece["type"] for piece in pieces].count("image") == len(pictures)
        assert all(picture.size == (64, 48) for picture in pictures)
        assert sample["txt"].endswith(f"It is {row_of(sample['__key__'])}.")


def test_load_dataset_gives_clips_frames_and_sound(mixed: Mixed, load: Load) -> None:
    dataset = load(mixed.emitted.root, "video_text")
    assert dataset.num_rows == 6
    for sample in dataset:
        row = row_of(sample["key"])
        check_clip(sample["video"], row)
        assert len(sample["frames"]) == (3 if row < 3 or row % 2 else 2)
        assert np.array_equal(np.array(sample["frames"][1]), np.array(Image.open(io.BytesIO(jpeg(100 * row + 1)))))
        if row < 3:
            check_sound(sample["audio"], row, 1.0)
        else:
            assert sample["audio"] is None
        assert (sample["frame_times_s"] is None) == (row == 0)
        assert (sample["duration_s"], sample["fps"], sample["width_px"]) == (1.0, 10.0, 64)
        assert [message["content"][0]["type"] for message in sample["messages"]] == ["video", "text"]
        assert sample["messages"][1]["content"][0]["text"] == sample["caption"] == f"clip number {row}"


def test_load_dataset_gives_sound_and_features(mixed: Mixed, load: Load) -> None:
    dataset = load(mixed.emitted.root, "audio_text")
    assert dataset.num_rows == 8
    for sample in dataset:
        row = row_of(sample["key"])
        check_sound(sample["audio"], row, 0.5)
        assert np.array_equal(np.load(io.BytesIO(sample["mel"])), mel(row))
        assert sample["messages"][0]["content"] == [{"type": "audio", "text": None}]
        assert (sample["sample_rate_hz"], sample["num_mel_frames"], sample["audio_codec"]) == (RATE_HZ, 51, "flac")


@pytest.mark.parametrize("modality", DOCUMENTS)
def test_load_dataset_gives_messages_and_all_pictures_of_a_document(mixed: Mixed, load: Load, modality: str) -> None:
    dataset = load(mixed.emitted.root, modality)
    assert dataset.num_rows == 6
    for sample in dataset:
        row, images = row_of(sample["key"]), sample["num_images"]
        assert images == mixed.samples[sample["key"]].columns["num_images"]
        assert [np.array(picture).shape for picture in sample["images"]] == [(48, 64, 3)] * images
        for number, picture in enumerate(sample["images"]):
            wanted = Image.open(io.BytesIO(jpeg(1000 + 10 * row + number)))
            assert np.array_equal(np.array(picture), np.array(wanted))
        assert (sample["videos"], sample["audios"]) == ([], [])
        pieces = [piece for message in sample["messages"] for piece in message["content"]]
        wanted_pieces = [piece for message in conversation(row, images) for piece in message["content"]]
        assert pieces == [{"text": None, **piece} for piece in wanted_pieces]


@pytest.fixture(scope="module")
def tars_only(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    folder = tmp_path_factory.mktemp("tars")
    options = EmitOptions(samples_per_shard=4, window_shards=3, formats=["webdataset"])
    return emit_all(folder, shards_of_all(), options, STAGES)


@pytest.mark.parametrize("modality", ["image_text", *DOCUMENTS])
def test_load_dataset_by_the_card_of_tars_loses_no_picture(tars_only: Mixed, load: Load, modality: str) -> None:
    dataset = load(tars_only.emitted.root, modality)
    assert dataset.num_rows == 6
    for sample in dataset:
        parts = tars_only.samples[sample["__key__"]].parts
        found = {name for name, value in sample.items() if name.endswith("jpg") and value is not None}
        assert found == set(parts)
        assert sample["json"]["status"] == "success"


@needs_torchcodec
@pytest.mark.parametrize("modality", ["video_text", "audio_text"])
def test_load_dataset_by_the_card_of_tars_gives_sound_and_clips(tars_only: Mixed, load: Load, modality: str) -> None:
    dataset = load(tars_only.emitted.root, modality)
    for sample in dataset:
        row = row_of(sample["__key__"])
        if sample["flac"] is not None:
            check_sound(sample["flac"], row, 1.0 if modality == "video_text" else 0.5)
        if modality == "video_text":
            check_clip(sample["mp4"], row)


@pytest.mark.skipif(HAS_TORCHCODEC, reason="torchcodec is here")
def test_tars_with_sound_need_torchcodec_in_datasets_as_the_card_says(tars_only: Mixed, load: Load) -> None:
    with pytest.raises(Exception, match=r"generating the dataset|torchcodec") as error:
        load(tars_only.emitted.root, "audio_text")
    assert "torchcodec" in str(error.value.__cause__ or error.value)
    assert "cannot be loaded by `datasets` without torchcodec" in (tars_only.path / "README.md").read_text()


def test_load_dataset_reads_the_tars_of_clips_without_sound(mixed: Mixed, load: Load) -> None:
    quiet = [
        path for path in urls(mixed, "video_text") if 'has_sound":false' in Path(path).read_bytes().decode("latin1")
    ]
    assert len(quiet) == 2
    import datasets

    dataset = load("webdataset", data_files={"train": quiet[:1]}).cast_column(
        "mp4", datasets.Video(decode=HAS_TORCHCODEC)
    )
    for sample in dataset:
        check_clip(sample["mp4"], row_of(sample["__key__"]))
        assert json.loads(sample["json"]["extra"]) == {"license": "licence 2"}


def test_load_dataset_reads_parquet_of_a_modality_by_its_files(mixed: Mixed, load: Load) -> None:
    files = f"{mixed.emitted.root}/parquet/audio_text/train/*.parquet"
    dataset = load("parquet", data_files={"train": files})
    assert sorted(row_of(key) for key in dataset["key"]) == list(range(8))
    check_sound(dataset[0]["audio"], row_of(dataset[0]["key"]), 0.5)
