"""`mmdata select PIPELINE --what-if clip_similarity.min=0.2,0.25`: what other values of one option would keep."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from mmdata.config import Entry, Pipeline, load
from mmdata.errors import ConfigError
from mmdata.options import nearest
from mmdata.run.catalog import RULES, rules_of
from mmdata.run.pipeline import Places, default_places
from mmdata.run.removals import rules_of as removal_rules_of
from mmdata.select.rules import Rule
from mmdata.select.tables import ShardTables
from mmdata.select.what_if import Edge, EdgeSample, Outcome, what_if
from mmdata.shards.arrow import start_without_pandas
from mmdata.shards.commits import CommitLog
from mmdata.shards.folders import RunFolder

_LIMITS = ("min", "max", "top_share")
_CAPTION_CHARS = 60


@dataclass(frozen=True)
class Question:
    """One option of one rule, and the values to try. path: of the option below the rule's name."""

    index: int
    rule: str
    path: tuple[str, ...]
    values: tuple[Any, ...]

    @property
    def column(self) -> str | None:
        """The column that a limit stands on."""
        is_limit = self.rule == "thresholds" and self.path[-1] in ("min", "max")
        return ".".join(self.path[:-1]) if is_limit else None


def answer(path: str, overrides: Sequence[str], places: Places, question_text: str) -> Iterator[str]:
    """Lines that say what every value would keep.

    Raises ConfigError for a question about no rule of the pipeline, and for a run that is not scored.
    """
    start_without_pandas()
    pipeline = load(path, overrides)
    question = parse_question(pipeline, question_text)
    run = RunFolder(default_places(pipeline, places).run)
    tables = _tables(pipeline, run)
    variants, edges, before = _variants(pipeline, question)
    before = [*removal_rules_of(run), *before]
    with tempfile.TemporaryDirectory() as scratch:
        outcomes = what_if(tables, before, variants, edges, seed=pipeline.seed, scratch=Path(scratch) / "select")
    yield from _lines(pipeline, question, outcomes)


def parse_question(pipeline: Pipeline, text: str) -> Question:
    """`COLUMN.min=A,B`, or `[NUMBER.]RULE.OPTION=A,B` for any option of any rule of the pipeline."""
    left, equals, right = text.partition("=")
    steps = left.split(".")
    if not equals or len(steps) < 2 or not all(steps):
        raise ConfigError(f"--what-if {text}: allowed is COLUMN.min=0.2,0.25 or RULE.OPTION=A,B")
    values = tuple(yaml.safe_load(part) for part in right.split(",") if part.strip())
    if not values:
        raise ConfigError(f"--what-if {text}: found no values after '='")
    names = [entry.name for entry in pipeline.select]
    if steps[0].isdigit() and len(steps) > 2:
        index = int(steps.pop(0))
        if index >= len(names) or names[index] != steps[0]:
            raise ConfigError(f"--what-if {text}: select[{index}] is not {steps[0]}; there are {', '.join(names)}")
        return Question(index, steps[0], tuple(steps[1:]), values)
    if steps[0] in RULES:
        if steps[0] not in names:
            raise ConfigError(f"--what-if {text}: no rule {steps[0]} in select; there are {', '.join(names)}")
        return Question(names.index(steps[0]), steps[0], tuple(steps[1:]), values)
    if steps[-1] not in _LIMITS:
        raise ConfigError(
            f"--what-if {text}: {steps[0]} is no rule{nearest(steps[0], RULES)}, and of a column allowed are "
            f"{', '.join(_LIMITS)}"
        )
    column = ".".join(steps[:-1])
    place = (i for i, e in enumerate(pipeline.select) if e.name == "thresholds" and column in e.options)
    return Question(next(place, len(names)), "thresholds", (column, steps[-1]), values)


def _variants(pipeline: Pipeline, question: Question) -> tuple[dict[str, list[Rule]], dict[str, Edge], list[Rule]]:
    variants: dict[str, list[Rule]] = {}
    edges: dict[str, Edge] = {}
    for value in question.values:
        entries = list(pipeline.select)
        if question.index == len(entries):  # a column without a limit so far: as if one were added at the end
            entries.append(Entry("thresholds", {}, f"{pipeline.path}: select[{question.index}]"))
        entry = entries[question.index]
        options = copy.deepcopy(dict(entry.options))
        node = options
        # The name of a column may have a dot in it.
        path = (question.column, question.path[-1]) if question.column else question.path
        for step in path[:-1]:
            node = node.setdefault(step, {})
        node[path[-1]] = value
        entries[question.index] = replace(entry, options=options)
        rules = rules_of(replace(pipeline, select=entries))
        label = str(value)
        variants[label] = rules[question.index :]
        if question.column and isinstance(value, (int, float)):
            edges[label] = Edge(question.column, float(value))
    return variants, edges, rules[: question.index]


def _tables(pipeline: Pipeline, run: RunFolder) -> list[ShardTables]:
    ingested = CommitLog(run, "ingest").commits
    scored = {entry.name: CommitLog(run, f"score.{entry.name}").commits for entry in pipeline.score}
    for name, commits in scored.items():
        if set(ingested) - set(commits):
            raise ConfigError(f"{run.root}: scores of {name} are missing; run first: mmdata score {pipeline.path}")
    if not ingested:
        raise ConfigError(f"{run.root}: nothing is ingested there yet; run first: mmdata score {pipeline.path}")
    return [
        ShardTables(
            shard,
            run.ledger(shard, ingested[shard].revision),
            {name: run.scores(name, shard, commits[shard].revision) for name, commits in scored.items()},
        )
        for shard in sorted(ingested)
    ]


def _lines(pipeline: Pipeline, question: Question, outcomes: list[Outcome]) -> Iterator[str]:
    option = ".".join(question.path)
    entry = pipeline.select[question.index] if question.index < len(pipeline.select) else None
    now: Any = entry.options if entry else {}
    for step in (question.column, question.path[-1]) if question.column else question.path:
        now = now.get(step) if isinstance(now, dict) else None
    yield f"select[{question.index}].{question.rule}.{option}, now {'not there' if now is None else now}:"
    yield f"  {'value':>10} {'given':>10} {'dropped':>10} {'kept':>10}   kept after all rules"
    for outcome in outcomes:
        dropped = sum(outcome.dropped.values())
        left = outcome.given - dropped
        share = f"{outcome.kept / outcome.given:.1%}" if outcome.given else "-"
        yield (
            f"  {outcome.label:>10} {outcome.given:>10,} {dropped:>10,} {left:>10,}   "
            f"{outcome.kept:,} ({share} of those given)"
        )
    for outcome in outcomes:
        for said, samples in (
            ("below" if outcome.above or question.column else "dropped", outcome.below),
            ("above", outcome.above),
        ):
            if samples:
                yield f"{said} {outcome.label}:"
                yield from (f"  {_line(sample)}" for sample in samples)


def _line(sample: EdgeSample) -> str:
    caption = "".join(char if char.isprintable() else " " for char in sample.caption)
    short = caption if len(caption) <= _CAPTION_CHARS else caption[: _CAPTION_CHARS - 3] + "..."
    value = f"{sample.value:.4f}  " if sample.value is not None else ""
    return f"{value}{sample.key}  {short}  {sample.url or sample.detail}"
