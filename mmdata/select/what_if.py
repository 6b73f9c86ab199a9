"""What another value of one option would keep and drop, without deciding anything: counts, and samples at the edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdata.select.counts import SelectionCounts
from mmdata.select.rules import Rule, check_columns
from mmdata.select.selection import apply_rules, opened
from mmdata.select.tables import Columns, ShardTables
from mmdata.select.workspace import ID, Workspace, quoted


@dataclass(frozen=True)
class Edge:
    """Where a variant's limit lies on a column of numbers."""

    column: str
    value: float


@dataclass(frozen=True)
class EdgeSample:
    """A sample near a limit, or one that a variant drops. value: of the edge's column; None without an edge."""

    key: str
    value: float | None
    caption: str
    url: str
    detail: str = ""


@dataclass(frozen=True)
class Outcome:
    """What one variant comes to. kept: after all rules. dropped: by the rule itself, by reason.

    below, above: samples nearest to the edge on both sides; without an edge, samples that the rule drops.
    """

    label: str
    given: int
    kept: int
    dropped: dict[str, int]
    below: list[EdgeSample]
    above: list[EdgeSample]


def what_if(
    shards: Sequence[ShardTables],
    before: Sequence[Rule],
    variants: Mapping[str, Sequence[Rule]],
    edges: Mapping[str, Edge],
    *,
    seed: int,
    scratch: Path,
    examples: int = 3,
) -> list[Outcome]:
    """Outcomes of variants by label.

    before: rules that all variants begin with. A variant: the rule in question, and those after it.
    edges: by label, where the variant's limit is a number. Rows are loaded once, and the rules before applied once.
    """
    if not shards:
        return [Outcome(label, 0, 0, {}, [], []) for label in variants]
    columns = Columns.of(shards)
    for rules in variants.values():
        check_columns([*before, *rules], columns.types)
    shown = ["caption", "url", *sorted({edge.column for edge in edges.values()} & set(columns.types))]
    every = [*before, *(rule for rules in variants.values() for rule in rules)]
    outcomes = []
    with opened(columns, every, shown, seed=seed, scratch=scratch) as work:
        apply_rules(work, before, SelectionCounts())
        work.db.execute(f"CREATE TEMP TABLE given AS SELECT {ID}, key, caption, url FROM kept")
        for label, rules in variants.items():
            edge = edges.get(label)
            sides = [_near(work, edge, examples, below=below) for below in (True, False)] if edge else [[], []]
            with work.trial():
                counts = SelectionCounts()
                apply_rules(work, rules, counts, first=len(before))
                first = counts.rules[0]
                if not edge:
                    sides[0] = _dropped(work, len(before), examples)
                outcomes.append(Outcome(label, first.given, work.num_kept, first.reasons, *sides))
    return outcomes


def _near(work: Workspace, edge: Edge, number: int, *, below: bool) -> list[EdgeSample]:
    """The rows whose values come nearest to the edge from one side; a value equal to it is above."""
    value = f"{quoted(edge.column)}::DOUBLE"
    test, order = ("<", "DESC") if below else (">=", "ASC")
    rows = work.db.execute(
        f"SELECT key, {value}, caption, url FROM kept WHERE NOT coalesce(isnan({value}), true) "
        f"AND {value} {test} {edge.value!r}::DOUBLE ORDER BY {value} {order}, key LIMIT {number}"
    ).fetchall()
    return [_sample(row) for row in rows]


def _dropped(work: Workspace, rule: int, number: int) -> list[EdgeSample]:
    """Rows that the rule has dropped, by key."""
    rows = work.db.execute(
        f"SELECT key, NULL, caption, url, detail FROM drops JOIN given USING ({ID}) WHERE rule = {rule} "
        f"ORDER BY key LIMIT {number}"
    ).fetchall()
    return [_sample(row) for row in rows]


def _sample(row: tuple[Any, ...]) -> EdgeSample:
    key, value, caption, url, *detail = row
    return EdgeSample(key, value, caption or "", url or "", detail[0] if detail else "")
