"""`mmdata eval`: answers of a trained model to held-out questions, their metrics by source, and what lies in the run.

RUN/eval/<name>/answers.jsonl    a line a question: key, prompt, answer, references, scores; or the reason it has none
                metrics.json     overall, by source, retrieval, losses with and without media
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from mmdata.errors import ConfigError, SampleError
from mmdata.evaluate import blind, question_files, questions, text_metrics
from mmdata.evaluate.generate import Decoding, generate, prompt_of
from mmdata.evaluate.questions import Asked, Question
from mmdata.evaluate.retrieval import retrieve
from mmdata.evaluate.vqa import vqa_accuracy
from mmdata.shards import storage
from mmdata.train.restore import Restored, restore

_COLUMNS = ("bleu", "rouge_l", "cider_d", "vqa_accuracy", "exact_match", "word_error", "character_error")
_TOLD_EVERY = 200
_SUMS = {"word_error": "words", "character_error": "characters"}


@dataclass(frozen=True)
class EvalOptions:
    """data: a dataset or a file of questions; the run's own datasets where empty. images: folder of a file's media.

    name: of the folder of results. candidates: pictures to rank captions for by likelihood; 0: none.
    """

    data: str = ""
    images: str = ""
    questions: str = ""
    split: str = "val"
    prompt: str = ""
    name: str = ""
    max_samples: int = 0
    seed: int = 0
    batch_size: int = 8
    candidates: int = 0
    shuffle_media: bool = False
    blind: bool = False
    before: bool = False
    show: int = 0
    decoding: Decoding = field(default_factory=Decoding)


def evaluate(path: str, overrides: Sequence[str], options: EvalOptions, tell: Callable[[str], None]) -> dict[str, Any]:
    """Evaluate a checkpoint, and with `before` the state in which its training began; metrics by state.

    Raises ConfigError where the checkpoint, the data or the split is not there.
    """
    lines: dict[str, list[dict[str, Any]]] = {}
    metrics: dict[str, Any] = {}
    for trained in (False, True) if options.before else (True,):
        restored = restore(path, overrides, trained=trained)
        state = "after" if trained else "before"
        lines[state], metrics[state] = _evaluated(restored, options, tell)
        # Of a checkpoint that was asked for by its path, so that another one's results stay.
        own = f"-{restored.name}" if not trained or Path(path).resolve().name == restored.name else ""
        folder = restored.folder / "eval" / (_name(options) + own)
        _write(folder, lines[state], metrics[state])
        for text in (f"{restored.folder} {restored.name}", *table(metrics[state]), f"wrote {folder}", ""):
            tell(text)
    for text in examples(lines, options.show):
        tell(text)
    return metrics


def _evaluated(
    restored: Restored, options: EvalOptions, tell: Callable[[str], None]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    asked, entries = _asked(restored, options)
    given = questions.shuffled(asked.questions, options.seed) if options.shuffle_media else asked.questions
    lines = []
    for line in answers(restored, given, options):
        lines.append(line)
        if len(lines) % _TOLD_EVERY == 0:
            tell(f"{len(lines):,} of {len(given):,} asked")
    lines += asked.failed
    metrics: dict[str, Any] = {
        "checkpoint": restored.name, "options": asdict(options), "questions": len(given),
        "words": "small letters, not PTB tokenised",
        "failed": dict(Counter(line["reason"] for line in lines if "reason" in line)), **summaries(lines),
    }  # fmt: skip
    if restored.model.objectives.compares or options.candidates:
        limit = 0 if restored.model.objectives.compares else options.candidates
        told = [question for question in given if question.form in ("caption", "speech") and question.kinds]
        modalities = {name: [of for of in told if of.modality == name] for name in {of.modality for of in told}}
        metrics["retrieval"] = {
            name: retrieve(restored, questions.drawn(of, limit, options.seed))
            for name, of in sorted(modalities.items())
        }
    if options.blind:
        packs = blind.held_out_packs(restored, entries, options.max_samples, options.seed)
        metrics["blind"] = {"/".join(of): asdict(found) for of, found in blind.blind_losses(restored, packs).items()}
    return lines, metrics


def _asked(restored: Restored, options: EvalOptions) -> tuple[Asked, list[Any]]:
    if options.data and not storage.list_names(storage.join(options.data, "index")):
        if not storage.exists(options.data):
            raise ConfigError(f"{options.data}: there is no such file or dataset")
        if options.blind:
            raise ConfigError("--blind: needs a dataset, whose samples are packed as in training")
        found = question_files.of_file(
            options.data, options.images, options.questions, options.prompt, restored.specs, options.max_samples,
            options.seed,
        )  # fmt: skip
        return found, []
    prompts = [options.prompt] if options.prompt else []
    entries = questions.entries_of(restored.config, options.data, options.split, prompts)
    return questions.of_dataset(restored, entries, options.max_samples, options.seed), entries


def answers(restored: Restored, asked: Sequence[Question], options: EvalOptions) -> Iterator[dict[str, Any]]:
    """A line for each question, in their order but that failures of a batch come first."""
    for start in range(0, len(asked), options.batch_size):
        ready = []
        for question in asked[start : start + options.batch_size]:
            facts = {name: getattr(question, name) for name in ("key", "source", "modality", "form")}
            facts |= {"prompt": shown(question), "references": list(question.references)}
            try:
                media = question.read()
                ready.append((facts, prompt_of(question.key, question.turns, media, restored.chat, restored.specs)))
            except SampleError as error:
                yield {**facts, "reason": error.reason.value, "detail": error.detail[:200]}
        said = generate(restored, [prompt for _, prompt in ready], options.decoding) if ready else []
        for (facts, _), answer in zip(ready, said, strict=True):
            yield {**facts, "answer": answer}


def shown(question: Question) -> str:
    """The conversation as a line of text a turn."""
    turns = ("".join(text if kind == "text" else f"<{kind}>" for kind, text in turn.parts) for turn in question.turns)
    return "\n".join(f"{of.role}: {text}" for of, text in zip(question.turns, turns, strict=True))


def summaries(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over all answers of a form (caption, speech, vqa, answer) and by source; each line gets its `scores`."""
    found: dict[str, Any] = {}
    for form in dict.fromkeys(line["form"] for line in lines if "answer" in line):
        members = [line for line in lines if line.get("form") == form and "answer" in line]
        _score(form, members)
        groups: dict[str, list[dict[str, Any]]] = {}
        for line in members:
            groups.setdefault(f"{line['modality']}/{line['source']}", []).append(line)
        found[form] = {"all": _summary(form, members), **{name: _summary(form, of) for name, of in groups.items()}}
    return {"metrics": found}


def _score(form: str, lines: list[dict[str, Any]]) -> None:
    pairs = [(line["answer"], line["references"]) for line in lines]
    # How much an n-gram weighs in CIDEr-D depends on all references of the evaluation.
    ciders = text_metrics.cider_d(*zip(*pairs, strict=True)) if form == "caption" else []
    for number, (line, (answer, references)) in enumerate(zip(lines, pairs, strict=True)):
        scores: dict[str, float] = {"exact_match": text_metrics.exact_match(answer, references)}
        if form in ("caption", "answer"):
            scores["rouge_l"] = text_metrics.rouge_l(answer, references)
        if form == "caption":
            scores["cider_d"] = ciders[number]
        if form == "vqa":
            scores["vqa_accuracy"] = vqa_accuracy(answer, references)
        if form == "speech":
            scores["word_error"], scores["words"] = text_metrics.word_errors(answer, references[0])
            scores["character_error"], scores["characters"] = text_metrics.character_errors(answer, references[0])
        line["scores"] = scores


def _summary(form: str, lines: Sequence[dict[str, Any]]) -> dict[str, float]:
    summed = {name: sum(line["scores"][name] for line in lines) for name in lines[0]["scores"]}
    found: dict[str, float] = {"samples": len(lines)}
    if form in ("caption", "answer"):
        found["bleu"] = text_metrics.bleu([line["answer"] for line in lines], [line["references"] for line in lines])
    for name in _COLUMNS:
        if name in summed:
            # Error rates are of the whole corpus: a long transcript counts for more than a short one.
            found[name] = summed[name] / (max(1, summed[_SUMS[name]]) if name in _SUMS else len(lines))
    return found


def table(metrics: dict[str, Any]) -> Iterator[str]:
    """The metrics as lines for a terminal."""
    for form, groups in metrics["metrics"].items():
        columns = [name for name in _COLUMNS if name in groups["all"]]
        yield f"{form:30} {'samples':>8} " + " ".join(f"{name:>15}" for name in columns)
        for name, found in groups.items():
            if name == "all" or len(groups) > 2:
                yield f"  {name:28} {found['samples']:8} " + " ".join(f"{found[of]:15.3f}" for of in columns)
    for modality, found in metrics.get("retrieval", {}).items():
        yield f"{modality}: retrieval by {found['method']}, {found['media']} media, {found['texts']} texts"
        for way in ("media_to_text", "text_to_media"):
            yield f"  {way:28} " + "  ".join(f"{name} {value:.3f}" for name, value in found[way].items())
    for name, found in metrics.get("blind", {}).items():
        gained = found["blind_loss"] - found["loss"]
        yield f"loss {found['loss']:.4f}, with blank media {found['blind_loss']:.4f} ({gained:+.4f})  {name}"
    for reason, count in metrics["failed"].items():
        yield f"not asked: {count} {reason}"


def examples(lines: dict[str, list[dict[str, Any]]], show: int) -> Iterator[str]:
    """The first answers of every state below each other, with what would have been right."""
    keyed = {state: {line["key"]: line for line in of if "answer" in line} for state, of in lines.items()}
    for key, line in list(keyed["after"].items())[:show]:
        yield f"{key}  {line['prompt']!r}"
        for state, of in keyed.items():
            yield f"  {state:8} {of[key]['answer']!r}" if key in of else f"  {state:8} -"
        yield from (f"  right    {text!r}" for text in line["references"])


def _name(options: EvalOptions) -> str:
    data = Path(options.data).name.partition(".")[0]
    name = options.name or "-".join(filter(None, [data, options.split if not options.images else ""]))
    return name + ("-shuffled" if options.shuffle_media else "")


def _write(folder: Path, lines: Sequence[dict[str, Any]], metrics: dict[str, Any]) -> None:
    storage.write_whole(str(folder / "answers.jsonl"), b"".join(orjson.dumps(line) + b"\n" for line in lines))
    storage.write_whole(str(folder / "metrics.json"), orjson.dumps(metrics, option=orjson.OPT_INDENT_2) + b"\n")
