"""How much of the dataset each group has: before and after selection, and before and after each rule `balance`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmdata.emit.report_rows import Rows
from mmdata.emit.report_rules import AppliedRule

MOST_GROUPS = 20
NONE = "(none)"
COLUMNS = ("modality", "language", "source")


@dataclass(frozen=True)
class Part:
    """One group: what there was of it, what was asked for (None without a target), and what there is."""

    name: str
    before: float
    after: float
    target: float | None = None


@dataclass(frozen=True)
class Balance:
    """The groups of one column, or of several, in one unit; the totals are of all groups, shown or not.

    rule: number of the rule that asked for targets; None for what all rules together came to.
    """

    by: str
    unit: str
    parts: list[Part]
    total_before: float
    total_after: float
    total_target: float | None = None
    rule: int | None = None
    num_groups: int = 0

    @property
    def widest(self) -> float:
        """The greatest share of any group, before, after or asked for: what bars are drawn to."""
        shares = [part.before / (self.total_before or 1) for part in self.parts]
        shares += [part.after / (self.total_after or 1) for part in self.parts]
        shares += [(part.target or 0.0) / (self.total_target or 1) for part in self.parts]
        return max(shares, default=1.0) or 1.0


@dataclass(frozen=True)
class Weights:
    """What a rule `mixture` tells the trainer: by group, its weight and its rows, as shares of 1."""

    by: str
    parts: list[tuple[str, float, float]]


def asked_for(rules: Sequence[AppliedRule]) -> list[Balance]:
    """One for each rule `balance` that has run, counted in the rule's own unit, as it found and left the rows."""
    found = []
    for rule in rules:
        groups = rule.facts.get("groups") if rule.name == "balance" else None
        if groups:
            parts = [Part(name, have, after, wanted) for name, have, wanted, after in groups]
            # Selections of before said only the groups that are told.
            told = [sum(p.before for p in parts), sum(p.target or 0.0 for p in parts), sum(p.after for p in parts)]
            before, wanted, after = rule.facts.get("totals", told)
            by, unit = ", ".join(rule.facts["by"]), rule.facts["unit"]
            shown = parts[:MOST_GROUPS]
            found.append(
                Balance(by, unit, shown, before, after, wanted, rule.number, rule.facts.get("num_groups", len(parts)))
            )
    return found


def weights_of(rules: Sequence[AppliedRule]) -> Weights | None:
    """The last rule `mixture`, or None."""
    facts: Any = next((rule.facts for rule in reversed(rules) if rule.name == "mixture" and rule.facts), None)
    if facts is None:
        return None
    total = sum(facts["rows"].values()) or 1
    parts = [(name, weight, facts["rows"][name] / total) for name, weight in facts["weights"].items()]
    return Weights(facts["by"], sorted(parts, key=lambda part: (-part[1], part[0]))[:MOST_GROUPS])


def came_to(rows: Rows) -> list[Balance]:
    """Modalities, languages and sources: what could be had, and what is kept with repeats; in samples, and in hours.

    Only columns with more than one value, and hours only of what lasts. Empty before selection.
    """
    if not rows.has_selection:
        return []
    found = []
    for unit, weight in (("samples", "1"), ("hours", "duration_s / 3600.0")):
        for column in COLUMNS:
            groups = rows.ask(
                f"SELECT coalesce({column}, '{NONE}'), coalesce(sum({weight}), 0)::DOUBLE AS before,"
                f" coalesce(sum({weight} * greatest(coalesce(repeat, 1), 1)) FILTER (fate = 'kept'), 0)::DOUBLE"
                f" FROM rows WHERE had AND {weight} > 0 GROUP BY 1 ORDER BY before DESC, 1"
            )
            if len(groups) > 1:
                parts = [Part(*group) for group in groups]
                totals = (sum(part.before for part in parts), sum(part.after for part in parts))
                found.append(Balance(column, unit, parts[:MOST_GROUPS], *totals, num_groups=len(parts)))
    return found
