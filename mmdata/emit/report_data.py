"""What the report counts: funnel, reasons, sources, domains, licences, planted faults, stages.

Everything is an aggregation in DuckDB; what comes back to Python is as long as the page shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mmdata.counters import Counters
from mmdata.emit.report_rows import UNEXPLAINED, Rows
from mmdata.errors import Reason, Status

DOMAINS = 12
LICENCES = 15
EXAMPLES = 3
MOST_SHARE = 0.85  # of right and swapped captions, where a threshold can only be right for most
_STEP_OF_FATE = {"fetch": 0, "decode": 1, "wait_score": 2, "score": 2, "wait_select": 3, "select": 3}
_STATISTICAL = ("right", "swapped")


def status_of(reason: str) -> str:
    """`ok`, `failed` or `dropped`, by the group of a reason; what is not in the closed list counts as failed."""
    try:
        return Reason(reason).status.value
    except ValueError:
        return Status.FAILED.value


@dataclass(frozen=True)
class Loss:
    """Rows that went no further at one step, for one reason; status `waiting` where the step is still to come."""

    reason: str
    rows: int
    status: str


@dataclass(frozen=True)
class Step:
    """Rows that came as far as this, and those that went no further than this."""

    name: str
    rows: int
    losses: tuple[Loss, ...] = ()


@dataclass(frozen=True)
class ReasonCount:
    """One line of the table of reasons; examples are (shard, position)."""

    reason: str
    group: str
    status: str
    rows: int
    examples: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Share:
    """Rows of one source, modality, domain or licence, and what became of them."""

    name: str
    rows: int
    kept: int
    dropped: int
    failed: int
    waiting: int
    most: str = ""


@dataclass(frozen=True)
class Planted:
    """One kind of planted fault: what was expected, what was found; verdict is right | wrong | waiting."""

    kind: str
    expected: str
    rows: int
    right: int
    waiting: int
    found: tuple[tuple[str, int], ...]
    wanted_share: float

    @property
    def verdict(self) -> str:
        if self.right >= self.wanted_share * self.rows:
            return "right"
        return "waiting" if self.right + self.waiting >= self.wanted_share * self.rows else "wrong"


@dataclass(frozen=True)
class StageTime:
    """One stage: what it was given, seconds of work in all workers together."""

    part: str
    name: str
    given: int
    ok: int
    failed: int
    dropped: int
    seconds: float


@dataclass
class Facts:
    """All counts of the page."""

    rows: int
    had: int
    kept: int
    splits: list[tuple[str, int, int]]  # split, rows, samples with repeats
    optouts: int
    steps: list[Step]
    reasons: list[ReasonCount]
    sources: list[Share]
    modalities: list[Share]
    languages: list[Share]
    domains: list[Share]
    num_domains: int
    licences: list[Share]
    num_licences: int
    planted: list[Planted]
    stages: list[StageTime] = field(default_factory=list)


def facts_of(rows: Rows) -> Facts:
    """Every count, from the ledgers and the tables beside them."""
    (total, had, kept), *_ = rows.ask("SELECT count(*), count_if(had), count_if(fate = 'kept') FROM rows")
    splits = rows.ask(
        "SELECT coalesce(split, ''), count(*), sum(greatest(coalesce(repeat, 1), 1))::BIGINT FROM rows"
        " WHERE fate = 'kept' GROUP BY 1 ORDER BY 2 DESC, 1"
    )
    domains, num_domains = _shares(rows, "domain", DOMAINS, order="failed")
    licences, num_licences = _shares(rows, "license", LICENCES)
    reasons = _reasons(rows)
    return Facts(
        rows=total,
        had=had,
        kept=kept,
        splits=[(split, number, samples) for split, number, samples in splits],
        optouts=sum(line.rows for line in reasons if line.reason == Reason.OPTOUT_HEADER.value),
        steps=_steps(rows, total),
        reasons=reasons,
        sources=_shares(rows, "source", 50)[0],
        modalities=_shares(rows, "modality", 10)[0],
        languages=_shares(rows, "language", 20)[0],
        domains=[domain for domain in domains if domain.failed],
        num_domains=num_domains,
        licences=licences,
        num_licences=num_licences,
        planted=_planted(rows),
    )


def _steps(rows: Rows, total: int) -> list[Step]:
    """The funnel: given, fetched, decoded, scored, kept; without the steps that this run does not have."""
    losses: dict[int, list[Loss]] = {}
    for fate, reason, number in rows.ask(
        "SELECT fate, reason, count(*) FROM rows WHERE fate <> 'kept' GROUP BY 1, 2 ORDER BY 3 DESC, 2"
    ):
        if fate == "wait_select" and not rows.has_selection:
            continue
        waiting = fate.startswith("wait_")
        name = ("not scored yet" if fate == "wait_score" else "not selected yet") if waiting else reason
        losses.setdefault(_STEP_OF_FATE[fate], []).append(
            Loss(name, number, "waiting" if waiting else _lost_status(reason))
        )
    names = ["given", "fetched", "decoded", "scored", "kept"]
    steps, left = [], total
    for number, name in enumerate(names):
        here = tuple(losses.get(number, ()))
        if name == "scored" and not rows.scorers:
            continue
        if name == "kept" and not rows.has_selection:
            continue
        if name == "decoded" and not rows.scorers:
            here += tuple(losses.get(3, ()))
        steps.append(Step(name, left, here))
        left -= sum(loss.rows for loss in here)
    return steps


def _lost_status(reason: str) -> str:
    return Status.DROPPED.value if reason == UNEXPLAINED else status_of(reason)


def _reasons(rows: Rows) -> list[ReasonCount]:
    order = {"ok": 0, "filtered": 1, "policy": 2, "blocked": 3, "fetch": 4, "content": 5, "decode": 6, "score": 7}
    lines = [
        ReasonCount(reason, reason.partition(".")[0], _lost_status(reason), number, tuple(map(tuple, examples)))
        for reason, number, examples in rows.ask(
            f"SELECT reason, count(*), coalesce(min_by([shard, position], pick, {EXAMPLES}) FILTER (NOT removed), [])"
            " FROM rows GROUP BY 1"
        )
    ]
    return sorted(lines, key=lambda line: (order.get(line.group, 9), -line.rows, line.reason))


def _shares(rows: Rows, column: str, most: int, order: str = "total") -> tuple[list[Share], int]:
    """The `most` largest values of a column, and how many values there are; rows without a value are left out."""
    found = rows.ask(
        f"""
        WITH counted AS (
            SELECT {column} AS name, reason, fate, count(*) AS number FROM rows WHERE {column} IS NOT NULL GROUP BY ALL
        ), known AS (
            SELECT *, CASE WHEN fate = 'kept' THEN 'kept' WHEN fate LIKE 'wait%' THEN 'waiting'
                WHEN split_part(reason, '.', 1) IN ('filtered', 'policy', 'blocked', '{UNEXPLAINED}') THEN 'dropped'
                ELSE 'failed' END AS became FROM counted
        )
        SELECT name, sum(number)::BIGINT AS total,
            coalesce(sum(number) FILTER (became = 'kept'), 0)::BIGINT,
            coalesce(sum(number) FILTER (became = 'dropped'), 0)::BIGINT,
            coalesce(sum(number) FILTER (became = 'failed'), 0)::BIGINT AS failed,
            coalesce(sum(number) FILTER (became = 'waiting'), 0)::BIGINT,
            coalesce(max_by(reason, (number, reason)) FILTER (became = 'failed'), '')
        FROM known GROUP BY name ORDER BY {order} DESC, name LIMIT {most}
        """
    )
    (distinct,), *_ = rows.ask(f"SELECT count(DISTINCT {column}) FROM rows")
    return [Share(*line) for line in found], distinct


def _planted(rows: Rows) -> list[Planted]:
    lines: dict[tuple[str, str], list[tuple[str, int, bool]]] = {}
    for kind, expected, reason, waiting, number in rows.ask(
        "SELECT planted, coalesce(expected, 'ok'), reason, fate LIKE 'wait%' AS waiting, count(*) FROM rows"
        " WHERE coalesce(planted, '') <> '' GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 5 DESC, 3"
    ):
        lines.setdefault((kind, expected), []).append((reason, number, waiting))
    planted = []
    for (kind, expected), found in sorted(lines.items(), key=lambda item: (item[0][0] not in _STATISTICAL, item[0])):
        wanted = set(expected.replace(",", " ").replace("|", " ").split())
        planted.append(
            Planted(
                kind,
                expected,
                sum(number for _, number, _ in found),
                sum(number for reason, number, waiting in found if reason in wanted and not waiting),
                sum(number for _, number, waiting in found if waiting),
                tuple((reason if not waiting else "waiting", number) for reason, number, waiting in found),
                MOST_SHARE if kind in _STATISTICAL else 1.0,
            )
        )
    return planted


def stage_times(parts: Iterable[tuple[str, Counters]]) -> list[StageTime]:
    """One line per stage of every part, in the order they ran."""
    return [
        StageTime(part, name, c.given, c.ok, c.failed, c.dropped, c.seconds)
        for part, counters in parts
        for name, c in counters.stages.items()
    ]
