"""A changed threshold on the finished demo: how long until the new counts are there, told or decided."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.table import Row
from tests.run.world import command, environment

TOP = Path(__file__).parents[2]
LIMIT_S = 2.0
ROUNDS = 5
VALUES = "0.05,0.102,0.2"


def rows(folder: Path) -> list[Row]:
    """The rows of the README's table; the demo's run stays for the next time."""
    places = ["--run", str(folder / "run"), "--dataset", str(folder / "dataset")]
    demo = command("select", "pipelines/demo.yaml", *places, "--in-process")
    serve = [sys.executable, "-m", "pipelines.demo.serve", "--"]
    subprocess.run([*serve, *demo], cwd=TOP, env=environment(), check=True, stdout=subprocess.DEVNULL)
    told = command("select", "pipelines/demo.yaml", *places[:2], "--what-if", f"clip_similarity.min={VALUES}")
    # Each time another one: what was decided before is only read.
    decided = [
        [*demo, f"select.thresholds.clip_similarity.min={0.1 + (time.time_ns() + turn) % 10**9 / 1e11!r}"]
        for turn in range(ROUNDS + 1)
    ]
    told_s, decided_s = _seconds([told] * (ROUNDS + 1)), _seconds(decided)
    what = "a changed threshold on the finished demo"
    limit = f"limit {LIMIT_S:g} s"
    return [
        Row(f"{what}: --what-if with three values", f"{told_s:.2f} s", limit, LIMIT_S / told_s, 1.0),
        Row(f"{what}: decided and written", f"{decided_s:.2f} s", limit, LIMIT_S / decided_s),
    ]


def _seconds(commands: list[list[str]]) -> float:
    """Median; the first warms up."""
    times = []
    for words in commands:
        start = time.perf_counter()
        subprocess.run(words, cwd=TOP, env=environment(), check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
