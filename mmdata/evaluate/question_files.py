"""Questions from files that benchmarks come in, with a folder of media.

LLaVA      JSON list or JSONL: {image: a.jpg, conversations: [{from: human, value: "<image>..."}, {from: gpt, ...}]}
           or {messages: [{role, content}], images: [...]}; video(s) and audio(s) as well
captions   COCO's annotations {images, annotations: [{image_id, caption}]}, or rows {image, captions: [...]}
VQA        {annotations: [{question_id, image_id, answers}]} and a file of its questions, or rows
           {image, question, answers: [...]}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import orjson

from mmdata.errors import ConfigError, MmdataError, Reason, SampleError
from mmdata.evaluate.media_files import medium_of
from mmdata.evaluate.questions import Asked, Form, Media, Question, drawn, questions_in
from mmdata.shards import storage
from mmdata.train.chat import caption_turns, turns_of
from mmdata.train.media import MediaSpec
from mmdata.train.sections import KINDS, Kind

_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
_SHAPES = "allowed are a list of objects, JSONL, COCO's captions, VQA's annotations"
Row = Mapping[str, Any]


def of_file(
    path: str, folder: str, questions: str, prompt: str, specs: Mapping[Kind, MediaSpec], max_samples: int, seed: int
) -> Asked:
    """Questions of a file; folder: of its media, the file's own where empty. questions: VQA's second file.

    prompt: asked of pictures that have captions, and said after a question of VQA. Raises ConfigError for other shapes.
    """
    try:
        rows = list(_rows(path, questions))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {type(error).__name__} {error}; {_SHAPES}") from error
    folder = folder or path.rpartition("/")[0] or "."
    source = PurePosixPath(path).name.partition(".")[0]
    asked = Asked()
    for number, row in drawn(list(enumerate(rows)), max_samples, seed):
        key = str(row.get("id") or row.get("question_id") or row.get("key") or number)
        try:
            asked.questions += questions_in(_question(key, source, row, folder, prompt, specs))
        except SampleError as error:
            asked.fail(key, source, "file", error)
    return asked


def _question(key: str, source: str, row: Row, folder: str, prompt: str, specs: Mapping[Kind, MediaSpec]) -> Question:
    paths = {kind: _listed(row.get(kind) or row.get(f"{kind}s")) for kind in KINDS}
    kinds = [kind for kind in KINDS for _ in paths[kind]]
    references: tuple[str, ...] = ()
    form: Form = "answer"
    if "conversations" in row or "messages" in row:
        turns = turns_of([_message(message) for message in _listed(row.get("conversations") or row.get("messages"))])
        told = sum(part != "text" for turn in turns for part, _ in turn.parts)
        if told != len(kinds):
            raise SampleError(Reason.MEDIA_COUNT, f"{told} media in the conversation, {len(kinds)} beside it")
    elif "question" in row:
        form, references = "vqa", tuple(_answer(of) for of in _listed(row.get("answers") or row.get("answer")))
        turns = caption_turns(kinds, "\n".join(filter(None, [str(row["question"]), prompt])), "")
    else:
        references = tuple(map(str, _listed(row.get("captions") or row.get("caption"))))
        form = "speech" if kinds == ["audio"] else "caption"
        turns = caption_turns(kinds, prompt, "")
    if form != "answer" and not references:
        raise SampleError(Reason.NO_ANSWER, "has no caption, answer or conversation")
    modality = "+".join(dict.fromkeys(kinds)) or "text"

    def read() -> Media:
        missing = [kind for kind in kinds if kind not in specs]
        if missing:
            raise SampleError(Reason.UNSUPPORTED, f"the model has no encoder for {missing[0]}")
        return {kind: [medium_of(_found(folder, path), specs[kind]) for path in paths[kind]] for kind in set(kinds)}

    owner = "\n".join(str(path) for kind in kinds for path in paths[kind])
    return Question(key, source, modality, form, tuple(turns), references, read, owner=owner)


def _message(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise SampleError(Reason.UNSUPPORTED, f"message {message!r}"[:80])
    role = message.get("role", message.get("from"))
    return {"role": _ROLES.get(str(role), role), "content": message.get("content", message.get("value"))}


def _answer(answer: Any) -> str:
    return str(answer.get("answer", "")) if isinstance(answer, dict) else str(answer)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _found(folder: str, name: Any) -> str:
    """Where a medium lies: below the folder, by its name alone where the folder is flat."""
    path = storage.join(folder, str(name))
    flat = storage.join(folder, str(name).rpartition("/")[2])
    return flat if not storage.exists(path) and storage.exists(flat) else path


def _rows(path: str, questions: str) -> Iterator[Row]:
    whole = _read(path)
    if isinstance(whole, dict) and isinstance(whole.get("annotations"), list):
        first: Row = next(iter(whole["annotations"]), {})
        yield from _vqa(whole, _read(questions) if questions else whole, path) if "answers" in first else _coco(whole)
        return
    if not isinstance(whole, list) or not all(isinstance(row, dict) for row in whole):
        raise ConfigError(f"{path}: found {type(whole).__name__}; {_SHAPES}")
    yield from whole


def _coco(whole: Row) -> Iterator[Row]:
    captions: dict[Any, list[str]] = {}
    for annotation in whole["annotations"]:
        captions.setdefault(annotation["image_id"], []).append(str(annotation["caption"]))
    for image in whole.get("images", []):
        yield {"id": image["id"], "image": image["file_name"], "captions": captions.get(image["id"], [])}


def _vqa(annotations: Row, questions: Row, path: str) -> Iterator[Row]:
    texts = {row["question_id"]: row for row in questions.get("questions", [])}
    if not texts:
        raise ConfigError(f"{path}: has answers and no questions; give their file with --questions")
    subset = annotations.get("data_subtype", "")
    for row in annotations["annotations"]:
        name = row.get("image") or f"COCO_{subset}_{int(row['image_id']):012d}.jpg"
        question = texts.get(row["question_id"], {}).get("question", "")
        yield {"id": row["question_id"], "image": name, "question": question, "answers": row["answers"]}


def _read(path: str) -> Any:
    try:
        data = storage.read_bytes(path)
    except (OSError, MmdataError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    parse: Callable[[bytes], Any] = orjson.loads
    try:
        if path.endswith((".jsonl", ".ndjson")):
            return [parse(line) for line in data.splitlines() if line.strip()]
        return parse(data)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{path}: is no JSON: {error}") from error
