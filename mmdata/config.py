"""The pipeline file: its sections as option classes, reading it with overrides, messages that name the place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import annotated_types as at

from mmdata.augment import AUGMENTS
from mmdata.errors import ConfigError
from mmdata.options import build, nearest, operational, outcome, semantic, values_of
from mmdata.overrides import apply_override
from mmdata.sample import is_source_name
from mmdata.yaml_file import read_yaml, rules_of

Positive = Annotated[int, at.Ge(1)]
Share = Annotated[float, at.Ge(0), at.Le(1)]
Seconds = Annotated[float, at.Gt(0)]
SECTIONS = ("name", "seed", "sources", "plan", "fetch", "stages", "score", "select", "emit", "run", "notes")


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How rows become shards of work."""

    rows_per_shard: Positive = semantic(10_000)
    # Rows change places only within a window of this many shards, so a plan of any size is made in one pass.
    shuffle_window_shards: Positive = semantic(16)
    shuffle: bool = semantic(True)


@dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """How links become bytes."""

    engine: Literal["native", "img2dataset"] = semantic("native")
    timeout_s: Seconds = outcome(20.0)  # the whole request, redirects included
    connect_timeout_s: Seconds = outcome(5.0)
    first_byte_timeout_s: Seconds = outcome(10.0)
    min_bytes_per_s: Annotated[int, at.Ge(0)] = outcome(1024)
    slow_grace_s: Seconds = outcome(5.0)  # a slower transfer is ended after this long
    max_mb: Annotated[float, at.Gt(0)] = semantic(50.0)
    concurrency: Positive = operational(64)
    per_host: Positive = operational(4)  # requests at once to one host, over all workers; at least one a worker
    retries: Annotated[int, at.Ge(0)] = outcome(2)  # transient failures only
    max_retry_after_s: Annotated[float, at.Ge(0)] = outcome(30.0)  # a server that asks for longer is not waited for
    max_redirects: Annotated[int, at.Ge(0)] = semantic(5)
    opt_out: bool = semantic(True)  # honour X-Robots-Tag: noai, noimageai, noindex, noimageindex, noml
    agent: Annotated[str, at.Len(1)] = semantic("mmdata")  # our name in the user agent and in scoped opt-outs
    contact: str = outcome("")  # a page or address that site owners may write to
    ports: list[int] = semantic(factory=lambda: [80, 443])
    allow_networks: list[str] = semantic(factory=list)  # for instance 10.0.0.0/8; all other private ones are refused
    connect_to: dict[str, str] = operational(factory=dict)  # host -> address:port to connect to instead
    name_servers: list[str] = operational(factory=list)
    proxy: str = operational("")  # the proxy must enforce addresses itself: we only see the proxy's
    hash_blocklist: str = semantic("")  # file of sha256, one a line; what is listed is never written
    unchecked_redirects: bool = semantic(False)  # engine img2dataset follows redirects without checking them
    sites: bool = semantic(False)  # links to pages of video sites (YouTube, Vimeo, ...) go through yt-dlp
    site_format: Annotated[str, at.Len(1)] = semantic("b[height<=?480]")  # yt-dlp's selector; one file, no merging


@dataclass(frozen=True, kw_only=True)
class EmitOptions:
    """How kept samples become the dataset."""

    samples_per_shard: Positive = semantic(10_000)
    formats: list[Literal["webdataset", "parquet"]] = semantic(factory=lambda: ["webdataset", "parquet"])
    val_share: Share = semantic(0.01)
    window_shards: Positive = semantic(16)  # samples change places within this many staged shards
    normalise: Literal["clip", "imagenet", "half"] = semantic("clip")  # mean and std that the card tells loaders to use
    # How the copies of repeated samples differ, by kind; options as in mmdata/augment.py. Empty: they do not.
    augment: dict[str, dict[str, Any] | None] = semantic(factory=dict)
    release_staged: bool = operational(False)  # free staged media once its window is written and verified


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How the work is carried out: what is operational here changes no byte of the output."""

    workers: Positive | Literal["auto"] = operational("auto")
    score_workers: Positive | Literal["auto"] = operational("auto")
    attempts: Positive = operational(3)  # of one shard, before the run goes on without it
    retry_wait_s: Annotated[float, at.Ge(0)] = operational(10.0)  # after an outage; twice that after the next
    shard_timeout_s: Seconds = operational(3600.0)
    stall_timeout_s: Seconds = operational(1800.0)
    max_transient_share: Share = outcome(0.5)  # of a shard; above it, the shard is not taken as done
    decode_memory_mb: Positive = outcome(1024)  # that one sample may take in the child process that decodes it
    decode_timeout_s: Seconds = outcome(20.0)  # of one sample


@dataclass(frozen=True)
class Entry:
    """`name: {options}` of a list in the file, as written; `where` is its place for messages."""

    name: str
    options: Mapping[str, Any]
    where: str


@dataclass(frozen=True)
class Pipeline:
    """A pipeline file with its shape checked; names of sources, stages and rules are looked up in run/catalog.py."""

    path: Path
    name: str
    seed: int
    sources: dict[str, Entry]  # by source name; Entry.name is the kind
    plan: PlanOptions
    fetch: FetchOptions
    stages: list[Entry]
    score: list[Entry]
    select: list[Entry]
    emit: EmitOptions
    run: RunOptions
    notes: dict[str, str]  # headings and texts for the report, for instance how a threshold was chosen

    @property
    def folder(self) -> Path:
        """Relative paths in the file are relative to this."""
        return self.path.parent

    def to_yaml(self) -> dict[str, Any]:
        """All sections with their defaults filled in, as plain values."""
        roles = ("semantic", "outcome", "operational")
        return {
            "name": self.name,
            "seed": self.seed,
            "sources": {name: {"kind": entry.name, **entry.options} for name, entry in self.sources.items()},
            "plan": values_of(self.plan, *roles),
            "fetch": values_of(self.fetch, *roles),
            **{
                part: [{e.name: dict(e.options)} for e in getattr(self, part)] for part in ("stages", "score", "select")
            },
            "emit": values_of(self.emit, *roles),
            "run": values_of(self.run, *roles),
            "notes": dict(self.notes),
        }


def load(path: str | Path, overrides: Sequence[str] = ()) -> Pipeline:
    """The pipeline in the file, with `a.b=c` overrides applied. Raises ConfigError naming place and remedy."""
    path = Path(path)
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: found {type(tree).__name__}, allowed is a mapping with {', '.join(SECTIONS)}")
    return of_tree(path, tree, overrides)


def of_tree(path: Path, tree: dict[str, Any], overrides: Sequence[str] = ()) -> Pipeline:
    """The pipeline in what was read from a file, `a.b=c` overrides applied; relative paths are relative to `path`."""
    if isinstance(tree.get("select"), list):
        tree["select"] = [rule for item in tree["select"] for rule in rules_of(item, path)]
    for override in overrides:
        apply_override(tree, override)
    return _pipeline(path, tree)


def _pipeline(path: Path, tree: dict[str, Any]) -> Pipeline:
    for key in tree:
        if key not in SECTIONS:
            raise ConfigError(
                f"{path}: {key}: no such section{nearest(str(key), SECTIONS)}; allowed: {', '.join(SECTIONS)}"
            )
    name = tree.get("name", path.stem)
    if not isinstance(name, str) or not is_source_name(name):
        raise ConfigError(f"{path}: name: found {name!r}, allowed are small letters, digits and '-'")
    seed = tree.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ConfigError(f"{path}: seed: found {seed!r}, allowed is a whole number")
    notes = tree.get("notes") or {}
    if not isinstance(notes, dict) or not all(isinstance(text, str) for text in notes.values()):
        raise ConfigError(f"{path}: notes: found {notes!r}, allowed is a mapping of headings to texts")
    return Pipeline(
        path=path,
        name=name,
        seed=seed,
        sources=_sources(path, tree.get("sources")),
        plan=build(PlanOptions, tree.get("plan"), f"{path}: plan"),
        fetch=build(FetchOptions, tree.get("fetch"), f"{path}: fetch"),
        stages=_entries(path, "stages", tree.get("stages")),
        score=_entries(path, "score", tree.get("score")),
        select=_entries(path, "select", tree.get("select")),
        emit=_emit(build(EmitOptions, tree.get("emit"), f"{path}: emit"), f"{path}: emit"),
        run=build(RunOptions, tree.get("run"), f"{path}: run"),
        notes=notes,
    )


def _emit(options: EmitOptions, where: str) -> EmitOptions:
    """The same with all options of `augment` filled in, so that a default written out gives the same hash."""
    filled: dict[str, dict[str, Any] | None] = {}
    for kind, values in sorted(options.augment.items()):
        if kind not in AUGMENTS:
            known = f"{nearest(kind, AUGMENTS)}; allowed: {', '.join(AUGMENTS)}"
            raise ConfigError(f"{where}.augment.{kind}: there is no such augmentation{known}")
        filled[kind] = values_of(build(AUGMENTS[kind], values, f"{where}.augment.{kind}"), "semantic")
    return replace(options, augment=filled)


def _sources(path: Path, tree: Any) -> dict[str, Entry]:
    if not isinstance(tree, dict) or not tree:
        raise ConfigError(f"{path}: sources: found {tree!r}, allowed is a mapping: name: {{kind: ..., path: ...}}")
    sources = {}
    for name, options in tree.items():
        where = f"{path}: sources.{name}"
        if not isinstance(name, str) or not is_source_name(name):
            raise ConfigError(f"{where}: a source name may have small letters, digits and '-' (it begins every key)")
        if not isinstance(options, dict) or "kind" not in options:
            raise ConfigError(f"{where}.kind: is required")
        sources[name] = Entry(str(options["kind"]), {k: v for k, v in options.items() if k != "kind"}, where)
    return sources


def _entries(path: Path, section: str, tree: Any) -> list[Entry]:
    if tree is None:
        return []
    if not isinstance(tree, list):
        raise ConfigError(f"{path}: {section}: found {type(tree).__name__}, allowed is a list: - name: {{options}}")
    entries = []
    for index, item in enumerate(tree):
        where = f"{path}: {section}[{index}]"
        if isinstance(item, str):
            item = {item: {}}
        if not isinstance(item, dict) or len(item) != 1:
            raise ConfigError(f"{where}: found {item!r}, allowed is one name with its options: - name: {{options}}")
        ((name, options),) = item.items()
        if options is not None and not isinstance(options, dict):
            raise ConfigError(f"{where}.{name}: found {options!r}, allowed is a mapping of options")
        entries.append(Entry(str(name), options or {}, where))
    return entries
