"""The rules of selection as the report and the card tell of them: their options, what they dropped, what they found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmdata.errors import Reason
from mmdata.select.counts import RuleCount

# What a rule `dedup` drops for, by what it compares.
_REASONS_OF_DEDUP = {
    "url": Reason.DUPLICATE_URL,
    "sha256": Reason.DUPLICATE_CONTENT,
    "caption": Reason.DUPLICATE_CAPTION,
    "caption_hash": Reason.DUPLICATE_CAPTION,
    "caption_simhash": Reason.DUPLICATE_CAPTION,
    "phash": Reason.NEAR_DUPLICATE,
    "embedding": Reason.SEMANTIC_DUPLICATE,
}
_BY_OTHERS = {"dedup", "balance", "long_tail", "subset"}  # whether they keep a row depends on the other rows


@dataclass(frozen=True)
class AppliedRule:
    """One rule in its place. number: from 1. options: as in the YAML. count: None before selection has run."""

    number: int
    name: str
    options: Mapping[str, Any]
    count: RuleCount | None = None

    @property
    def facts(self) -> Mapping[str, Any]:
        """What it had to tell about its work."""
        return self.count.facts if self.count else {}


@dataclass(frozen=True)
class Limit:
    """One bound of a threshold. value: None where it is relative and selection has not run.

    said: as the pipeline has it: `0.28`, `p10`, `top 30 %`. of: where every group has a bound of its own, columns and
    values of the group; empty for one that holds for all rows. rule: number of its rule.
    """

    column: str
    side: str  # min | max
    value: float | None
    said: str
    is_relative: bool
    rule: int
    of: tuple[tuple[str, str | None], ...] = ()

    @property
    def group(self) -> str:
        """The group's values in one; empty for all rows."""
        return ", ".join("none" if value is None else value or "(empty)" for _, value in self.of)

    @property
    def kept_sql(self) -> str:
        """The comparison that kept values pass; both ends are inside."""
        return ">=" if self.side == "min" else "<="


def applied(rules: Sequence[tuple[str, Mapping[str, Any]]], counts: Sequence[RuleCount] = ()) -> list[AppliedRule]:
    """Rules with what selection counted of them; counts: in the same order, or none."""
    return [
        AppliedRule(place + 1, name, options, counts[place] if place < len(counts) else None)
        for place, (name, options) in enumerate(rules)
    ]


def limits_of(rules: Sequence[AppliedRule]) -> list[Limit]:
    """Every bound of every rule `thresholds`; of one that groups have of their own, one a group that it told of."""
    return [
        limit
        for rule in rules
        if rule.name == "thresholds"
        for column, options in sorted(rule.options.items())
        if isinstance(options, Mapping)
        for side in ("min", "max")
        for limit in _bounds(rule, column, options, side)
    ]


def _bounds(rule: AppliedRule, column: str, options: Mapping[str, Any], side: str) -> Iterator[Limit]:
    bound = options.get(side)
    if side == "min" and options.get("top_share") is not None:
        bound = f"top {100 * options['top_share']:g} %"
    if bound is None:
        return
    if not isinstance(bound, str):
        yield Limit(column, side, float(bound), f"{bound:g}", False, rule.number)
        return
    found = [each for each in rule.facts.get("bounds", {}).get(column, ()) if each[side] is not None]
    if not found:
        yield Limit(column, side, None, bound, True, rule.number)
    per = options.get("per") or []
    columns = [per] if isinstance(per, str) else per
    for each in found:
        group = tuple(zip(columns, each["group"], strict=True))
        yield Limit(column, side, each[side], bound, True, rule.number, group)


def dedup_of(rules: Sequence[AppliedRule], reason: str) -> AppliedRule | None:
    """The rule `dedup` that drops for a reason, the first of several; None where there is none."""
    return next(
        (
            rule
            for rule in rules
            if rule.name == "dedup" and _REASONS_OF_DEDUP[rule.options.get("by", "sha256")].value == reason
        ),
        None,
    )


def best_columns(rules: Sequence[AppliedRule]) -> list[str]:
    """Columns by whose greatest value duplicates were kept."""
    return list(dict.fromkeys(rule.options["keep_best"] for rule in rules if rule.options.get("keep_best")))


def hangs_on_others(rule: AppliedRule) -> bool:
    """True for a rule whose verdict on a row may change when other rows come or go before it."""
    if rule.name == "thresholds":
        return any(limit.is_relative for limit in limits_of([rule]))
    return rule.name in _BY_OTHERS
