"""How fast selection is and what memory it takes: rules over millions of rows, near hashes, near embeddings, pandas.

Every measurement runs in a process of its own, so that its peak memory is its own: `python -m tests.bench.select TASK
FOLDER ROWS` does one and prints what came of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.bench import ledgers
from tests.bench.table import Row

GROWTH_ROWS = (1_000_000, 3_000_000, 10_000_000)
LARGE_ROWS = (*GROWTH_ROWS, 30_000_000)
PANDAS_ROWS = 1_000_000
HASHES, NEAR_BITS = 10_000_000, 6
EMBEDDINGS, WIDTH, COSINE = 300_000, 384, 0.95
LIMIT_S, LIMIT_GB = 60.0, 6.0
HASHES_LIMIT_S, EMBEDDINGS_LIMIT_S = 300.0, 240.0
MIN_SIDE_PX, MIN_SIMILARITY, SHARES = 128, 0.22, {"web": 0.5, "photos": 0.35, "archive": 0.15}
POLL_S = 0.02


@dataclass(frozen=True)
class Measured:
    """Seconds of the clock and of all processors, peak memory of the process and its children, and what it printed."""

    wall_s: float
    cpu_s: float
    peak_gb: float
    found: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.wall_s:.1f} s ({self.cpu_s:.0f} s of cores), {self.peak_gb:.2f} GB"


def measured(task: str, folder: Path, rows: int) -> Measured:
    """One task in a process of its own; what it prepares first is not counted."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.select", task, str(folder), str(rows)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    peak = [0.0]
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, ended, peak))
    watcher.start()
    said, _ = process.communicate()
    ended.set()
    watcher.join()
    assert process.returncode == 0, f"{task}: exit {process.returncode}"
    found = json.loads(said.splitlines()[-1])
    return Measured(found.pop("wall_s"), found.pop("cpu_s"), peak[0] / 1e9, found)


def _watch(pid: int, ended: threading.Event, peak: list[float]) -> None:
    while not ended.wait(POLL_S):
        try:
            root = psutil.Process(pid)
            family = [root, *root.children(recursive=True)]
            peak[0] = max(peak[0], sum(member.memory_info().rss for member in family))
        except psutil.NoSuchProcess:
            pass


def timed(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    start, start_cpu = time.perf_counter(), time.process_time()
    found = work()
    return {"wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - start_cpu, **found}


def rules(folder: Path, rows: int) -> dict[str, Any]:
    """Thresholds, exact dedup by link and by content, and balance; tables written as a run has them."""
    from mmdata.select.balance import Balance
    from mmdata.select.dedup import Dedup
    from mmdata.select.selection import select
    from mmdata.select.thresholds import Thresholds
    from mmdata.shards import ledger

    tables = ledgers.write(folder, rows)
    out = folder / "selection"
    out.mkdir(exist_ok=True)
    limits = {
        "clip_similarity": {"min": MIN_SIMILARITY},
        "width_px": {"min": MIN_SIDE_PX},
        "height_px": {"min": MIN_SIDE_PX},
    }
    chosen: list[Any] = [
        Thresholds.parse(limits, "bench"),
        Dedup(by="url"),
        Dedup(by="sha256", keep_best="clip_similarity"),
        Balance.parse({"by": "source", "shares": SHARES}, "bench"),
    ]

    def work() -> dict[str, Any]:
        counts = select(
            tables,
            chosen,
            seed=17,
            val_share=0.01,
            scratch=folder / "scratch",
            write=lambda shard, table: _put(out / f"{shard:05d}.parquet", ledger.parquet_bytes(table)),
        )
        return {"given": [rule.given for rule in counts.rules], "kept": counts.num_kept}

    return timed(work)


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def with_pandas(folder: Path, rows: int) -> dict[str, Any]:
    """The same rules as one writes them with pandas."""
    import pandas as pd

    tables = ledgers.write(folder, rows)
    out = folder / "selection-pandas"
    out.mkdir(exist_ok=True)
    columns = ["key", "source", "url", "raw_sha256", "status", "reason", "detail", "width_px", "height_px"]

    def work() -> dict[str, Any]:
        frames = []
        for table in tables:
            frame = pd.read_parquet(table.ledger, columns=columns)
            frame["clip_similarity"] = pd.read_parquet(table.scores["image_text"], columns=["clip_similarity"])
            frame["shard"] = table.shard
            frames.append(frame)
        frame = pd.concat(frames, ignore_index=True)
        del frames
        given = []
        for name, value in (("clip_similarity", MIN_SIMILARITY), ("height_px", MIN_SIDE_PX), ("width_px", MIN_SIDE_PX)):
            ok = frame["status"] == "ok"
            given.append(int(ok.sum()))
            low = ok & ~(frame[name] >= value)
            frame.loc[low, ["status", "reason"]] = ["dropped", f"low {name}"]
            frame.loc[low, "detail"] = name + " " + frame.loc[low, name].astype(str)
        for column, order in (("url", []), ("raw_sha256", ["clip_similarity"])):
            kept = frame[frame["status"] == "ok"]
            given.append(len(kept))
            kept = kept.sort_values([*order, "key"], ascending=[*(False for _ in order), True])
            again = kept.index[kept.duplicated(column)]
            frame.loc[again, ["status", "reason"]] = ["dropped", f"duplicate {column}"]
        kept = frame[frame["status"] == "ok"]
        given.append(len(kept))
        have = kept["source"].value_counts()
        most = min(have[name] / share for name, share in SHARES.items())
        chosen = [
            part.iloc[np.argsort(pd.util.hash_array(part["key"].to_numpy()))[: int(SHARES[str(name)] * most)]].index
            for name, part in kept.groupby("source")
        ]
        left_out = kept.index.difference(chosen[0].append(chosen[1:]))
        frame.loc[left_out, ["status", "reason"]] = ["dropped", "balance"]
        frame["keep"] = frame["status"] == "ok"
        frame["split"] = np.where(pd.util.hash_array(frame["key"].to_numpy()) % 100 == 0, "val", "train")
        for shard, part in frame.groupby("shard"):
            decided = part[["key", "status", "reason", "detail", "keep", "split"]]
            decided.to_parquet(out / f"{shard:05d}.parquet", compression="zstd")
        return {"given": [given[0], *given[3:]], "kept": int(frame["keep"].sum())}

    return timed(work)


def near_hashes(folder: Path, rows: int) -> dict[str, Any]:
    """Pairs at most 6 bits apart among random hashes, with 1 % planted copies 1 to 6 bits away; and their groups."""
    from mmdata.select.hamming import near_pairs
    from mmdata.select.neighbours import stars

    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, rows, dtype=np.uint64)
    copies = rows // 100
    flips = np.zeros(copies, np.uint64)
    bits = np.argsort(rng.random((copies, 64)), axis=1)[:, :NEAR_BITS].astype(np.uint64)
    for number in range(NEAR_BITS):
        flips |= np.where(np.arange(copies) % NEAR_BITS >= number, np.uint64(1) << bits[:, number], np.uint64(0))
    hashes[rows - copies :] = hashes[:copies] ^ flips

    def work() -> dict[str, Any]:
        distinct = np.unique(hashes)
        left, right = near_pairs(distinct, NEAR_BITS, len(os.sched_getaffinity(0)))
        leader = stars(left, right, len(distinct))
        places = np.searchsorted(distinct, hashes[:copies]), np.searchsorted(distinct, hashes[rows - copies :])
        found = set(zip(np.minimum(left, right).tolist(), np.maximum(left, right).tolist(), strict=True))
        planted = zip(np.minimum(*places).tolist(), np.maximum(*places).tolist(), strict=True)
        recall = sum(pair in found for pair in planted) / copies
        return {"pairs": len(found), "recall": recall, "groups": int((leader != np.arange(len(leader))).sum())}

    return timed(work)


def near_embeddings(folder: Path, rows: int) -> dict[str, Any]:
    """Pairs with a cosine of at least 0.95 among embeddings of 1,000 topics, with 2 % planted copies at just that."""
    from mmdata.select.semantic import near_pairs

    rng = np.random.default_rng(0)
    copies = rows // 50
    path = folder / f"embeddings-{rows}"
    vectors = np.memmap(path, np.float16, "w+", shape=(rows, WIDTH))
    topics = rng.standard_normal((1000, WIDTH), np.float32)
    for start in range(0, rows, 20_000):
        block = vectors[start : start + 20_000]
        wide = 0.8 * topics[rng.integers(0, 1000, len(block))] + rng.standard_normal(block.shape, np.float32)
        block[:] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    ours = vectors[:copies].astype(np.float32)
    aside = rng.standard_normal(ours.shape, np.float32)
    aside -= (aside * ours).sum(axis=1, keepdims=True) * ours
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    cosine = COSINE + 0.001  # float16 and rounding move a cosine by some 0.0005
    vectors[rows - copies :] = cosine * ours + np.sqrt(1 - cosine**2) * aside
    order = rng.permutation(rows)

    def work() -> dict[str, Any]:
        left, right = near_pairs(vectors, order, COSINE, len(os.sched_getaffinity(0)))
        recall = int(((right - left) == rows - copies).sum()) / copies
        return {"pairs": len(left), "recall": recall}

    return timed(work)


TASKS = {"rules": rules, "pandas": with_pandas, "near-hashes": near_hashes, "near-embeddings": near_embeddings}


def rows(folder: Path, sizes: tuple[int, ...] = GROWTH_ROWS) -> list[Row]:
    """The rows of the README's table; ledgers are made before, and stay for the next time."""
    grown = {size: measured("rules", folder, size) for size in sizes}
    largest = grown[sizes[-1]]
    ten = grown[10_000_000]
    each_s = [found.wall_s / size for size, found in grown.items()]
    linear = min(small / large for small, large in pairwise(each_s))
    said = ", ".join(f"{size // 1_000_000} M: {found.wall_s:.1f} s" for size, found in grown.items())
    near, alike = measured("near-hashes", folder, HASHES), measured("near-embeddings", folder, EMBEDDINGS)
    ours, theirs = grown[PANDAS_ROWS], measured("pandas", folder, PANDAS_ROWS)
    assert ours.found["given"] == theirs.found["given"], (ours.found, theirs.found)
    assert near.found["recall"] >= 0.99, near.found
    assert alike.found["recall"] >= 0.95, alike.found
    (folder / f"embeddings-{EMBEDDINGS}").unlink()
    what = "thresholds, exact dedup and balance"
    limit = f"limit {LIMIT_S:.0f} s, {LIMIT_GB:.0f} GB"
    return [
        Row(f"{what}, 10 million rows", str(ten), limit, min(LIMIT_S / ten.wall_s, LIMIT_GB / ten.peak_gb), 1.0),
        Row(f"the same, time a row (ratio: fewer by more rows); {largest.peak_gb:.2f} GB", said, "linear", linear, 0.8),
        Row(f"{what}, 1 million rows, time", str(ours), f"pandas {theirs}", theirs.wall_s / ours.wall_s, 1.0),
        Row(f"{what}, 1 million rows, memory", str(ours), f"pandas {theirs}", theirs.peak_gb / ours.peak_gb, 1.0),
        Row(
            f"pairs of 10 million hashes at most {NEAR_BITS} bits apart, recall {near.found['recall']:.3f}",
            str(near),
            f"limit {HASHES_LIMIT_S:.0f} s",
            HASHES_LIMIT_S / near.wall_s,
            1.0,
        ),
        Row(
            f"pairs of 300,000 embeddings of {WIDTH}, cosine {COSINE}, recall {alike.found['recall']:.3f}",
            str(alike),
            f"limit {EMBEDDINGS_LIMIT_S:.0f} s",
            EMBEDDINGS_LIMIT_S / alike.wall_s,
            1.0,
        ),
    ]


def large_rows(folder: Path) -> list[Row]:
    """The same up to 30 million rows; the ledgers of those take 2.5 GB."""
    return rows(folder, LARGE_ROWS)


def main() -> None:
    task, folder, number = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    shutil.rmtree(Path(folder) / "scratch", ignore_errors=True)
    print(json.dumps(TASKS[task](Path(folder), int(number))))


if __name__ == "__main__":
    main()
