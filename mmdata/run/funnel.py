"""The funnel of a run as a table in the terminal: rows, had, scored, kept, emitted, and every reason with its count."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from mmdata.counters import Counters
from mmdata.emit.report_text import count, seconds, share

_PLAIN_WIDTH = 100


@dataclass(frozen=True)
class Funnel:
    """Rows at each step, None where a step has not run; reasons of all rows, `ok` for those still in."""

    rows: int
    had: int
    scored: int | None
    kept: int | None
    emitted: int | None
    reasons: Mapping[str, int]


def funnel_of(
    ingest: Counters,
    scores: Mapping[str, Counters] | None = None,
    select: Counters | None = None,
    emit: Counters | None = None,
) -> Funnel:
    """The funnel from the added-up counters of each part.

    select: `reasons` are the final ones of all rows, `ok` the kept. emit: `samples` are those written, with repeats.
    """
    reasons: Counter[str] = Counter(ingest.reasons)
    for counters in (scores or {}).values():
        for reason, number in counters.reasons.items():
            if reason != "ok":
                reasons[reason] += number
                reasons["ok"] -= number
    return Funnel(
        rows=ingest.samples,
        had=ingest.reasons["ok"],
        scored=min(counters.reasons["ok"] for counters in scores.values()) if scores else None,
        kept=select.reasons["ok"] if select is not None and select.reasons else None,
        emitted=emit.samples if emit is not None else None,
        reasons=dict(select.reasons if select is not None and select.reasons else reasons),
    )


def funnel_of_status(status: Mapping[str, Any]) -> Funnel:
    """The same from a status.json."""
    parts: dict[str, Counters] = {
        part["part"]: Counters(samples=part["rows_done"], reasons=Counter(part["reasons"]))
        for part in status.get("parts", ())
        if part["rows_done"]
    }
    scores = {name: counters for name, counters in parts.items() if name.startswith("score")}
    return funnel_of(parts.get("ingest", Counters()), scores, parts.get("select"), parts.get("emit"))


def console_of(stream: TextIO | None, tty: bool | None) -> Any:
    """A rich console on a stream (standard output by default); plain ASCII where that is no terminal."""
    from rich.console import Console

    stream = stream or sys.stdout
    tty = stream.isatty() if tty is None else tty
    return Console(
        file=stream,
        force_terminal=tty,
        no_color=not tty,
        width=None if tty else _PLAIN_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
    )


def print_funnel(
    status: Mapping[str, Any],
    facts: Mapping[str, str] | None = None,
    stream: TextIO | None = None,
    tty: bool | None = None,
) -> None:
    """Print the funnel of a status with its reasons, and below it facts: the dataset, its digest, where the report is.

    tty: colours and frames; by default what `stream` (standard output) is.
    """
    console = console_of(stream, tty)
    funnel = funnel_of_status(status)
    table = _table_of(console, ["", "rows", "share"])
    for name in ("rows", "had", "scored", "kept", "emitted"):
        number = getattr(funnel, name)
        if number is not None:
            table.add_row(name, count(number), share(number, funnel.rows), style="bold")
    table.add_section()
    for reason, number in sorted(funnel.reasons.items(), key=lambda item: (-item[1], item[0])):
        if reason != "ok" and number:
            table.add_row(f"  {reason}", count(number), share(number, funnel.rows))
    console.print(table)
    _print_facts(console, facts or {})


def print_status(status: Mapping[str, Any], stream: TextIO | None = None, tty: bool | None = None) -> None:
    """Print what `read_status` gave: state, parts with their rates, the funnel so far."""
    console = console_of(stream, tty)
    where = f" at {status['part']}" if status["state"] != "done" and status["part"] else ""
    console.print(f"{status['state']}{where}" + (f": {status['message']}" if status["message"] else ""))
    table = _table_of(console, ["part", "shards", "rows", "rows/s", "last 60 s", "ETA"])
    for part in status["parts"]:
        eta_s = part["eta_s"]
        table.add_row(
            part["part"],
            f"{count(part['shards_done'])}/{count(part['shards_total'])}",
            count(part["rows_done"]),
            *("-" if part[name] is None else f"{part[name]:,.0f}" for name in ("rows_per_s", "rows_per_s_60s")),
            part["state"] if part["state"] != "running" else "-" if eta_s is None else seconds(round(eta_s)),
        )
    console.print(table)
    print_funnel(status, None, stream, tty)


def _table_of(console: Any, columns: list[str]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else box.ASCII, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    return table


def _print_facts(console: Any, facts: Mapping[str, str]) -> None:
    width = max(map(len, facts), default=0)
    for name, text in facts.items():
        console.print(f"{name:<{width}}  {text}", soft_wrap=True)
