"""Documents: images by themselves under decode_image's rules, places gone with what is lost, and a reason each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.errors import Reason
from mmdata.image.decode_document import DecodeDocument
from mmdata.image.decode_image import DecodeImage
from mmdata.sample import Sample
from mmdata.sources.messages import MEDIA_REASONS, places, raw_part, texts
from tests.builders import jpeg, picture_HWC

IMAGE = {"type": "image"}


def document(images: Sequence[bytes | Reason], modality: str = "interleaved", said: str = "words") -> Sample:
    """As ingest leaves it: bytes of what was had, a reason for what was not, a text behind every image."""
    content: list[dict[str, str]] = []
    for number in range(len(images)):
        content += [IMAGE, {"type": "text", "text": f"{said} {number}" if said else ""}]
    if not images and said:
        content.append({"type": "text", "text": said})
    return Sample(
        "docs-000000000001",
        {raw_part(place): data for place, data in enumerate(images) if isinstance(data, bytes)},
        {
            "modality": modality,
            "messages": json.dumps([{"role": "user", "content": content}]),
            MEDIA_REASONS: ["ok" if isinstance(each, bytes) else each.value for each in images],
        },
    )


def decoded(sample: Sample, **options: Any) -> Sample:
    (given_back,) = DecodeDocument(**options).process([sample])
    assert given_back is sample
    assert not any(part.startswith("raw") for part in sample.parts)
    return sample


def test_each_image_is_what_decode_image_makes_of_it() -> None:
    data = [jpeg(1, 200, 100), jpeg(2, 90, 300)]
    sample = decoded(document(data), side_px=64, quality=80)
    stage = DecodeImage(side_px=64, quality=80)
    for number, each in enumerate(data):
        (alone,) = stage.process([Sample("p-000000000001", {"raw": each}, {"modality": "image_text"})])
        assert sample.parts[f"{number:03d}.jpg"] == alone.parts["jpg"]
    assert sample.is_ok
    assert (sample.columns["num_images"], sample.columns[MEDIA_REASONS]) == (2, ["ok", "ok"])


def test_what_is_lost_takes_its_place_along_and_the_rest_is_numbered_anew() -> None:
    sample = decoded(
        document([Reason.HTTP_4XX, jpeg(1, 200, 200), b"no image", jpeg(2, 20, 20), jpeg(3, 200, 200)]),
        min_side_px=64,
    )
    assert sample.is_ok
    assert sample.columns[MEDIA_REASONS] == [
        "fetch.http_4xx",
        "ok",
        "content.type_mismatch",
        "filtered.too_small",
        "ok",
    ]
    assert sorted(sample.parts) == ["000.jpg", "001.jpg"]
    messages = json.loads(sample.columns["messages"])
    assert (len(places(messages)), len(texts(messages)), sample.columns["num_images"]) == (2, 5, 2)
    assert [piece["type"] for piece in messages[0]["content"]] == [*["text"], "image", *["text"] * 3, "image", "text"]


@pytest.mark.parametrize(
    ("images", "options", "reason", "detail"),
    [
        ([Reason.HTTP_4XX, Reason.GONE], {}, Reason.HTTP_4XX, "2 of 2 media lost"),
        ([Reason.HTTP_4XX, Reason.TIMEOUT], {}, Reason.TIMEOUT, "2 of 2 media lost"),
        ([Reason.OPTOUT_HEADER, jpeg(1)], {"min_images": 2}, Reason.OPTOUT_HEADER, "1 of 2 media lost"),
        ([Reason.HTTP_4XX, jpeg(1)], {"on_missing": "drop_document"}, Reason.HTTP_4XX, "1 of 2 media lost"),
        ([jpeg(1)], {"min_images": 2}, Reason.TOO_FEW_IMAGES, "1, wanted 2"),
        ([], {}, Reason.TOO_FEW_IMAGES, "0, wanted 1"),
        ([jpeg(1)] * 2, {"min_images": 2}, Reason.DUPLICATE_CONTENT, "1 of 2 media lost"),
    ],
)
def test_a_document_with_too_little_left_ends_with_the_reason_of_what_is_lost(
    images: list[Any], options: Any, reason: Reason, detail: str
) -> None:
    sample = decoded(document(images), **options)
    assert (sample.reason, sample.detail, sample.parts) == (reason, detail, {})


def test_a_document_may_go_on_without_any_image_where_none_is_asked_for() -> None:
    sample = decoded(document([Reason.HTTP_4XX]), min_images=0)
    assert sample.is_ok
    assert (sample.columns["num_images"], sample.parts) == (0, {})


def test_a_document_without_text_is_none() -> None:
    assert decoded(document([jpeg(1)], said="")).reason is Reason.NO_TEXT


def test_a_dialogue_ends_with_an_image_it_speaks_of_and_passes_without_any() -> None:
    assert decoded(document([jpeg(1), Reason.HTTP_4XX], "instruct")).reason is Reason.HTTP_4XX
    assert decoded(document([jpeg(1), Reason.HTTP_4XX], "instruct"), on_missing="drop_image").is_ok
    alone = decoded(document([], "instruct"))
    assert alone.is_ok
    assert alone.columns["num_images"] == 0


def test_a_repeated_logo_stays_once_in_a_document_and_always_in_a_dialogue() -> None:
    logo, again = jpeg(5, 120, 60), jpeg(5, 240, 120)
    sample = decoded(document([logo, jpeg(1), again]))
    assert sample.columns[MEDIA_REASONS] == ["ok", "ok", "filtered.duplicate_content"]
    assert decoded(document([logo, jpeg(1), again]), same_bits=None).columns["num_images"] == 3
    assert decoded(document([logo, again], "instruct")).columns["num_images"] == 2


def test_film_and_sound_are_not_decoded_yet() -> None:
    sample = document([jpeg(1)], "instruct")
    sample.columns["messages"] = sample.columns["messages"].replace('"image"', '"video"')
    assert decoded(sample).reason is Reason.UNSUPPORTED


def test_kept_originals_are_jpeg_whatever_came() -> None:
    ok, png = cv2.imencode(".png", picture_HWC(1, 70, 50))
    assert ok
    data = jpeg(2, 90, 60)
    sample = decoded(document([png.tobytes(), data]), keep_original=True)
    assert sorted(sample.parts) == ["000.jpg", "001.jpg"]
    first = cv2.imdecode(np.frombuffer(sample.parts["000.jpg"], np.uint8), cv2.IMREAD_COLOR)
    assert first.shape == (50, 70, 3)
    assert sample.parts["001.jpg"][:3] == b"\xff\xd8\xff"


OUTCOME = st.sampled_from([jpeg(1), jpeg(2), b"junk", Reason.HTTP_4XX, Reason.TIMEOUT, Reason.TOO_MANY_IMAGES])


@settings(deadline=None, max_examples=40)
@given(
    images=st.lists(OUTCOME, max_size=6),
    modality=st.sampled_from(["interleaved", "instruct"]),
    on_missing=st.sampled_from(["auto", "drop_image", "drop_document"]),
    min_images=st.integers(0, 3),
)
def test_places_images_and_reasons_always_agree(
    images: list[Any], modality: str, on_missing: Any, min_images: int
) -> None:
    sample = decoded(document(images, modality), on_missing=on_missing, min_images=min_images)
    reasons = sample.columns[MEDIA_REASONS]
    assert len(reasons) == len(images)
    assert len(places(json.loads(sample.columns["messages"]))) == reasons.count("ok") == sample.columns["num_images"]
    if sample.is_ok:
        assert sorted(sample.parts) == [f"{number:03d}.jpg" for number in range(reasons.count("ok"))]
    else:
        assert sample.reason.value in {*reasons, "filtered.too_few_images"}
