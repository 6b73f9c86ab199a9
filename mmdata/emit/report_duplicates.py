"""Groups of duplicates: how many of which size each rule found, and the largest, with who was kept and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmdata.emit.report_pictures import Pick, Sheet
from mmdata.emit.report_rows import Rows
from mmdata.emit.report_rules import AppliedRule, dedup_of
from mmdata.emit.report_text import value

GROUPS, MEMBERS = 8, 8  # shown with pictures
_SIZES = ((2, 2), (3, 3), (4, 4), (5, 9), (10, 99), (100, 2**62))


@dataclass(frozen=True)
class Duplicates:
    """rules: number, what it compares, groups, rows in them, rows dropped, which one stays. sizes: words and groups.

    sheets: the largest groups of which pictures can be shown, the row that stands for them first.
    """

    rules: list[tuple[int, str, int | None, int | None, int, str]]
    sizes: list[tuple[str, int]]
    sheets: list[Sheet]


def duplicates_of(rows: Rows, rules: Sequence[AppliedRule], shards: Sequence[int]) -> Duplicates | None:
    """What the rules `dedup` did; None without any that has run. shards: those that pictures may come from."""
    lines = [line_of(rule) for rule in rules if rule.name == "dedup" and rule.count]
    if not lines:
        return None
    # The leader of one group may itself have been found again by a later rule, and then is a member of another.
    rows.ask(
        "CREATE OR REPLACE TEMP TABLE crowds AS SELECT leader, count_if(key <> leader) + 1 AS size FROM rows"
        " WHERE leader IS NOT NULL GROUP BY leader HAVING size > 1"
    )
    buckets = ", ".join(f"count_if(size BETWEEN {low} AND {high})" for low, high in _SIZES)
    (numbers,) = rows.ask(f"SELECT {buckets} FROM crowds")
    named = zip(_SIZES, numbers, strict=True)
    sizes = [(f"{low}" if low == high else f"{low} or more" if high > 10**6 else f"{low} to {high}", number)
             for (low, high), number in named if number]  # fmt: skip
    here = f"NOT removed AND shard IN ({', '.join(map(str, shards))})"
    largest = rows.ask(
        f"SELECT leader, size FROM crowds JOIN (SELECT leader FROM rows WHERE key <> leader AND {here} GROUP BY leader)"
        f" USING (leader) ORDER BY size DESC, leader LIMIT {GROUPS}"
    )
    return Duplicates(lines, sizes, [_sheet(rows, rules, leader, size, here) for leader, size in largest])


def line_of(rule: AppliedRule) -> tuple[int, str, int | None, int | None, int, str]:
    """Number, what it compares, groups, rows in them, rows dropped, which one stays; None where it does not group."""
    options, facts = rule.options, rule.facts
    by = str(options.get("by", "sha256"))
    if options.get("distance") is not None:
        by += f", {options['distance']} bits"
    if options.get("cosine") is not None:
        by += f", cosine {options['cosine']:g}"
    stays = f"greatest {options['keep_best']}" if options.get("keep_best") else "first key"
    if options.get("against"):
        stays = "none: the other dataset has it"
    elif options.get("action") == "group":
        stays = "all, as a group"
    dropped = rule.count.dropped if rule.count else 0
    return rule.number, by, facts.get("groups"), facts.get("rows"), dropped, stays


def _sheet(rows: Rows, rules: Sequence[AppliedRule], leader: str, size: int, here: str) -> Sheet:
    reasons = rows.ask(
        "SELECT reason FROM rows WHERE leader = ? AND key <> leader AND fate = 'select' AND reason IS NOT NULL"
        " GROUP BY reason ORDER BY count(*) DESC, reason LIMIT 1",
        [leader],
    )
    reason = reasons[0][0] if reasons else ""
    rule = dedup_of(rules, reason)
    best = str(rule.options.get("keep_best", "")) if rule else ""
    shown = rows.column(best) if best else "NULL::DOUBLE"
    found = rows.ask(
        f"SELECT shard, position, reason, fate, key = $1, {shown} FROM rows WHERE (leader = $1 OR key = $1) AND {here}"
        f" ORDER BY key <> $1, {shown} DESC NULLS LAST, key LIMIT {MEMBERS}",
        [leader],
    )
    picks = []
    for shard, position, why, fate, leads, number in found:
        mark = "" if not leads else "kept" if fate == "kept" else "stands for them; lost later"
        picks.append(Pick((shard, position), why, number, mark))
    (kept,), *_ = rows.ask("SELECT count_if(fate = 'kept') FROM rows WHERE leader = $1 OR key = $1", [leader])
    title = f"{size:,} the same: {'all' if kept == size else f'{kept:,}' if kept else 'none'} kept"
    return Sheet("group", title, _why(rule, best, found[0][-1] if found and found[0][4] else None, size), picks)


def _why(rule: AppliedRule | None, best: str, number: float | None, size: int) -> str:
    if rule is None:
        return "recorded as a group; nothing was dropped for it"
    by = f"by {rule.options.get('by', 'sha256')}"
    if best:
        stays = f"the one with the greatest {best}" + (f" ({value(number)})" if number is not None else "")
    else:
        stays = "the one whose key comes first"
    return f"{by}; {stays} stays" + (f"; {MEMBERS} are shown" if size > MEMBERS else "")
