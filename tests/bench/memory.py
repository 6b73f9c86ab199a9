"""Peak memory: of a worker with its child at shards of 10,000 samples, and of the driver at 10 times the rows."""

from __future__ import annotations

import subprocess
import threading
from collections import defaultdict
from pathlib import Path

import psutil
import yaml

from tests.bench import corpus
from tests.bench.table import Row
from tests.run.world import command, environment

SHARD_ROWS = 10_000
WORKER_LIMIT_MB = 1200
DRIVER_ROWS = (20_000, 200_000)
SAMPLE_S = 0.1


def peaks_mb(words: list[str], folder: Path) -> dict[str, float]:
    """Run a command; peak resident memory in MB of its `driver`, and of the largest `worker` with its child."""
    process = subprocess.Popen(command(*words), cwd=folder, env=environment(), stdout=subprocess.DEVNULL)
    peaks: dict[str, float] = defaultdict(float)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            for name, size_mb in _sizes_mb(process.pid):
                peaks[name] = max(peaks[name], size_mb)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    ended.set()
    watcher.join()
    assert code == 0, f"{words}: exit {code}"
    return peaks


def _sizes_mb(driver: int) -> list[tuple[str, float]]:
    sizes = []
    try:
        root = psutil.Process(driver)
        sizes.append(("driver", root.memory_info().rss / 1e6))
        for process in root.children(recursive=True):
            if process.name().startswith("ray::"):
                family = [process, *process.children(recursive=True)]
                sizes.append(("worker", sum(member.memory_info().rss for member in family) / 1e6))
    except psutil.NoSuchProcess:
        pass
    return sizes


def _write(folder: Path, name: str, tree: dict[str, object]) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": name, "run": {"workers": 2}, **tree}))
    return str(path)


def worker_peak_mb(folder: Path) -> float:
    """Peak of a worker that ingests, and of one that emits, one shard of 10,000 pictures."""
    pictures = corpus.build(folder, 2000)
    with corpus.nginx(pictures, folder) as port:
        table = folder / "links.csv"
        names = [path.name for path in sorted(pictures.iterdir())]
        lines = [f"http://media.example/{names[row % len(names)]},picture {row}" for row in range(2 * SHARD_ROWS)]
        table.write_text("url,caption\n" + "\n".join(lines) + "\n")
        pipeline = _write(
            folder,
            "worker",
            {
                "sources": {"web": {"kind": "url_table", "path": table.name}},
                "plan": {"rows_per_shard": SHARD_ROWS},
                "fetch": {
                    "allow_networks": ["127.0.0.0/8"],
                    "connect_to": {"media.example": f"127.0.0.1:{port}"},
                    "per_host": 32,
                },
                "stages": [{"decode_image": {}}, {"hash_image": {}}, {"channel_stats": {}}],
            },
        )
        subprocess.run(["rm", "-rf", str(folder / "runs"), str(folder / "datasets")], check=True)
        return peaks_mb(["run", pipeline], folder)["worker"]


def driver_peak_mb(folder: Path, rows: int) -> float:
    """Peak of the driver for a table whose links are all refused before any request."""
    table = folder / f"refused-{rows}.csv"
    table.write_text("url,caption\n" + "".join(f"ftp://media.example/{row}.jpg,picture {row}\n" for row in range(rows)))
    tree = {"sources": {"web": {"kind": "url_table", "path": table.name}}, "plan": {"rows_per_shard": 2000}}
    pipeline = _write(folder, f"driver-{rows}", tree)
    subprocess.run(["rm", "-rf", str(folder / "runs"), str(folder / "datasets")], check=True)
    return peaks_mb(["ingest", pipeline], folder)["driver"]


def rows(folder: Path) -> list[Row]:
    """The rows of the README's table."""
    worker_mb = worker_peak_mb(folder)
    small_mb, large_mb = (driver_peak_mb(folder, rows) for rows in DRIVER_ROWS)
    what = f"peak memory of the driver, {DRIVER_ROWS[1]:,} rows against {DRIVER_ROWS[0]:,} (ratio: small by large)"
    worker, limit = "peak memory of a worker and its decoding child, shards of 10,000", f"limit {WORKER_LIMIT_MB} MB"
    return [
        Row(worker, f"{worker_mb:.0f} MB", limit, WORKER_LIMIT_MB / worker_mb, 1.0),
        Row(what, f"{large_mb:.0f} MB", f"{small_mb:.0f} MB", small_mb / large_mb, 0.8),
    ]
