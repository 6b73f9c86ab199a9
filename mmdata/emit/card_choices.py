"""What the rules of selection came to, as text of the card: thresholds, duplicates, balance, long tail, weights."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mmdata.emit.report_balance import asked_for, weights_of
from mmdata.emit.report_duplicates import line_of
from mmdata.emit.report_rules import AppliedRule, limits_of
from mmdata.emit.report_text import amount, clean, share

_MOST_LINES = 20  # of a table whose length the data decide
_HEAD = 10  # concepts


def choices_text(rules: Sequence[AppliedRule]) -> list[str]:
    """One section for each kind of rule that has run; it holds no caption and no link, but words of common concepts."""
    sections = [_thresholds(rules), _duplicates(rules), _balance(rules), _tail(rules), _weights(rules)]
    return [section for section in sections if section]


def plain(text: str) -> str:
    """Text of strangers as one cell of a table: no markup, no line end, at most 80 characters."""
    # A low line within a word is no markup.
    return re.sub(r"[\s|`<>\[\]\\*&]+|\b_+|_+\b|(?<=_)_+", " ", clean(text, 400)).strip()[:80]


def _thresholds(rules: Sequence[AppliedRule]) -> str:
    lines = []
    for limit in limits_of([rule for rule in rules if rule.count])[:_MOST_LINES]:
        comes_to = "" if limit.value is None else f"{limit.value:.6g}"
        lines.append(f"| `{limit.column}` | {limit.side} {limit.said} | {plain(limit.group) or 'all'} | {comes_to} |")
    head = ["| column | bound | of | comes to |", "|---|---|---|--:|"]
    return _section("Thresholds", [], head, lines)


def _duplicates(rules: Sequence[AppliedRule]) -> str:
    lines = []
    for rule in rules:
        if rule.name == "dedup" and rule.count:
            number, by, groups, rows, dropped, stays = line_of(rule)
            numbers = " | ".join("-" if each is None else f"{each:,}" for each in (groups, rows, dropped))
            lines.append(f"| {number} | {plain(by)} | {numbers} | {plain(stays)} |")
    head = ["| rule | the same by | groups | rows in them | dropped | which one stays |", "|--:|---|--:|--:|--:|---|"]
    return _section("Duplicates", [], head, lines)


def _balance(rules: Sequence[AppliedRule]) -> str:
    texts = []
    for balance in asked_for(rules):
        head = [f"| {plain(balance.by)} | {balance.unit} before | share | target | {balance.unit} after | share |"]
        head.append("|---|--:|--:|--:|--:|--:|")
        lines = [
            f"| {plain(part.name)} | {amount(part.before)} | {share(part.before, balance.total_before)} | "
            f"{share(part.target or 0.0, balance.total_target or 0.0)} | {amount(part.after)} | "
            f"{share(part.after, balance.total_after)} |"
            for part in balance.parts
        ]
        texts.append(_section(f"Balance by {plain(balance.by)}, rule {balance.rule}", [], head, lines))
    return "\n".join(texts)


def _tail(rules: Sequence[AppliedRule]) -> str:
    texts = []
    for rule in rules:
        if rule.name == "long_tail" and rule.facts:
            facts = rule.facts
            said = (
                f"About {facts['t']:,} captions of each concept: {facts['capped']:,} of {facts['concepts']:,} concepts "
            )
            head = ["| concept | captions before | after |", "|---|--:|--:|"]
            lines = [f"| {plain(text)} | {before:,} | {after:,} |" for text, before, after in facts["head"][:_HEAD]]
            lines += [
                f"| (rank {rank:,}) | {before:,} | {after:,} |" for rank, before, after in facts["tail"] if rank > _HEAD
            ]
            texts.append(_section(f"Long tail, rule {rule.number}", [said + "were in more."], head, lines))
    return "\n".join(texts)


def _weights(rules: Sequence[AppliedRule]) -> str:
    weights = weights_of(rules)
    if weights is None:
        return ""
    head = [f"| {plain(weights.by)} | weight | share of rows |", "|---|--:|--:|"]
    lines = [f"| {plain(name)} | {share(weight, 1)} | {share(part, 1)} |" for name, weight, part in weights.parts]
    return _section("Weights in the manifest", [], head, lines)


def _section(title: str, said: Sequence[str], head: Sequence[str], lines: Sequence[str]) -> str:
    return (
        "\n".join([f"## {title}", "", *(line for text in said for line in (text, "")), *head, *lines, ""])
        if lines
        else ""
    )
