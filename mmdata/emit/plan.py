"""Which shards of the dataset every window of staged shards becomes: known beforehand, so windows need no order.

A window is a run of consecutive staged shards. Its kept samples are cut, by modality, split and set of parts, into
nearly equal shards; their numbers go on from window to window. So any window can be emitted by any task at any time,
and gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmdata.config import EmitOptions
from mmdata.emit.augment import is_derived
from mmdata.emit.layout import LAYOUTS
from mmdata.options import ROLES, values_of
from mmdata.select.counts import SelectionCounts, schema_of_text, schema_text
from mmdata.select.rules import Rule
from mmdata.shards import ledger, storage
from mmdata.stage import Stage

NOT_SCORES = {"key", "status", "reason", "detail"}  # what a table of scores has beside its columns


@dataclass(frozen=True)
class StagedShard:
    """Where one shard of a run lies; scores by scorer, in the order of the pipeline file."""

    shard: int
    staged: str
    ledger: str
    selection: str
    scores: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """The shards that one modality, split and set of parts of a window becomes: numbers from `first_shard` on.

    parts: as in the ledger, so that all samples of a shard have the same. sizes: samples of each shard.
    """

    modality: str
    split: str
    parts: str
    first_shard: int
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class WindowJob:
    """All that a task needs to emit one window: paths, numbers and options. Small, and JSON both ways."""

    window: int
    seed: int
    formats: tuple[str, ...]
    shards: tuple[StagedShard, ...]
    outputs: tuple[Output, ...]
    own: dict[str, str]  # by modality, schema of the source's own columns over the whole run, as text
    scores: dict[str, str]  # by scorer, schema of its number and text columns over the whole run, as text
    added: dict[str, str]  # by modality, schema of the columns that rules of selection have added, as text
    annotations: dict[str, list[str]]  # by modality, ledger columns that the stages of the run add to the fixed ones
    media: dict[str, list[str]]  # by modality, media columns of Parquet shards over the whole run
    augment: dict[str, dict[str, Any]]  # kind to options, for copies of repeated samples
    derived: tuple[tuple[str, dict[str, Any]], ...]  # `module:Class` and options of stages that copies go through again

    @property
    def fingerprint(self) -> str:
        """Hash of what the window must become, without places; for the commit record."""
        tree = {**asdict(self), "shards": [shard.shard for shard in self.shards]}
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()

    def own_schema(self, modality: str) -> pa.Schema:
        return schema_of_text(self.own[modality]) if modality in self.own else pa.schema([])

    def added_schema(self, modality: str) -> pa.Schema:
        return schema_of_text(self.added[modality]) if modality in self.added else pa.schema([])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WindowJob:
        return cls(
            data["window"],
            data["seed"],
            tuple(data["formats"]),
            tuple(StagedShard(**shard) for shard in data["shards"]),
            tuple(Output(**{**output, "sizes": tuple(output["sizes"])}) for output in data["outputs"]),
            dict(data["own"]),
            dict(data["scores"]),
            dict(data["added"]),
            {modality: list(names) for modality, names in data["annotations"].items()},
            {modality: list(names) for modality, names in data["media"].items()},
            dict(data["augment"]),
            tuple((place, dict(values)) for place, values in data["derived"]),
        )


def plan_windows(
    shards: Sequence[StagedShard],
    counts: SelectionCounts,
    options: EmitOptions,
    *,
    seed: int,
    stages: Sequence[Stage] = (),
    rules: Sequence[Rule] = (),
) -> list[WindowJob]:
    """One job a window, in order; one of which nothing is kept has no outputs. `shards` in order of their numbers.

    stages, rules: those of the run; what they annotate and add is in the dataset.
    """
    own = {modality: schema_text(schema) for modality, schema in sorted(counts.own.items())}
    scores, vectors = score_schemas(shards)
    added = added_of(rules, vectors, shards, counts)
    annotations, derived = annotations_of(stages), derived_of(stages)
    augment = {kind: dict(values or {}) for kind, values in options.augment.items()}
    parts_of: dict[str, set[str]] = {}
    for kept in counts.kept:
        parts_of.setdefault(kept.modality, set()).update(kept.parts.split())
    media = {modality: LAYOUTS[modality].columns_for(parts) for modality, parts in sorted(parts_of.items())}
    by_shard: dict[int, Counter[tuple[str, str, str]]] = {}
    for kept in counts.kept:
        by_shard.setdefault(kept.shard, Counter())[kept.modality, kept.split, kept.parts] += kept.samples
    next_shard: Counter[tuple[str, str]] = Counter()
    jobs: list[WindowJob] = []
    for start in range(0, len(shards), options.window_shards):
        window = tuple(shards[start : start + options.window_shards])
        samples: Counter[tuple[str, str, str]] = Counter()
        for shard in window:
            samples.update(by_shard.get(shard.shard, {}))
        outputs = []
        for (modality, split, parts), number in sorted(samples.items()):
            sizes = cut(number, options.samples_per_shard)
            outputs.append(Output(modality, split, parts, next_shard[modality, split], sizes))
            next_shard[modality, split] += len(sizes)
        what = tuple(options.formats), window, tuple(outputs)
        jobs.append(WindowJob(len(jobs), seed, *what, own, scores, added, annotations, media, augment, derived))
    return jobs


def score_schemas(shards: Iterable[StagedShard]) -> tuple[dict[str, str], dict[str, set[str]]]:
    """By scorer, schema of the columns that are numbers or text; and names of the others, which are embeddings.

    A shard of which nothing could be scored says no type; so files are read until each column has one.
    """
    found: dict[str, dict[str, pa.DataType]] = {}
    for shard in shards:
        for scorer, path in shard.scores.items():
            types = found.get(scorer)
            if types is None or any(pa.types.is_null(kind) for kind in types.values()):
                with storage.open_input(path) as file:
                    here = {field.name: field.type for field in pq.read_schema(file) if field.name not in NOT_SCORES}
                found[scorer] = here | {n: kind for n, kind in (types or {}).items() if not pa.types.is_null(kind)}
    plain = {
        scorer: pa.schema([(n, _number(kind)) for n, kind in types.items() if not pa.types.is_nested(kind)])
        for scorer, types in sorted(found.items())
    }
    vectors = {scorer: set(types) - set(plain[scorer].names) for scorer, types in found.items()}
    return {scorer: schema_text(schema) for scorer, schema in plain.items()}, vectors


def _number(kind: pa.DataType) -> pa.DataType:
    """A column that is null in the whole run is a number."""
    return pa.float32() if pa.types.is_null(kind) else kind


def added_of(
    rules: Iterable[Rule],
    vectors: Mapping[str, Collection[str]],
    shards: Iterable[StagedShard],
    counts: SelectionCounts,
) -> dict[str, str]:
    """By modality, schema of the columns that rules add to it; what a modality has no embedding for is not added.

    vectors: columns of embeddings, by scorer.
    """
    modality_of = {kept.shard: kept.modality for kept in counts.kept}
    has: dict[str, set[str]] = {}
    for shard in shards:
        if shard.shard in modality_of:
            for scorer in shard.scores:
                names = vectors[scorer]
                has.setdefault(modality_of[shard.shard], set()).update(names, (f"{scorer}.{name}" for name in names))
    found: dict[str, dict[str, pa.DataType]] = {}
    for needs in (rule.needs() for rule in rules):
        for modality in set(modality_of.values()):
            if needs.adds and needs.vectors <= has.get(modality, set()):
                found.setdefault(modality, {}).update(needs.adds)
    return {modality: schema_text(pa.schema(list(types.items()))) for modality, types in sorted(found.items())}


def annotations_of(stages: Iterable[Stage]) -> dict[str, list[str]]:
    """By modality, what these stages write of ledger.ANNOTATIONS, in the order of that list."""
    written: dict[str, set[str]] = {}
    for stage in stages:
        for modality in stage.modalities:
            fixed = ledger.BY_MODALITY[modality].names
            written.setdefault(modality, set()).update(name for name in stage.writes if name not in fixed)
    ordered = {m: [name for name in ledger.ANNOTATIONS if name in names] for m, names in sorted(written.items())}
    return {modality: names for modality, names in ordered.items() if names}


def derived_of(stages: Iterable[Stage]) -> tuple[tuple[str, dict[str, Any]], ...]:
    """`module:Class` and options of the stages that compute features from sound, or tokens from captions."""
    return tuple(
        (f"{type(stage).__module__}:{type(stage).__qualname__}", values_of(stage, *ROLES))
        for stage in stages
        if is_derived(stage)
    )


def cut(samples: int, samples_per_shard: int) -> tuple[int, ...]:
    """Sizes of max(1, round(samples / samples_per_shard)) shards that differ by one at most; none for no samples."""
    if samples == 0:
        return ()
    shards = max(1, (2 * samples + samples_per_shard) // (2 * samples_per_shard))
    small, larger = divmod(samples, shards)
    return (small + 1,) * larger + (small,) * (shards - larger)
