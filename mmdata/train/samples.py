"""One sample of a dataset to ids, labels and decoded media; and, without its media, how long it will be."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from mmdata.errors import Reason, SampleError
from mmdata.sample import IMAGE_PARTS
from mmdata.train import augment
from mmdata.train.chat import IGNORE, Chat, Encoded, Turn, caption_turns, turns_of
from mmdata.train.media import SAMPLE_RATE_HZ, Item, MediaSpec, Medium, items_of
from mmdata.train.records import Record, ShardReader
from mmdata.train.sections import KINDS, DataOptions, Kind

_UNVARIED = augment.AugmentOptions()


class Place(NamedTuple):
    """Where a sample lies: entry of `data`, shard, row."""

    entry: int
    shard: int
    row: int


@dataclass
class Prepared:
    """A sample ready to be packed. media: for each kind, the items of each medium in order of appearance."""

    key: str
    source: str
    modality: str
    ids: list[int]
    labels: list[int]
    media: dict[Kind, list[list[Item]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # spent on read, decode and encode


@dataclass
class Draft:
    """A sample on its way to Prepared; error: why it does not get there."""

    place: Place
    options: DataOptions
    record: Record = field(init=False)
    usable: dict[Kind, list[Medium]] = field(default_factory=dict)  # media that an encoder takes
    media: dict[Kind, list[list[Item]]] = field(default_factory=dict)
    encoded: Encoded = field(init=False)
    seconds: dict[str, float] = field(default_factory=dict)
    error: SampleError | None = None

    def prepared(self) -> Prepared:
        record, encoded = self.record, self.encoded
        modality = self.options.modality
        return Prepared(record.key, record.source, modality, encoded.ids, encoded.labels, self.media, self.seconds)


@dataclass(frozen=True)
class Measure:
    """What a sample takes in a pack: all tokens, those of media, and those that are learned."""

    tokens: int
    media_tokens: int
    labels: int


class SampleLoader:
    """Reads samples of the entries of `data`. Made for one run; travels to workers, which open files of their own."""

    def __init__(
        self,
        data: Sequence[DataOptions],
        chat: Chat,
        specs: Mapping[Kind, MediaSpec],
        varied: augment.AugmentOptions,
        seed: int,
        max_tokens: int,
    ) -> None:
        self.data, self.chat, self.specs = list(data), chat, dict(specs)
        self.varied, self.seed, self.max_tokens = varied, seed, max_tokens
        self._readers: dict[int, ShardReader] = {}
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": {}}

    def reader(self, entry: int) -> ShardReader:
        """The reader of entry number `entry`, opened when first asked for.

        A forked process opens its own: it would share the place in an open file with its parent and all its siblings.
        """
        if self._process != os.getpid():
            self._readers, self._process = {}, os.getpid()
        if entry not in self._readers:
            options = self.data[entry]
            self._readers[entry] = ShardReader(options.dataset, options.modality, options.split)
        return self._readers[entry]

    def load(self, entry: int, shard: int, row: int, epoch: int) -> Prepared:
        """One sample, decoded and varied as this epoch draws. Raises SampleError where it cannot be used."""
        (found,) = self.load_all([Place(entry, shard, row)], epoch)
        if isinstance(found, SampleError):
            raise found
        return found

    def load_all(self, places: Sequence[Place], epoch: int) -> list[Prepared | SampleError]:
        """Samples, or why one cannot be used, in the order given.

        One kind of work follows the other, each for all samples, so that its code and tables stay in the processor's
        caches.
        """
        drafts = [Draft(place, self.data[place.entry]) for place in places]
        _each(drafts, "read", self._read)
        rooms = self._rooms(drafts)
        _each(drafts, "decode", lambda draft: self._decode(draft, epoch, rooms))
        _each(drafts, "encode", self._encode)
        return [draft.error or draft.prepared() for draft in drafts]

    def _read(self, draft: Draft) -> None:
        draft.record = self.reader(draft.place.entry).read(draft.place.shard, draft.place.row)
        draft.usable = self.usable(draft.record)

    def _rooms(self, drafts: Sequence[Draft]) -> dict[Kind, Iterator[np.ndarray]]:
        """For each kind that is pixels, arrays side by side for all that these samples may have."""
        rooms = {}
        for kind, spec in self.specs.items():
            most = sum(len(draft.usable.get(kind, ())) for draft in drafts) * (spec.frames if kind == "video" else 1)
            if spec.takes == "pixels" and most:
                rooms[kind] = iter(np.empty((most, spec.side_px, spec.side_px, 3), np.uint8))
        return rooms

    def _decode(self, draft: Draft, epoch: int, rooms: Mapping[Kind, Iterator[np.ndarray]]) -> None:
        varied = self.varied if self.varied != _UNVARIED else None
        for kind, found in draft.usable.items():
            for number, medium in enumerate(found):
                rng = augment.rng_of(self.seed, epoch, draft.record.key, kind, number) if varied else None
                items = items_of(medium, self.specs[kind], varied, rng, rooms.get(kind))
                draft.media.setdefault(kind, []).append(items)

    def _encode(self, draft: Draft) -> None:
        features = {kind: [sum(item.tokens for item in items) for items in of] for kind, of in draft.media.items()}
        draft.encoded = self.chat.encode(self.turns(draft.options, draft.record), features, self.max_tokens)

    def measure(self, entry: int, shard: int, row: int) -> Measure:
        """How long the sample will be, from its texts and the index. Raises SampleError where it cannot be used."""
        encoded, features = self.outline(entry, shard, row)
        labels = sum(label != IGNORE for label in encoded.labels[1:])
        return Measure(len(encoded.ids), sum(sum(counts) for counts in features.values()), labels)

    def outline(self, entry: int, shard: int, row: int) -> tuple[Encoded, dict[Kind, list[int]]]:
        """Ids and labels of a sample, and features of its media, without reading these."""
        reader = self.reader(entry)
        record = reader.read(shard, row, media=False)
        duration_s = reader.index(shard)["duration_s"][row].as_py()
        features = {
            kind: [self.features(medium, duration_s) for medium in found] for kind, found in self.usable(record).items()
        }
        return self.chat.encode(self.turns(self.data[entry], record), features, self.max_tokens), features

    def features(self, medium: Medium, duration_s: float | None) -> int:
        """Tokens a medium will have at most; of a sound without a known duration, those of one window."""
        spec = self.specs[medium.kind]
        if medium.kind == "audio":
            if not duration_s:
                return spec.sound_tokens(spec.window_samples)
            longest_s = augment.longest_s(self.varied, duration_s)
            return spec.sound_tokens(math.ceil(longest_s * SAMPLE_RATE_HZ))
        frames = sum(part in IMAGE_PARTS for part, _ in medium.parts) or spec.frames
        return min(frames, spec.frames if medium.kind == "video" else 1) * spec.tokens(spec.features)

    def usable(self, record: Record) -> dict[Kind, list[Medium]]:
        """Media that an encoder takes. A captioned sample may have others beside them; a conversation needs all."""
        usable = {kind: record.media[kind] for kind in KINDS if kind in record.media and kind in self.specs}
        if record.media and not usable:
            raise SampleError(Reason.UNSUPPORTED, f"no encoder for its media: {', '.join(record.media)}")
        return usable

    def turns(self, options: DataOptions, record: Record) -> list[Turn]:
        """The sample as a conversation; which of the prompts a caption answers follows from its key."""
        if record.messages is None:
            prompts = options.prompts or [""]
            prompt = prompts[0]
            if len(prompts) > 1:
                prompt = prompts[int(augment.rng_of(self.seed, record.key, "prompt").integers(len(prompts)))]
            kinds = [kind for kind, found in self.usable(record).items() for _ in found]
            return caption_turns(kinds, prompt, record.caption)
        turns = turns_of(record.messages)
        if not any(turn.role == "assistant" for turn in turns):
            # A document: nobody asks, so all of its text is learned.
            turns = [turn._replace(role="assistant") for turn in turns]
        return turns


def _each(drafts: Sequence[Draft], name: str, work: Callable[[Draft], None]) -> None:
    """Do one kind of work for every sample that has come so far."""
    for draft in drafts:
        if draft.error is None:
            begun = time.perf_counter()
            try:
                work(draft)
            except SampleError as error:
                draft.error = error
            draft.seconds[name] = time.perf_counter() - begun
