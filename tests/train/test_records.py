"""What reading promises: every sample of every modality from tar and Parquet alike, by shard and row."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import fsspec
import numpy as np
import pytest

from mmdata.errors import ConfigError, Reason, SampleError
from mmdata.train.collate import pack
from mmdata.train.dataset import PackDataset
from mmdata.train.media import Medium, items_of, spread
from mmdata.train.pictures import decode_HWC, fit_HWC
from mmdata.train.plan import Pack
from mmdata.train.prepared import prepare
from mmdata.train.records import Recent, ShardReader
from mmdata.train.samples import Place, Prepared
from tests.builders import picture_HWC
from tests.train import shelf, tiny
from tests.train.shelf import asked, text

KINDS = ("tar", "parquet")
FRAMES = {f"{i:03d}.jpg": shelf.jpeg(i) for i in range(5)}
SAMPLES = {
    "image_text": [shelf.captioned(number) for number in range(7)],
    "video_text": [shelf.Written(f"v-{n}", f"film {n}", parts=FRAMES, times_s=[0.0, 1, 2, 3, 4]) for n in range(4)],
    "audio_text": [shelf.Written(f"a-{n}", f"said {n}", parts={"flac": shelf.flac(0.3, n)}) for n in range(4)],
    "instruct": [
        shelf.Written(
            f"i-{n}", messages=asked([{"type": "image"}, text("?")], f"yes {n}"), parts={"000.jpg": shelf.jpeg(n)}
        )
        for n in range(4)
    ],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("modality", SAMPLES)
def test_every_sample_is_read_by_its_place(tmp_path: Path, modality: str, kind: str) -> None:
    samples = SAMPLES[modality]
    root = shelf.write(tmp_path, modality, samples, kind=kind, per_shard=4)
    reader = ShardReader(root, modality, "train")
    assert reader.shards == list(range(-(-len(samples) // 4)))
    for number in reversed(range(len(samples))):
        written = samples[number]
        for media in (True, False):
            record = reader.read(number // 4, number % 4, media=media)
            assert (record.key, record.source, record.caption) == (written.key, "made", written.caption)
            found = [medium for of in record.media.values() for medium in of]
            assert len(found) == 1
            assert [data for _, data in found[0].parts] == [d if media else b"" for d in written.parts.values()]
        if written.messages is not None:
            assert record.messages is not None
            assert [m["role"] for m in record.messages] == ["user", "assistant"]
            assert record.messages[1]["content"][0]["text"] == f"yes {number}"
        if modality == "video_text":
            assert list(record.media["video"][0].times_s) == written.times_s


def test_a_dataset_on_another_file_system_is_read_alike() -> None:
    local = fsspec.filesystem("memory")
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        shelf.write(Path(folder), "image_text", SAMPLES["image_text"])
        local.put(folder + "/", "/shelf-memory/", recursive=True)
    reader = ShardReader("memory://shelf-memory", "image_text", "train")
    assert reader.read(0, 3).media["image"][0].parts == [("jpg", shelf.jpeg(3))]


def test_what_is_no_dataset_or_has_no_such_split_is_refused(tmp_path: Path) -> None:
    shelf.write(tmp_path, "image_text", SAMPLES["image_text"])
    for root, modality, split in ((tmp_path / "x", "image_text", "train"), (tmp_path, "image_text", "val")):
        with pytest.raises(ConfigError, match=f"has no index/{modality}/{split}"):
            ShardReader(str(root), modality, split)


def test_a_cut_shard_and_a_damaged_json_end_the_sample(tmp_path: Path) -> None:
    root = shelf.write(tmp_path, "image_text", SAMPLES["image_text"])
    path = tmp_path / "image_text/train/00000.tar"
    data = bytearray(path.read_bytes())
    reader = ShardReader(root, "image_text", "train")
    place = next(p for p in reader.index(0)["parts"][0].as_py() if p["part"] == "json")
    data[place["offset"]] = ord("x")
    path.write_bytes(data[:-3000])
    for row, reason in ((0, Reason.CORRUPT), (6, Reason.TRUNCATED)):
        with pytest.raises(SampleError) as caught:
            ShardReader(root, "image_text", "train").read(0, row)
        assert caught.value.reason is reason


def test_the_least_recently_used_is_closed() -> None:
    closed: list[str] = []
    held = Recent(2, close=closed.append)
    for key in ("a", "b", "a", "c", "b"):
        assert held.get(key, lambda key=key: key) == key
    assert closed == ["b", "a"]


def test_numbered_frames_come_in_their_order_beyond_a_thousand(tmp_path: Path) -> None:
    parts = {f"{i:03d}.jpg": str(i).encode() for i in (2, 999, 1000, 10)}
    root = shelf.write(tmp_path, "video_text", [shelf.Written("v-1", "x", parts=parts)])
    (video,) = ShardReader(root, "video_text", "train").read(0, 0).media["video"]
    assert [data for _, data in video.parts] == [b"2", b"10", b"999", b"1000"]


def test_the_trainer_travels_to_workers_without_open_files(tiny_path: Path) -> None:
    prepared = prepare(tiny.config(tiny_path, str(tiny_path / "eight")))
    before = prepared.loader.load(0, 0, 0, 0)
    again = pickle.loads(pickle.dumps(prepared.loader)).load(0, 0, 0, 0)
    assert (again.key, again.ids, again.labels) == (before.key, before.ids, before.labels)
    np.testing.assert_array_equal(again.media["image"][0][0].array, before.media["image"][0][0].array)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("modality", SAMPLES)
def test_measured_lengths_are_those_of_loaded_samples(
    tiny_path: Path, tmp_path: Path, modality: str, kind: str
) -> None:
    samples = [*SAMPLES[modality]]
    for sample in samples:
        sample.duration_s = 0.3 if modality == "audio_text" else None
    data = [
        {
            "dataset": shelf.write(tmp_path, modality, samples, kind=kind),
            "modality": modality,
            "prompts": ["A", "B c d"],
        }
    ]
    prepared = prepare(tiny.config(tiny_path, "", kinds=("image", "video", "audio"), data=data, name="lengths",
                                   machine={"folder": str(tmp_path)}))  # fmt: skip
    (pool,) = prepared.plan.pools
    for row in range(len(samples)):
        sample = prepared.loader.load(0, 0, row, 0)
        assert len(sample.ids) == pool.tokens[row]
        assert sum(i < 0 for i in sample.ids) == pool.media[row] == sum(i.tokens for of in sample.media.values()
                                                                        for medium in of for i in medium)  # fmt: skip
        assert sum(label >= 0 for label in sample.labels) == pool.labels[row]


def test_measured_lengths_are_kept_and_read_again(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.config(tiny_path, str(tiny_path / "eight"), machine={"folder": str(tmp_path)})
    first = prepare(config).plan.hash
    from mmdata.train.samples import SampleLoader

    monkeypatch.setattr(SampleLoader, "measure", None)
    assert prepare(config).plan.hash == first
    other = tiny.config(
        tiny_path, str(tiny_path / "eight"), machine={"folder": str(tmp_path)}, llm={"system": "Be kind."}
    )
    with pytest.raises(TypeError):
        prepare(other)


@pytest.mark.parametrize("kind", KINDS)
def test_estimated_lengths_are_close_and_what_overflows_is_told(tiny_path: Path, tmp_path: Path, kind: str) -> None:
    samples = [shelf.captioned(number, words=3 + number % 20) for number in range(60)]
    data = shelf.write(tmp_path / "data", "image_text", samples, kind=kind)
    sections = {"plan": {"lengths": "index", "tokens_per_pack": 256}, "machine": {"folder": str(tmp_path)}}
    prepared = prepare(tiny.config(tiny_path, data, **sections))
    (pool,) = prepared.plan.pools
    exact = np.array([len(prepared.loader.load(0, 0, row, 0).ids) for row in range(60)])
    assert 1.0 <= pool.tokens.sum() / exact.sum() < 1.5
    packs = PackDataset(prepared.loader, 256)
    crowded = Pack(0, 0, 0, tuple(Place(0, 0, row) for row in range(12)))
    batch = packs[crowded]
    assert len(batch.ids_T) <= 256
    assert len(batch.keys) + len(batch.bad) == 12
    assert {line["reason"] for line in batch.bad} == {Reason.TOO_LONG.value}


def test_a_sample_without_an_encoder_for_its_media_is_refused_before_training(tiny_path: Path, tmp_path: Path) -> None:
    data = [
        {"dataset": shelf.write(tmp_path, "audio_text", SAMPLES["audio_text"]), "modality": "audio_text"},
        {"dataset": str(tiny_path / "eight"), "modality": "image_text"},
    ]
    prepared = prepare(tiny.config(tiny_path, "", data=data, machine={"folder": str(tmp_path)}))
    assert prepared.plan.pools[0].refused == {Reason.UNSUPPORTED.value: 4}
    assert prepared.plan.fill()[0] == prepared.plan.pools[1].tokens.sum()


@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
def test_a_picture_becomes_a_square(fit: str) -> None:
    picture = np.full((40, 80, 3), 200, np.uint8)
    picture[:, :20] = 50
    found = fit_HWC(picture, 16, fit, (1, 2, 3))
    assert (found.shape, found.dtype) == ((16, 16, 3), np.uint8)
    bars = (found == (1, 2, 3)).all(-1).sum()
    assert bars == (8 * 16 if fit == "pad" else 0)
    dark = (found[8] == 50).all(-1).sum()
    assert dark == {"pad": 4, "crop": 0, "squash": 4}[fit]


@pytest.mark.parametrize("part", ["jpg", "png", "webp"])
def test_pictures_of_each_extension_are_decoded_in_colour_order(part: str) -> None:
    picture = picture_HWC(3)
    data = cv2.imencode(f".{part}", picture[..., ::-1])[1].tobytes()
    found = decode_HWC(part, data, 8)
    assert np.abs(cv2.resize(picture, (8, 8)).astype(int) - cv2.resize(np.ascontiguousarray(found), (8, 8))).mean() < 12
    with pytest.raises(ValueError, match=r"JPEG|not a|Premature|Corrupt"):
        decode_HWC(part, data[:20], 8)


@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_pictures_of_a_pack_lie_together_as_each_is_alone_also_around_a_bad_one(
    tiny_path: Path, tmp_path: Path, fit: str
) -> None:
    side_px = tiny.VISION["image_size"]
    sizes_px = [(side_px, side_px), (2 * side_px, 2 * side_px), (5, 11), (100, 40), (side_px, side_px), (3, 3)]
    sizes_px.append((side_px + 1, side_px))
    samples = []
    for number, (height_px, width_px) in enumerate(sizes_px):
        pixels = cv2.resize(picture_HWC(number), (width_px, height_px))
        part = "png" if number == 4 else "jpg"
        data = cv2.imencode(f".{part}", pixels)[1].tobytes()
        samples.append(shelf.Written(f"p-{number}", "picture", parts={part: data}))
    samples.insert(2, shelf.Written("bad", "picture", parts={"jpg": samples[0].parts["jpg"][:60]}))
    root = shelf.write(tmp_path / "data", "image_text", samples)
    loader = prepare(tiny.config(tiny_path, root, machine={"folder": str(tmp_path)})).loader
    loader.specs["image"] = spec = replace(loader.specs["image"], fit=fit)
    assert spec.side_px == side_px
    for rows in ([0, 1, 3, 4, 5, 6, 7], [0, 2, 1], [6, 2], [7]):
        places = [Place(0, 0, row) for row in rows]
        batch = PackDataset(loader, 512)[Pack(0, 0, 0, tuple(places))]
        good = [row for row in rows if row != 2]
        assert [line["reason"] for line in batch.bad] == [Reason.CORRUPT.value] * (2 in rows)
        assert batch.keys == [samples[row].key for row in good]
        for row, found_HWC in zip(good, batch.media["image"].inputs.numpy(), strict=True):
            ((part, data),) = samples[row].parts.items()
            fill = [round(255 * value) for value in spec.mean]
            assert (found_HWC == fit_HWC(decode_HWC(part, data, side_px), side_px, fit, fill)).all()
        held = [found for found in loader.load_all(places, 0) if isinstance(found, Prepared)]
        inputs = pack(held).media["image"].inputs.numpy()
        # A bad one leaves a gap before those that follow it.
        assert np.shares_memory(inputs, held[0].media["image"][0][0].array) == (rows != [0, 2, 1])


def test_a_picture_that_was_cut_out_of_a_larger_one_is_whole_in_its_batch(tiny_path: Path) -> None:
    spec = replace(prepare(tiny.config(tiny_path, str(tiny_path / "eight"))).specs["image"], fit="crop")
    side_px = spec.side_px
    data = cv2.imencode(".png", cv2.resize(picture_HWC(1), (side_px, side_px + 1)))[1].tobytes()
    items = items_of(Medium("image", [("png", data)]), spec, None)
    tokens = items[0].tokens
    alone = pack([Prepared("a", "", "", [-1] * tokens, [-100] * tokens, {"image": [items]})])
    assert (alone.media["image"].inputs[0].numpy() == items[0].array).all()


def test_frames_are_spread_over_the_whole() -> None:
    assert spread(3, 8) == [0, 1, 2]
    assert spread(8, 4) == [1, 3, 5, 7]
    assert spread(1000, 2) == [250, 750]


def film(path: Path, frames: int = 20) -> bytes:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(frames):
            grey = np.full((48, 64, 3), 10 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def test_a_video_file_gives_frames_with_their_times(tiny_path: Path, tmp_path: Path) -> None:
    films = {"v-1": film(tmp_path / "film.mp4"), "v-2": b"x" * 99}
    samples = [shelf.Written(key, "film", parts={"mp4": data}) for key, data in films.items()]
    root = shelf.write(tmp_path / "data", "video_text", samples)
    data = [{"dataset": root, "modality": "video_text"}]
    prepared = prepare(tiny.config(tiny_path, "", kinds=("video",), data=data, machine={"folder": str(tmp_path)}))
    (items,) = prepared.loader.load(0, 0, 0, 0).media["video"]
    assert [item.time_s for item in items] == pytest.approx([0.3, 1.0, 1.6])
    assert [int(item.array.mean()) for item in items] == pytest.approx([30, 100, 160], abs=4)
    assert prepared.plan.pools[0].media.tolist() == [48, 48]
    with pytest.raises(SampleError) as caught:
        prepared.loader.load(0, 0, 1, 0)
    assert caught.value.reason is Reason.CORRUPT


def test_a_forked_worker_does_not_move_the_place_in_its_parents_files(tiny_path: Path) -> None:
    loader = prepare(tiny.config(tiny_path, str(tiny_path / "eight"))).loader
    loader.load(0, 0, 0, 0)
    ((file, _),) = loader.reader(0)._files._held.values()
    before = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    child = multiprocessing.get_context("fork").Process(target=loader.load, args=(0, 0, 5, 0))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == before
