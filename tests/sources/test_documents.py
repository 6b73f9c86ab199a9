"""Documents and dialogues: every published form gives messages and media in the same order, bad ones a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.errors import SourceError
from mmdata.sources.instruct import Instruct, split
from mmdata.sources.interleaved import Interleaved
from mmdata.sources.messages import has_text, pieces, places, texts, without_places

from .tables import rows_of

IMAGE = {"type": "image"}


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


# One document of MMC4-core-ff in its own form, shortened.
MMC4: dict[str, Any] = {
    "url": "http://cars.example/2017/10/review.html",
    "text_list": ["The car is red.", "It is fast.", "Buy it."],
    "image_info": [
        {
            "image_name": "b9040a0dbb22.jpg",
            "raw_url": "http://cars.example/fast.jpg",
            "matched_text_index": 1,
            "matched_sim": 0.27694183588027954,
        },
        {
            "image_name": "db1c21bc8474.jpg",
            "raw_url": "http://cars.example/red.jpg",
            "matched_text_index": 0,
            "matched_sim": 0.3234919309616089,
        },
    ],
    "similarity_matrix": [[0.24, 0.27, 0.2], [0.32, 0.2, 0.1]],
    "could_have_url_duplicate": 0,
}


def test_mmc4_puts_each_image_before_its_sentence_and_keeps_the_rest(tmp_path: Path) -> None:
    (row,) = rows_of(Interleaved(path=lines(tmp_path / "docs_no_face_shard_0.jsonl", [MMC4])))
    assert row["url"] == MMC4["url"]
    assert json.loads(row["messages"]) == [
        {
            "role": "assistant",
            "content": [IMAGE, text("The car is red."), IMAGE, text("It is fast."), text("Buy it.")],
        }
    ]
    assert json.loads(row["media_list"]) == [
        {"type": "image", "url": "http://cars.example/red.jpg"},
        {"type": "image", "url": "http://cars.example/fast.jpg"},
    ]
    assert json.loads(row["similarity_matrix"]) == MMC4["similarity_matrix"]
    assert json.loads(row["image_info"])[0]["matched_sim"] == pytest.approx(0.2769418)
    assert "text_list" not in row


def test_mmc4_images_can_be_files_and_stand_behind_their_text(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/b9040a0dbb22.jpg").write_bytes(b"jpeg")
    path = lines(tmp_path / "a.jsonl", [MMC4])
    (row,) = rows_of(Interleaved(path=path, root=str(tmp_path / "images"), files=True, image_place="after"))
    assert json.loads(row["messages"])[0]["content"][:2] == [text("The car is red."), IMAGE]
    assert json.loads(row["media_list"]) == [
        {"type": "image", "reason": "fetch.row_error"},
        {"type": "image", "path": str(tmp_path / "images/b9040a0dbb22.jpg"), "size": 4},
    ]


def test_images_beyond_the_limit_keep_their_place_and_are_not_asked_for(tmp_path: Path) -> None:
    (row,) = rows_of(Interleaved(path=lines(tmp_path / "a.jsonl", [MMC4]), max_images=1))
    assert len(places(json.loads(row["messages"]))) == 2
    assert json.loads(row["media_list"])[1] == {"type": "image", "reason": "filtered.too_many_images"}


def test_obelics_reads_its_parquet_with_nulls_in_turn(tmp_path: Path) -> None:
    table = pa.table(
        {
            "images": [["https://x.example/1.png", None, None, "https://x.example/2.png"]],
            "metadata": ['[{"src": "https://x.example/1.png"}, null, null, null]'],
            "general_metadata": ['{"url": "https://x.example/page"}'],
            "texts": [[None, "A sea.", "A shore.", None]],
        }
    )
    pq.write_table(table, tmp_path / "train-00000.parquet")
    (row,) = rows_of(Interleaved(path=str(tmp_path)))
    assert json.loads(row["messages"])[0]["content"] == [IMAGE, text("A sea."), text("A shore."), IMAGE]
    assert [medium["url"][-5:] for medium in json.loads(row["media_list"])] == ["1.png", "2.png"]
    assert row["general_metadata"] == '{"url": "https://x.example/page"}'
    assert row["images"][0] == "https://x.example/1.png"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"text_list": "no list"}, "text_list: found str, allowed is a list"),
        ({"text_list": [1]}, "text_list: found int in it, allowed is text"),
        ({"image_info": [{"matched_text_index": 3}]}, "image_info: found matched_text_index 3, allowed is 0 to 2"),
        ({"image_info": ["x"]}, "image_info: found matched_text_index None, allowed is 0 to 2"),
        ({"image_info": None}, "image_info: found NoneType, allowed is a list"),
    ],
)
def test_a_document_that_is_none_is_a_row_with_the_reason(change: Any, error: str, tmp_path: Path) -> None:
    good, bad = rows_of(Interleaved(path=lines(tmp_path / "a.jsonl", [MMC4, MMC4 | change])))
    assert "row_error" not in good
    assert bad["row_error"] == error
    assert "messages" not in bad


# From llava_v1_5_mix665k.json and its like: with an image, without, and with two.
LLAVA: list[dict[str, Any]] = [
    {
        "id": "000000033471",
        "image": "coco/000000033471.jpg",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat are the colors of the bus?"},
            {"from": "gpt", "value": "White and red."},
        ],
    },
    {
        "id": "wgByO4Y_0",
        "model": "",
        "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}],
    },
    {
        "id": 3,
        "image": ["http://x.example/a.png", "coco/gone.jpg"],
        "conversations": [
            {"from": "human", "value": "First <image>\nthen <image>?"},
            {"from": "gpt", "value": "Two."},
        ],
    },
]


def test_llava_json_gives_turns_places_and_media(tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco/000000033471.jpg").write_bytes(b"jpeg")
    (tmp_path / "mix.json").write_text(json.dumps(LLAVA))
    one, two, three = rows_of(Instruct(path=str(tmp_path / "mix.json")))
    assert json.loads(one["messages"]) == [
        {"role": "user", "content": [IMAGE, text("What are the colors of the bus?")]},
        {"role": "assistant", "content": [text("White and red.")]},
    ]
    path = str(tmp_path / "coco/000000033471.jpg")
    assert json.loads(one["media_list"]) == [{"type": "image", "path": path, "size": 4}]
    assert (json.loads(two["media_list"]), places(json.loads(two["messages"]))) == ([], [])
    assert json.loads(three["messages"])[0]["content"] == [text("First "), IMAGE, text("then "), IMAGE, text("?")]
    assert json.loads(three["media_list"]) == [
        {"type": "image", "url": "http://x.example/a.png"},
        {"type": "image", "reason": "fetch.row_error"},
    ]
    assert "conversations" not in one


def test_messages_and_sharegpt_forms_give_the_same_messages(tmp_path: Path) -> None:
    url = "http://x.example/a.png"
    forms: list[dict[str, Any]] = [
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, text("What?")]},
                {"role": "assistant", "content": "A cat."},
            ]
        },
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [IMAGE, text("What?")]},
                {"role": "assistant", "content": [text("A cat.")]},
            ],
            "images": [url],
        },
        {
            "conversations": [{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "A cat."}],
            "system": "Be brief.",
            "images": [{"url": url}],
        },
    ]
    found = []
    for number, form in enumerate(forms):
        found += rows_of(Instruct(path=lines(tmp_path / f"{number}.jsonl", [form])))
    assert len({row["messages"] for row in found}) == len({row["media_list"] for row in found}) == 1
    assert [message["role"] for message in json.loads(found[0]["messages"])] == ["system", "user", "assistant"]


def test_media_of_all_types_come_in_the_order_of_their_places(tmp_path: Path) -> None:
    row = {
        "conversations": [{"from": "user", "value": "<audio> and <video> and <audio>"}],
        "audio": ["http://x.example/1.wav", "http://x.example/2.wav"],
        "video": "http://x.example/3.mp4",
    }
    (found,) = rows_of(Instruct(path=lines(tmp_path / "a.jsonl", [row])))
    media = json.loads(found["media_list"])
    assert [(medium["type"], medium["url"][-5:]) for medium in media] == [
        ("audio", "1.wav"),
        ("video", "3.mp4"),
        ("audio", "2.wav"),
    ]


@pytest.mark.parametrize(
    ("turns", "error"),
    [
        ([], "conversations: holds no turn"),
        (None, "conversations: found NoneType, allowed is a list"),
        (["hi"], "conversations[0]: found str, allowed is an object"),
        ([{"from": "alien", "value": "x"}], "conversations[0]: found role 'alien', allowed are system, human"),
        ([{"from": "gpt", "value": 5}], "conversations[0]: found int, allowed is text or a list of pieces"),
        (
            [{"from": "gpt", "value": [{"type": "smell"}]}],
            "conversations[0]: found {'type': 'smell'}, allowed",
        ),
    ],
)
def test_a_dialogue_that_is_none_is_a_row_with_the_reason(turns: Any, error: str, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [LLAVA[1], {"conversations": turns}])
    good, bad = rows_of(Instruct(path=path))
    assert "row_error" not in good
    assert bad["row_error"].startswith(error)


def test_tables_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"url": "http://x.example", "caption": "x"}])
    with pytest.raises(SourceError, match="found none of messages, conversations, conversation, but: url, caption"):
        rows_of(Instruct(path=path))
    with pytest.raises(SourceError, match="neither text_list and image_info"):
        rows_of(Interleaved(path=path))


@given(st.lists(st.sampled_from(["<image>", "<video>", "<audio>", "a", "\n", "<img>", " "]), max_size=8))
def test_splitting_keeps_every_place_and_all_text_but_line_ends_beside_places(parts: list[str]) -> None:
    said = "".join(parts)
    found = split(said)
    assert [piece["type"] for piece in found if piece["type"] != "text"] == [
        part[1:-1] for part in parts if part in ("<image>", "<video>", "<audio>")
    ]
    kept = "".join(piece.get("text", "") for piece in found)
    for place in ("<image>", "<video>", "<audio>"):
        said = said.replace(place, "")
    assert kept.replace("\n", "") == said.replace("\n", "")
    assert found


CONTENT = st.lists(st.sampled_from([IMAGE, {"type": "audio"}, text("a"), text(" ")]), min_size=1, max_size=5)


@given(contents=st.lists(CONTENT, max_size=4), data=st.data())
def test_taking_places_away_leaves_the_others_and_all_text(contents: list[Any], data: st.DataObject) -> None:
    messages = [{"role": "user", "content": content} for content in contents]
    here = places(messages)
    lost = data.draw(st.sets(st.integers(0, max(0, len(here) - 1)), max_size=len(here)))
    left = without_places(messages, lost)
    assert places(left) == [kind for place, kind in enumerate(here) if place not in lost]
    assert texts(left) == texts(messages)
    assert has_text(left) == has_text(messages) == any("a" in said for said in texts(messages))
    assert all(message["content"] for message in left)
    assert sum(1 for _ in pieces(messages)) == len(here) + len(texts(messages))
