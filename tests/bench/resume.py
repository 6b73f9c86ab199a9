"""Resume of a finished run with 1,000 shards: how long the same command takes to find that there is nothing to do."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from pathlib import Path

import yaml

from tests.bench.table import Row
from tests.run.world import command, environment

SHARDS = 1000
LIMIT_S = 5.0
ROUNDS = 5


def rows(folder: Path) -> list[Row]:
    """The row of the README's table."""
    table = folder / "links.csv"
    table.write_text(
        "url,caption\n" + "".join(f"ftp://media.example/{row}.jpg,picture {row}\n" for row in range(SHARDS))
    )
    tree = {
        "name": "resume",
        "sources": {"web": {"kind": "url_table", "path": table.name}},
        "plan": {"rows_per_shard": 1},
        "select": [{"dedup": {"by": "url"}}],
    }
    pipeline = folder / "resume.yaml"
    pipeline.write_text(yaml.safe_dump(tree))
    for old in ("runs", "datasets"):  # of an earlier version, whose run this one may not go on with
        shutil.rmtree(folder / old, ignore_errors=True)
    words = command("run", str(pipeline), "--in-process")
    times = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        subprocess.run(words, cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    took_s = statistics.median(times[1:])
    assert len(list((folder / "runs/resume/ledger").iterdir())) == SHARDS
    return [
        Row(
            f"the same command on a finished run of {SHARDS:,} shards",
            f"{took_s:.2f} s",
            f"limit {LIMIT_S:g} s",
            LIMIT_S / took_s,
            1.0,
        )
    ]
