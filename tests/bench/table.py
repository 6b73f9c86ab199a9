"""The table of measurements in the README: rows, the machine they are from, and where they stand."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


@dataclass(frozen=True)
class Row:
    """One measurement: ours, the peer's, how many times (or how much of) the peer's, and the least we promise."""

    what: str
    ours: str
    peer: str
    ratio: float | None
    promised: float | None = None

    @property
    def line(self) -> str:
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        promised = "" if self.promised is None else f"{self.promised:g}"
        return f"| {self.what} | {self.ours} | {self.peer} | {ratio} | {promised} |"

    @property
    def is_kept(self) -> bool:
        return self.promised is None or self.ratio is None or self.ratio >= self.promised


def machine() -> str:
    """The machine in words."""
    name = platform.processor() or platform.machine()
    with open("/proc/cpuinfo") as file:
        name = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), name)
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return f"{os.cpu_count()} cores ({name}), {memory_gb} GB, Python {platform.python_version()}"


def write(section: str, rows: Sequence[Row]) -> str:
    """Put the rows of a section between its marks in the README; returns them as text."""
    begin, end = f"<!-- bench:{section} -->", f"<!-- /bench:{section} -->"
    table = "\n".join(
        [
            f"Measured on {machine()} by `make bench ARGS={section}`.",
            "",
            "| what | mmdata | against | ratio | promised |",
            "|---|--:|--:|--:|--:|",
            *(row.line for row in rows),
        ]
    )
    text = README.read_text(encoding="utf-8")
    before, found, rest = text.partition(begin)
    if not found or end not in rest:
        raise SystemExit(f"README.md: the marks {begin} and {end} are missing")
    README.write_text(f"{before}{begin}\n{table}\n{rest[rest.index(end) :]}", encoding="utf-8")
    return table
