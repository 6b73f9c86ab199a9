"""How far one part of a run is: counts, rates, time left, and the words for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmdata.counters import Counters
from mmdata.emit.report_text import count, seconds, share

RATE_WINDOW_S = 60.0
TOP_REASONS = 3
LEAST_S = 0.05  # a rate over less than this says nothing


@dataclass
class PartProgress:
    """One part: what is done of it, by this driver and by earlier ones."""

    name: str
    shards_total: int
    rows_total: int
    began: float
    shards: int = 0
    counters: Counters = field(default_factory=Counters)
    ended: float | None = None
    failed: bool = False
    new_rows: int = 0
    recent: deque[tuple[float, int]] = field(default_factory=deque)
    said: tuple[float, int] = (float("-inf"), -1)  # when its last line was printed, and the rows it named

    @property
    def state(self) -> str:
        return "failed" if self.failed else "running" if self.ended is None else "done"

    def rates(self, now: float) -> tuple[float | None, float | None]:
        """Rows per second of this driver: overall, and over the last 60 s."""
        passed_s = now - self.began
        if not self.new_rows or passed_s < LEAST_S:
            return None, None
        while self.recent and self.recent[0][0] < now - RATE_WINDOW_S:
            self.recent.popleft()
        return self.new_rows / passed_s, sum(rows for _, rows in self.recent) / min(passed_s, RATE_WINDOW_S)

    def to_json(self, now: float) -> dict[str, Any]:
        now = now if self.ended is None else self.ended
        overall, last = self.rates(now)
        rows = self.counters.samples
        rate = last or overall
        eta_s = 0.0 if self.state == "done" else max(self.rows_total - rows, 0) / rate if rate else None
        return {
            "part": self.name,
            "state": self.state,
            "shards_done": self.shards,
            "shards_total": self.shards_total,
            "rows_done": rows,
            "rows_total": self.rows_total,
            "bytes_in": self.counters.bytes_in,
            "bytes_out": self.counters.bytes_out,
            "reasons": dict(sorted(self.counters.reasons.items(), key=lambda item: (-item[1], item[0]))),
            "ok_share": round(self.counters.reasons["ok"] / rows, 4) if rows else None,
            "rows_per_s": None if overall is None else round(overall, 1),
            "rows_per_s_60s": None if last is None else round(last, 1),
            "elapsed_s": round(now - self.began, 1),
            "eta_s": None if eta_s is None else round(eta_s, 1),
        }


def speed_words(facts: Mapping[str, Any]) -> list[str]:
    """Rate, share of ok and time left, as far as they are known."""
    words = []
    if facts["rows_per_s"] is not None:
        rate = facts["rows_per_s"] if facts["state"] == "done" else facts["rows_per_s_60s"]
        words.append(f"{rate:,.0f}/s")
    if facts["rows_done"]:
        words.append(f"ok {share(facts['reasons'].get('ok', 0), facts['rows_done'])}")
    if facts["state"] == "done":
        words.append(f"done in {seconds(facts['elapsed_s'])}")
    elif facts["eta_s"] is not None:
        words.append(f"ETA {seconds(round(facts['eta_s']))}")
    return words


def top_reasons(reasons: Mapping[str, int]) -> str:
    worst = [(reason, number) for reason, number in reasons.items() if reason != "ok"][:TOP_REASONS]
    return ", ".join(f"{reason} {count(number)}" for reason, number in worst)
