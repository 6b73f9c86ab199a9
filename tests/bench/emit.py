"""How fast emit writes: samples/s of one core, and against `cp` plus `sha256sum` of the very bytes that it wrote.

The race runs in a process of its own that is bound to one core, and so are `cp` and `sha256sum`, which it starts:
`python -m tests.bench.emit FORMAT FOLDER SAMPLES BYTES` does it and prints what came of it. Ours makes files durable
(fsync) before they count; `cp` does not. A core second is one that the core works, without the waiting for the disk.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from mmdata.config import EmitOptions
from mmdata.emit.plan import StagedShard, WindowJob, plan_windows
from mmdata.emit.window import emit_window
from mmdata.select.selection import select
from mmdata.select.tables import ShardTables
from mmdata.shards import ledger, storage
from mmdata.shards.arrow import start_without_pandas
from mmdata.shards.folders import RunFolder
from mmdata.shards.tar import TarWriter
from tests.bench import ledgers
from tests.bench.table import Row

SMALL_BYTES, SMALL_SAMPLES = 15_000, 20_000
LARGE_BYTES, LARGE_SAMPLES = 256_000, 2_000
LIMIT_PER_S, LIMIT_RATIO = 8_000, 0.6
STAGED_SHARDS = 2
ROUNDS = 5
SEED = 17


def staged_run(folder: Path, samples: int, sample_bytes: int) -> list[StagedShard]:
    """A run of `samples` rows with media of that size, nearly all kept; made once, and stays for the next time."""
    run = RunFolder(str(folder / f"run-{samples}-{sample_bytes}"))
    places = [ShardTables(n, run.ledger(n), {"image_text": run.scores("image_text", n)}) for n in range(STAGED_SHARDS)]
    chosen = {n: run.selection("s", n) for n in range(STAGED_SHARDS)}
    if not all(Path(path).exists() for path in chosen.values()):
        for place in places:
            _write_shard(run, place, samples // STAGED_SHARDS, sample_bytes)
        select(
            places,
            [],
            seed=SEED,
            val_share=0,
            scratch=folder / "scratch-select",
            write=lambda shard, table: storage.write_whole(chosen[shard], ledger.parquet_bytes(table)),
        )
    return [StagedShard(p.shard, run.staged(p.shard), p.ledger, chosen[p.shard], dict(p.scores)) for p in places]


def _write_shard(run: RunFolder, place: ShardTables, rows: int, sample_bytes: int) -> None:
    table, scores = ledgers.tables_of(place.shard * rows, rows)
    storage.write_whole(place.ledger, ledger.parquet_bytes(table))
    storage.write_whole(place.scores["image_text"], ledger.parquet_bytes(scores))
    rng = np.random.default_rng(place.shard)
    staged = Path(run.staged(place.shard))
    staged.parent.mkdir(parents=True, exist_ok=True)
    with staged.open("wb") as file:
        writer = TarWriter(file)
        for key, status in zip(table["key"].to_pylist(), table["status"].to_pylist(), strict=True):
            if status == "ok":
                writer.add(key, {"jpg": rng.bytes(int(sample_bytes * rng.uniform(0.8, 1.2)))})
        writer.close()


def race(kind: str, folder: Path, samples: int, sample_bytes: int) -> dict[str, Any]:
    """Paired rounds on one core; seconds of ours and theirs, samples and bytes."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    start_without_pandas()
    staged = staged_run(folder, samples, sample_bytes)
    jobs = _jobs(staged, folder, kind)
    kept = sum(sum(output.sizes) for job in jobs for output in job.outputs)
    ours_s, theirs_s, core_s, size = [], [], [], 0
    for number in range(ROUNDS + 1):
        for name in ("dataset", "copy", "scratch"):
            shutil.rmtree(folder / name, ignore_errors=True)
        os.sync()
        start, start_core = time.perf_counter(), time.process_time()
        files = _emit(jobs, folder)
        took, of_core = time.perf_counter() - start, time.process_time() - start_core
        os.sync()
        (folder / "copy").mkdir()
        paths = [str(folder / "dataset" / path) for path in files]
        start = time.perf_counter()
        subprocess.run(["cp", "--parents", *paths, str(folder / "copy")], check=True)
        copies = [f"{folder}/copy{path}" for path in map(os.path.abspath, paths)]
        subprocess.run(["sha256sum", *copies], check=True, stdout=subprocess.DEVNULL)
        if number:  # the first pair warms up
            theirs_s.append(time.perf_counter() - start)
            ours_s.append(took)
            core_s.append(of_core)
        size = sum(os.path.getsize(path) for path in paths)
    ratio = statistics.median(theirs / ours for ours, theirs in zip(ours_s, theirs_s, strict=True))
    for name in ("dataset", "copy", "scratch"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return {
        "samples": kept,
        "bytes": size,
        "ours_s": statistics.median(ours_s),
        "core_s": statistics.median(core_s),
        "theirs_s": statistics.median(theirs_s),
        "ratio": ratio,
    }


def _jobs(staged: list[StagedShard], folder: Path, kind: str) -> list[WindowJob]:
    """One window, cut into shards of 10,000 samples or less."""
    from mmdata.select.counts import KeptCount, SelectionCounts

    kept = []
    for shard in staged:
        rows = sum(ledger.read(shard.selection, ["keep"])["keep"].to_pylist())
        kept.append(KeptCount(shard.shard, "image_text", "train", "jpg", rows, rows))
    options = EmitOptions(formats=[kind])  # type: ignore[list-item]
    return plan_windows(staged, SelectionCounts(kept=kept), options, seed=SEED)


def _emit(jobs: list[WindowJob], folder: Path) -> list[str]:
    """All windows, each file under its final name; returns the names."""
    root = str(folder / "dataset")
    paths = []
    for job in jobs:
        result = emit_window(job, root, "attempt", folder / "scratch")
        for file in result.files:
            storage.publish(storage.join(root, file.attempt_path), storage.join(root, file.path), file.sha256)
            paths.append(file.path)
    return paths


def measured(kind: str, folder: Path, samples: int, sample_bytes: int) -> dict[str, Any]:
    """A race in a process of its own."""
    words = [sys.executable, "-m", "tests.bench.emit", kind, str(folder), str(samples), str(sample_bytes)]
    said = subprocess.run(words, cwd=Path(__file__).parents[2], check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def rows(folder: Path) -> list[Row]:
    """The rows of the README's table; the staged runs take 0.8 GB and stay for the next time."""
    made = []
    for kind, promised in (("webdataset", True), ("parquet", False)):
        large = measured(kind, folder, LARGE_SAMPLES, LARGE_BYTES)
        small = measured(kind, folder, SMALL_SAMPLES, SMALL_BYTES)
        per_core_s = small["samples"] / small["core_s"]
        made += [
            Row(
                f"emit {kind}, 256 kB a sample, one core",
                f"{large['bytes'] / large['ours_s'] / 1e6:,.0f} MB/s",
                f"cp + sha256sum {large['bytes'] / large['theirs_s'] / 1e6:,.0f} MB/s",
                large["ratio"],
                LIMIT_RATIO if promised else None,
            ),
            Row(
                f"emit {kind}, 15 kB a sample, one core (of cp + sha256sum: {small['ratio']:.2f})",
                f"{per_core_s:,.0f} samples a core second, {small['samples'] / small['ours_s']:,.0f} a second",
                f"limit {LIMIT_PER_S:,} a core second",
                per_core_s / LIMIT_PER_S,
                1.0 if promised else None,
            ),
        ]
    return made


def main() -> None:
    kind, folder, samples, sample_bytes = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    print(json.dumps(race(kind, Path(folder), int(samples), int(sample_bytes))))


if __name__ == "__main__":
    main()
