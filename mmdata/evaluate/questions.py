"""What a model is asked in evaluation: conversations up to an answer, with what would have been right.

Of a captioned sample the caption is the answer; of a conversation every answer is one, with all before it as it was.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from mmdata.errors import ConfigError, Reason, SampleError
from mmdata.shards import storage
from mmdata.train.augment import AugmentOptions
from mmdata.train.chat import Turn
from mmdata.train.config import TrainConfig
from mmdata.train.media import Medium
from mmdata.train.records import Record
from mmdata.train.restore import Restored
from mmdata.train.samples import SampleLoader
from mmdata.train.sections import KINDS, DataOptions, Kind

Form = Literal["caption", "speech", "vqa", "answer"]  # which metrics an answer is held against
Media = dict[Kind, list[Medium]]
T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """turns: up to the answer. read: gives its media, decoded later; may raise SampleError. kinds: how many of each.

    owner: whose media they are, the same for all questions that see them.
    """

    key: str
    source: str
    modality: str
    form: Form
    turns: tuple[Turn, ...]
    references: tuple[str, ...]
    read: Callable[[], Media]
    kinds: tuple[tuple[Kind, int], ...] = ()
    owner: str = ""


@dataclass
class Asked:
    """Questions, and what cannot be asked as lines with key, reason and detail."""

    questions: list[Question] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)

    def fail(self, key: str, source: str, modality: str, error: SampleError) -> None:
        facts = {"reason": error.reason.value, "detail": error.detail[:200]}
        self.failed.append({"key": key, "source": source, "modality": modality, **facts})


def entries_of(config: TrainConfig, dataset: str, split: str, prompts: Sequence[str] = ()) -> list[DataOptions]:
    """The split of the run's own data, or of another dataset: entries that there are and that have an encoder.

    Captions are asked for by `prompts`, else by those of the run's first entry of that modality. Raises ConfigError
    where nothing is found.
    """
    asked = {entry.modality: entry.prompts for entry in reversed(config.data)}
    places = [(dataset, name) for name in asked] if dataset else [(of.dataset, of.modality) for of in config.data]
    if dataset:
        places += [(dataset, name) for name in storage.list_names(storage.join(dataset, "index")) if name not in asked]
    found = [
        DataOptions(dataset=root, modality=name, split=split, prompts=list(prompts) or asked.get(name, []))
        for root, name in dict.fromkeys(places)
        if storage.list_names(storage.join(root, f"index/{name}/{split}"))
    ]
    if not found:
        where = ", ".join(dict.fromkeys(root for root, _ in places))
        remedy = "emit.val_share makes a val split; --split names another"
        raise ConfigError(f"{where}: has no split {split!r} in its index; {remedy}")
    return found


def of_dataset(restored: Restored, entries: Sequence[DataOptions], max_samples: int, seed: int) -> Asked:
    """Questions of entries; max_samples: so many samples of all of them, drawn by the seed, 0 for all."""
    config = restored.config
    loader = SampleLoader(entries, restored.chat, restored.specs, AugmentOptions(), config.seed, 1 << 40)
    places = [
        (entry, shard, row)
        for entry in range(len(entries))
        for shard in loader.reader(entry).shards
        for row in range(loader.reader(entry).index(shard).num_rows)
    ]
    asked = Asked()
    for entry, shard, row in drawn(places, max_samples, seed):
        options, reader = entries[entry], loader.reader(entry)
        key, source = (str(reader.index(shard)[name][row].as_py() or "") for name in ("key", "source"))
        try:
            record = reader.read(shard, row, media=False)
            turns = loader.turns(options, record)
            kinds = list(loader.usable(record)) if record.messages is None else list(KINDS)
            form: Form = "answer" if record.messages is not None else "caption"
            if options.modality == "audio_text":
                form = "speech"
            read = _reader(reader.read, shard, row, kinds)
            asked.questions += questions_in(Question(key, source, options.modality, form, tuple(turns), (), read))
        except SampleError as error:
            asked.fail(key, source, options.modality, error)
    return asked


def _reader(read: Callable[[int, int], Record], shard: int, row: int, kinds: Sequence[Kind]) -> Callable[[], Media]:
    return lambda: {kind: media for kind, media in read(shard, row).media.items() if kind in kinds}


def drawn(places: Sequence[T], max_samples: int, seed: int) -> list[T]:
    """At most so many of them, by the seed, in their order; all for 0."""
    if not max_samples or max_samples >= len(places):
        return list(places)
    return [places[number] for number in sorted(random.Random(seed).sample(range(len(places)), max_samples))]


def questions_in(whole: Question) -> list[Question]:
    """A question for each answer in the turns of `whole`, whose references are taken where it brings some.

    Raises SampleError where nobody asks, as in a document.
    """
    answers = [number for number, turn in enumerate(whole.turns) if turn.role == "assistant"]
    if not answers or not any(turn.role == "user" for turn in whole.turns):
        raise SampleError(Reason.NO_ANSWER, "nobody asks" if answers else "has no answer")
    found = []
    for number in answers:
        before = whole.turns[:number]
        counts = Counter(kind for turn in before for kind, _ in turn.parts if kind != "text")
        kinds = tuple((kind, counts[kind]) for kind in KINDS if counts[kind])
        said = "".join(text for _, text in whole.turns[number].parts)
        key = whole.key if len(answers) == 1 else f"{whole.key}#{number}"
        read = _first(whole.read, kinds)
        references = whole.references or (said,)
        question = replace(whole, key=key, turns=before, references=references, read=read, kinds=kinds)
        found.append(replace(question, owner=whole.owner or whole.key))
    return found


def _first(read: Callable[[], Media], kinds: Sequence[tuple[Kind, int]]) -> Callable[[], Media]:
    """The media that are told of before an answer."""

    def some() -> Media:
        media = read()
        for kind, count in kinds:
            if len(media.get(kind, [])) < count:
                raise SampleError(Reason.MEDIA_COUNT, f"{count} {kind} are told of, {len(media.get(kind, []))} there")
        return {kind: media[kind][:count] for kind, count in kinds}

    return some


def shuffled(questions: Iterable[Question], seed: int) -> list[Question]:
    """Each question with the media of another owner that has as many of each kind; left out where there is none."""
    alike: dict[tuple[tuple[Kind, int], ...], dict[str, list[Question]]] = {}
    for question in questions:
        if question.kinds:
            alike.setdefault(question.kinds, {}).setdefault(question.owner or question.key, []).append(question)
    found = []
    for owners in alike.values():
        groups = list(owners.values())
        random.Random(seed).shuffle(groups)
        # Of an owner of more than half of the questions, as many are asked as others have media for.
        others = sum(map(len, groups)) - max(map(len, groups))
        members = [question for group in groups for question in group[:others]]
        # Questions of one owner stand together, so further on by the longest such row is somebody else's.
        step = max(len(group[:others]) for group in groups)
        turned = members[step:] + members[:step]
        found += [replace(own, read=other.read) for own, other in zip(members, turned, strict=True)]
    return sorted(found, key=lambda question: question.key)
