"""What files of benchmarks promise: LLaVA, COCO captions and VQA are asked as they are; a bad row costs itself only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from mmdata.errors import ConfigError, SampleError
from mmdata.evaluate.evaluation import EvalOptions, evaluate
from mmdata.evaluate.question_files import of_file
from mmdata.evaluate.questions import Asked
from mmdata.train.pictures import decode_HWC
from mmdata.train.restore import Restored, restore
from tests.builders import jpeg, picture_HWC
from tests.train import shelf


@pytest.fixture(scope="module")
def model(learned: Path) -> Restored:
    return restore(str(learned))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight pictures, as the model has learned them."""
    for number in range(8):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number))
    return tmp_path


def written(path: Path, rows: Any) -> str:
    lines = path.suffix == ".jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows))
    return str(path)


def asked_of(path: str, model: Restored, *, questions: str = "", prompt: str = "") -> Asked:
    return of_file(path, "", questions, prompt, model.specs, 0, 0)


def test_llava_conversations_ask_for_each_answer(folder: Path, model: Restored) -> None:
    talk = [
        {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "picture w0"},
        {"from": "human", "value": "Sure?"}, {"from": "gpt", "value": "Yes."},
    ]  # fmt: skip
    rows = [
        {"id": "first", "image": "train/0.jpg", "conversations": talk},  # a flat folder will do
        {"id": "blind", "conversations": talk},
        {"id": "gone", "image": "9.jpg", "conversations": talk[:2]},
        {"id": "texts", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]},
        {"id": "alone", "conversations": talk[:1], "image": "0.jpg"},
        {"id": "odd", "conversations": ["What?"]},
    ]
    asked = asked_of(written(folder / "llava.json", rows), model)
    assert [question.key for question in asked.questions] == ["first#1", "first#3", "gone", "texts"]
    first, second, gone, texts = asked.questions
    assert [question.owner for question in (first, second, gone)] == ["train/0.jpg"] * 2 + ["9.jpg"]
    assert (first.form, first.modality, first.source, first.references) == ("answer", "image", "llava", ("picture w0",))
    assert second.kinds == (("image", 1),)
    assert second.read()["image"][0].parts[0][0] == "jpg"
    assert texts.read() == {}
    with pytest.raises(SampleError, match="no such file"):
        gone.read()
    reasons = {line["key"]: (line["reason"], line["detail"]) for line in asked.failed}
    assert reasons["blind"] == ("content.media_count", "1 media in the conversation, 0 beside it")
    assert reasons["alone"] == ("content.no_answer", "has no answer")
    assert reasons["odd"][0] == "content.unsupported"


def test_a_media_file_of_any_format_is_decoded_by_the_stages_and_kept_in_its_pixels(
    folder: Path, model: Restored
) -> None:
    pixels_HWC = picture_HWC(3)
    cv2.imwrite(str(folder / "x.png"), pixels_HWC[..., ::-1])
    (folder / "broken.jpg").write_bytes(b"GIF89a?")
    rows = [{"image": "x.png", "caption": "a"}, {"image": "broken.jpg", "caption": "b"}]
    picture, broken = asked_of(written(folder / "rows.json", rows), model).questions
    [(part, data)] = picture.read()["image"][0].parts
    assert part == "png"
    assert (decode_HWC(part, data, 8) == pixels_HWC).all()
    with pytest.raises(SampleError, match=r"broken\.jpg"):
        broken.read()


def test_coco_captions_are_all_references_of_their_picture(folder: Path, learned: Path) -> None:
    coco = {
        "images": [{"id": number, "file_name": f"{number}.jpg"} for number in (0, 1, 9)],
        "annotations": [
            *({"image_id": number, "caption": shelf.captioned(number, words=2).caption} for number in (0, 1, 9)),
            {"image_id": 0, "caption": "something else"},
        ],
    }
    told: list[str] = []
    path = written(folder / "captions_val.json", coco)
    metrics = evaluate(str(learned), [], EvalOptions(data=path, images=str(folder)), told.append)["after"]
    found = metrics["metrics"]["caption"]["all"]
    assert (found["samples"], found["exact_match"], found["rouge_l"]) == (2, 1, 1)
    assert metrics["failed"] == {"fetch.storage": 1}
    assert metrics["retrieval"]["image"]["texts"] == 3
    assert (learned / "eval" / "captions_val" / "answers.jsonl").is_file()
    assert any("1 fetch.storage" in line for line in told)


def test_rows_with_several_captions_or_answers_are_read_line_by_line(folder: Path, model: Restored) -> None:
    rows = [
        {"image": "0.jpg", "captions": ["one", "two"]},
        {"image": "1.jpg", "question": "Red?", "answers": ["yes", "no"], "question_id": 7},
        {"image": "1.jpg"},
    ]
    asked = asked_of(written(folder / "rows.jsonl", rows), model, prompt="In a word.")
    caption, question = asked.questions
    assert (caption.key, caption.form, caption.references) == ("0", "caption", ("one", "two"))
    assert (question.key, question.form, question.references) == ("7", "vqa", ("yes", "no"))
    assert question.turns[0].parts == (("image", ""), ("text", "\nRed?\nIn a word."))
    assert [line["detail"] for line in asked.failed] == ["has no caption, answer or conversation"]


def test_vqa_joins_its_two_files_and_scores_ten_answers(folder: Path, learned: Path) -> None:
    (folder / "COCO_val2014_000000000003.jpg").write_bytes(jpeg(3))
    answers = [{"answer": "Picture w1." if number < 3 else "no", "answer_id": number} for number in range(10)]
    notes = {"data_subtype": "val2014", "annotations": [{"question_id": 5, "image_id": 3, "answers": answers}]}
    texts = {"questions": [{"question_id": 5, "image_id": 3, "question": "What?"}]}
    path, other = written(folder / "annotations.json", notes), written(folder / "questions.json", texts)
    options = EvalOptions(data=path, images=str(folder), questions=other)
    found = evaluate(str(learned), [], options, lambda text: None)["after"]["metrics"]["vqa"]["all"]
    assert found == {"samples": 1, "vqa_accuracy": pytest.approx(0.9), "exact_match": 1}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "{", "is no JSON"),
        ("a.json", '{"x": 1}', "found dict; allowed are a list of objects"),
        ("a.json", "[1]", "allowed are a list of objects"),
        ("a.json", '{"annotations": [{"answers": []}]}', "give their file with --questions"),
        ("a.json", '{"annotations": [{"caption": "x"}], "images": []}', "KeyError 'image_id'"),
    ],
)
def test_a_file_of_another_shape_is_refused(folder: Path, model: Restored, name: str, text: str, said: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(ConfigError, match=said):
        asked_of(str(folder / name), model)
