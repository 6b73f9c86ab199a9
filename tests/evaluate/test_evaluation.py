"""What `mmdata eval` promises: every question is answered or told of, metrics by source, controls."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mmdata.cli import app
from mmdata.errors import ConfigError
from mmdata.evaluate import retrieval
from mmdata.evaluate.blind import sample_losses
from mmdata.evaluate.evaluation import EvalOptions, evaluate, summaries, table
from mmdata.evaluate.questions import Question, entries_of, of_dataset, shuffled
from mmdata.train import checkpoint, engine, journal
from mmdata.train.collate import pack
from mmdata.train.restore import restore
from mmdata.train.samples import Prepared
from tests.train import shelf, tiny


def run(path: Path, *more: str) -> str:
    done = CliRunner().invoke(app, ["eval", str(path), *more])
    assert done.exit_code == 0, done.exception
    return done.stdout


def results(path: Path, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    folder = path / "eval" / name
    return json.loads((folder / "metrics.json").read_text()), journal.read(folder / "answers.jsonl")


def test_captions_known_by_heart_are_all_right_before_and_after(learned: Path) -> None:
    told = run(learned, "--before", "--show", "2")
    metrics, lines = results(learned, "val")
    assert metrics["metrics"]["caption"]["all"] == {
        "samples": 8, "bleu": 0, "rouge_l": 1, "cider_d": pytest.approx(5), "exact_match": 1,
    }  # fmt: skip  # captions of two words have no longer n-grams
    assert metrics["metrics"]["caption"]["image_text/made"] == metrics["metrics"]["caption"]["all"]
    assert metrics["failed"] == {"decode.corrupt": 1}
    assert len(lines) == 9
    assert {line["key"] for line in lines} == {f"made-{number:012d}" for number in (*range(8), 99)}
    [broken] = [line for line in lines if "answer" not in line]
    assert (broken["key"], broken["reason"]) == ("made-000000000099", "decode.corrupt")
    found = metrics["retrieval"]["image_text"]
    assert (found["method"], found["media"]) == ("embeddings", 8)
    assert found["media_to_text"]["recall@1"] > 0.8 < found["text_to_media"]["map"]
    earlier, _ = results(learned, "val-before")
    assert earlier["metrics"]["caption"]["all"]["exact_match"] == 0
    assert earlier["retrieval"]["image_text"]["text_to_media"]["map"] < 0.8
    shown = told[told.index("made-000000000000") :].splitlines()
    assert shown[1].startswith("  before   ")
    assert shown[2:4] == ["  after    'picture w0'", "  right    'picture w0'"]
    assert "not asked: 1 decode.corrupt" in told


def test_with_the_pictures_of_others_nothing_is_right(learned: Path) -> None:
    run(learned, "--shuffle-media")
    metrics, lines = results(learned, "val-shuffled")
    assert metrics["metrics"]["caption"]["all"]["exact_match"] == 0
    answered = {line["key"]: line["answer"] for line in lines if "answer" in line}
    assert sorted(answered.values()) == sorted(shelf.captioned(number, words=2).caption for number in range(8))
    assert metrics["failed"] == {"decode.corrupt": 1}
    assert "made-000000000099" in answered  # who is shown the broken picture is another one


def test_the_blind_probe_is_told_by_source(learned: Path) -> None:
    told = run(learned, "--blind", "--name", "seen", "--max-new-tokens", "1")
    [(place, found)] = results(learned, "seen")[0]["blind"].items()
    assert place == "image_text/made"
    assert found["blind_loss"] > found["loss"]
    assert f"{found['blind_loss']:.4f}" in told


def test_so_many_samples_are_drawn_by_the_seed(learned: Path) -> None:
    restored = restore(str(learned))
    entries = entries_of(restored.config, "", "val")
    keys = [[question.key for question in of_dataset(restored, entries, 3, seed).questions] for seed in (1, 1, 2)]
    assert keys[0] == keys[1] != keys[2]
    assert len(keys[0]) == 3
    run(learned, "--max-samples", "3", "--seed", "1", "--name", "few", "--batch-size", "2")
    assert [line["key"] for line in results(learned, "few")[1]] == keys[0]


def test_what_is_not_there_is_said(learned: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(ConfigError, match="neither a checkpoint nor a run folder"):
        evaluate(str(tmp_path), [], EvalOptions(), said.append)
    with pytest.raises(ConfigError, match=r"has no split 'test' in its index; emit\.val_share"):
        evaluate(str(learned), [], EvalOptions(split="test"), said.append)
    with pytest.raises(ConfigError, match="no such file or dataset"):
        evaluate(str(learned), [], EvalOptions(data=str(tmp_path / "none.json")), said.append)
    with pytest.raises(ConfigError, match=r"llm\.model: "):
        evaluate(str(learned), [f"llm.model={tmp_path}"], EvalOptions(), said.append)
    assert said == []


def told(prompt: Prepared, text: Prepared) -> Prepared:
    """A text's answer after the prompt of another sample."""
    start = next(place for place, label in enumerate(text.labels) if label >= 0)
    ids, labels = [*prompt.ids, *text.ids[start:]], [*prompt.labels, *text.labels[start:]]
    return replace(prompt, ids=ids, labels=labels)


def test_likelihoods_are_those_of_media_and_caption_read_together(learned: Path) -> None:
    restored = restore(str(learned), ["plan.tokens_per_pack=60"])  # two at once
    asked = of_dataset(restored, entries_of(restored.config, "", "train"), 3, 0).questions
    pairs = []
    for question in asked:
        prompt = retrieval.prompt_of(question.key, question.turns, question.read(), restored.chat, restored.specs)
        text = question.references[0] + " picture" * len(pairs)  # of different lengths
        pairs.append((prompt, [retrieval._answered(restored, question, prompt, text)]))
    assert len({len(text.ids) for _, [text] in pairs}) == 3
    found_NM = retrieval._likely(restored, pairs)
    for n, (prompt, _) in enumerate(pairs):
        for m, (_, [text]) in enumerate(pairs):
            real, blank = (
                sample_losses(restored, of)
                for of in (pack([told(prompt, text)]), retrieval.blinded(restored, pack([text])))
            )
            assert found_NM[n, m] == pytest.approx(float(blank - real), abs=1e-3)
    assert (np.argmax(found_NM, axis=1) == np.arange(3)).all()


def test_metrics_are_told_by_source_and_error_rates_are_of_the_corpus() -> None:
    facts = {"form": "speech", "modality": "audio_text"}
    lines = [
        {"source": "a", "answer": "one two three", "references": ["one two four"], **facts},
        {"source": "b", "answer": "five", "references": ["six"], **facts},
        {"source": "b", "reason": "decode.corrupt", **facts},
    ]
    found = summaries(lines)["metrics"]["speech"]
    assert found["all"]["word_error"] == 2 / 4
    assert found["audio_text/a"]["word_error"] == 1 / 3
    assert found["audio_text/b"] == {"samples": 1, "word_error": 1, "character_error": 1, "exact_match": 0}
    told = list(table({"metrics": {"speech": found}, "failed": {"decode.corrupt": 1}}))
    assert [line.split()[0] for line in told] == ["speech", "all", "audio_text/a", "audio_text/b", "not"]
    assert told[1].split() == ["all", "2", "0.000", "0.500", f"{8 / 13:.3f}"]


def test_without_a_loss_for_embeddings_so_many_candidates_are_ranked_by_likelihood(
    tiny_path: Path, tmp_path: Path
) -> None:
    config = tiny.config(tiny_path, str(tiny_path / "eight"), plan={"max_steps": 1}, machine={"folder": str(tmp_path)})
    folder = engine.train(config).folder
    told = run(folder, "--split", "train", "--candidates", "4", "--max-new-tokens", "2")
    assert "retrieval by likelihood, 4 media, 4 texts" in told
    assert "retrieval" not in run(folder, "--split", "train", "--max-new-tokens", "2")


def test_conversations_sounds_and_documents_are_asked_each_in_their_way(tiny_path: Path, tmp_path: Path) -> None:
    image = [{"type": "image"}]
    talked = [
        *shelf.asked([*image, shelf.text("What?")], "A cat."),
        *shelf.asked([*image, shelf.text("And this?")], "A dog."),
    ]
    parts = {"000.jpg": shelf.jpeg(1), "001.jpg": shelf.jpeg(2)}
    document = [{"role": "user", "content": [shelf.text("Once"), *image, shelf.text("upon")]}]
    root = tmp_path / "all"
    shelf.write(root, "instruct", [shelf.Written("talk-0", messages=talked, parts=parts, source="talks")], split="val")
    shelf.write(root, "interleaved", [shelf.Written("doc-0", messages=document, parts={"000.jpg": parts["000.jpg"]})],
                split="val")  # fmt: skip
    shelf.write(
        root, "audio_text",
        [shelf.Written(f"a-{n}", "one two", parts={"flac": shelf.flac(0.3, n)}, duration_s=0.3) for n in range(2)],
        split="val",
    )  # fmt: skip
    shelf.write(root, "image_text", [shelf.captioned(1)])
    data = [{"dataset": str(root), "modality": "image_text", "prompts": ["Look."]}]
    config = tiny.config(
        tiny_path, "", kinds=("image", "audio"), data=data, plan={"max_steps": 1}, machine={"folder": str(tmp_path)}
    )
    folder = engine.train(config).folder
    run(folder, "--data", str(root), "--max-new-tokens", "3", "--seed", "4")
    metrics, lines = results(folder, "all-val")
    by_key = {line["key"]: line for line in lines}
    assert set(by_key) == {"talk-0#1", "talk-0#3", "doc-0", "a-0", "a-1"}
    assert by_key["talk-0#1"]["prompt"] == "user: <image>What?"
    assert by_key["talk-0#3"]["prompt"] == "user: <image>What?\nassistant: A cat.\nuser: <image>And this?"
    assert by_key["talk-0#3"]["references"] == ["A dog."]
    assert by_key["doc-0"]["reason"] == "content.no_answer"
    assert set(metrics["metrics"]) == {"answer", "speech"}
    speech = metrics["metrics"]["speech"]["all"]
    scores = [by_key[key]["scores"] for key in ("a-0", "a-1")]
    assert speech["word_error"] == sum(of["word_error"] for of in scores) / 4
    assert speech["character_error"] == sum(of["character_error"] for of in scores) / 12


def test_shuffled_media_come_from_others_of_the_same_kinds(learned: Path) -> None:
    restored = restore(str(learned))
    questions = of_dataset(restored, entries_of(restored.config, "", "train"), 0, 0).questions
    own = {question.key: question.read()["image"][0].parts for question in questions}
    mixed = {question.key: question.read()["image"][0].parts for question in shuffled(questions, 3)}
    assert mixed.keys() == own.keys()
    assert all(mixed[key] != own[key] for key in own)
    assert sorted(map(str, mixed.values())) == sorted(map(str, own.values()))
    assert shuffled(questions[:1], 3) == []


@pytest.mark.parametrize("sizes", [(3, 2, 1), (3, 3), (5, 1, 1), (1, 1, 1, 1), (4,)])
def test_no_question_is_shuffled_to_media_of_its_own_owner(sizes: tuple[int, ...]) -> None:
    def seen(owner: int) -> Any:
        return lambda: {"image": [owner]}

    questions = [
        Question(f"{owner}#{number}", "", "", "answer", (), (), seen(owner), (("image", 1),), str(owner))
        for owner, size in enumerate(sizes)
        for number in range(size)
    ]
    for seed in range(5):
        mixed = shuffled(questions, seed)
        assert all(str(question.read()["image"][0]) != question.owner for question in mixed)
        assert len(mixed) == sum(sizes) - max(0, 2 * max(sizes) - sum(sizes))  # all that somebody else has media for


def test_results_of_a_checkpoint_lie_under_its_name(learned: Path) -> None:
    [newest] = checkpoint.checkpoints(learned / "checkpoints")
    run(newest, "--max-samples", "1", "--max-new-tokens", "1")
    assert results(learned, f"val-{newest.name}")[0]["checkpoint"] == newest.name


@pytest.mark.parametrize(
    "option", [("--batch-size", "0"), ("--max-samples", "-1"), ("--candidates", "-1"), ("--top-p", "1.5"),
               ("--max-new-tokens", "0")],
)  # fmt: skip
def test_options_out_of_bounds_are_refused(learned: Path, option: tuple[str, str]) -> None:
    assert CliRunner().invoke(app, ["eval", str(learned), *option]).exit_code == 2
