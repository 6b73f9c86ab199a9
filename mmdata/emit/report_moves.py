"""What another value of a threshold would do: rows that would pass it, and rows that would be kept."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mmdata.emit.report_rows import Rows
from mmdata.emit.report_rules import AppliedRule, Limit, hangs_on_others

MOVES = 4  # other values shown on each side of a threshold
_BY_THRESHOLD = "('filtered.score_low', 'filtered.score_high', 'filtered.threshold', 'filtered.too_small')"
_SHARES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Move:
    """One value of a limit. said: as it would stand in the pipeline. kept: `about` says how sure it is."""

    limit: float
    said: str
    passing: int
    kept: int
    about: str  # "", "up to" or "about"
    is_now: bool


@dataclass(frozen=True)
class Moves:
    """The values a limit could have, strictest last, and the rows among which they pass."""

    limit: Limit
    rows: int
    moves: list[Move]


@dataclass(frozen=True)
class Span:
    """Values of a column: the least, the greatest, and a round step that people would move a limit by."""

    low: float
    high: float
    step: float


def moves_of(rows: Rows, limit: Limit, span: Span, rules: Sequence[AppliedRule]) -> Moves:
    """The limit at other values, as far as any row has such values; without moves where they cannot be told.

    A percentile or share is moved as such, over the rows that its rule was given; not where those cannot be told apart.
    """
    v = rows.column(limit.column)
    value = limit.value
    if value is None:
        return Moves(limit, 0, [])
    if limit.is_relative:
        given = _given(rows, v, limit, rules)
        choices = _cuts(rows, v, limit, given) if given else []
    else:
        given, choices = f"isfinite({v})", [(x, f"{x:.6g}") for x in _values(rows, v, limit, value, span)]
    if not choices:
        return Moves(limit, 0, [])
    passes = limit.kept_sql
    parts = ", ".join(
        f"count_if({given} AND {v} {passes} {x!r}), count_if(isfinite({v}) AND {v} {passes} {x!r} AND (fate = 'kept'"
        f" OR fate = 'select' AND reason IN {_BY_THRESHOLD} AND NOT {v} {passes} {value!r}))"
        for x, _ in choices
    )
    (counts,) = rows.ask(f"SELECT count_if({given}), {parts} FROM rows")
    later = any(hangs_on_others(rule) for rule in rules if rule.number > limit.rule)
    (kept_now,), *_ = rows.ask(f"SELECT count_if(fate = 'kept' AND isfinite({v})) FROM rows")
    moves = []
    for place, (x, said) in enumerate(choices):
        passing, kept = counts[1 + 2 * place : 3 + 2 * place]
        looser = x < value if limit.side == "min" else x > value
        about = "" if x == value or kept == kept_now else "about" if later else "up to" if looser else ""
        moves.append(Move(x, said, passing, kept, about, x == value))
    return Moves(limit, counts[0], _telling(moves))


def _telling(moves: Sequence[Move]) -> list[Move]:
    """Without the moves that let pass what one nearer to the value in use lets pass."""
    now = next((place for place, move in enumerate(moves) if move.is_now), 0)
    return [
        move
        for place, move in enumerate(moves)
        if place == now or move.passing != moves[place + (1 if place < now else -1)].passing
    ]


def _values(rows: Rows, v: str, limit: Limit, now: float, span: Span) -> list[float]:
    """Round values near the one in use, within what there is; where those of a side change nothing, its quartiles."""
    found = {now}
    for sign, test in ((-1, "<"), (1, ">")):
        near = [round(now + sign * i * span.step, 10) for i in range(1, MOVES + 1)]
        near = [x for x in near if span.low <= x <= span.high]
        passing = f"count_if({v} {limit.kept_sql} ?)"
        (changed,), *_ = rows.ask(
            f"SELECT {passing} <> {passing} FROM rows WHERE isfinite({v})", [near[-1] if near else now, now]
        )
        if not changed:
            quartiles, *_ = rows.ask(
                f"SELECT quantile_disc({v}, [0, 0.25, 0.5, 0.75, 1]) FROM rows WHERE isfinite({v}) AND {v} {test} ?",
                [now],
            )
            near = list(dict.fromkeys(quartiles[0] or ()))
        found.update(near)
    return sorted(found, reverse=limit.side == "max")


def _given(rows: Rows, v: str, limit: Limit, rules: Sequence[AppliedRule]) -> str:
    """SQL for the rows with a value that the limit's rule was given; empty where reasons do not tell them apart."""
    rule = next((rule for rule in rules if rule.number == limit.rule), None)
    if rule is None or rule.count is None:
        return ""
    before = {reason for each in rules if each.number < limit.rule and each.count for reason in each.count.reasons}
    listed = ", ".join(f"'{reason}'" for reason in sorted(before)) or "''"
    given = f"(fate = 'kept' OR fate = 'select' AND reason NOT IN ({listed}))"
    (number,), *_ = rows.ask(f"SELECT count_if({given}) FROM rows")
    return f"{given} AND isfinite({v})" if number == rule.count.given else ""


def _cuts(rows: Rows, v: str, limit: Limit, given: str) -> list[tuple[float, str]]:
    """Other percentiles or shares beside the one in use, with the values they come to."""
    percentile = re.fullmatch(r"p([\d.]+)", limit.said)
    is_top = percentile is None
    now = float(percentile[1]) / 100 if percentile else float(limit.said.split()[1]) / 100
    nearest = sorted({*_SHARES, now}, key=lambda share: (abs(share - now), share))[: 2 * MOVES - 1]
    wanted = sorted(nearest, reverse=is_top or limit.side == "max")
    below = [1 - share if is_top else share for share in wanted]
    (values,), *_ = rows.ask(
        f"SELECT quantile_disc({v}, [{', '.join(f'{max(share, 0.0)!r}' for share in below)}]) FROM rows WHERE {given}"
    )
    said = [f"top {100 * share:g} %" if is_top else f"p{100 * share:g}" for share in wanted]
    cuts = zip(values or [], said, wanted, strict=True) if values else ()
    return [(limit.value if share == now and limit.value is not None else x, text) for x, text, share in cuts]


def round_step(raw: float) -> float:
    """The next round number: 1, 2, 2.5, 3, 4 or 5 times a power of ten."""
    if raw <= 0 or not math.isfinite(raw):
        return 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 2.5, 3, 4, 5, 10) if factor * power >= raw * 0.999)
