"""What a run writes while it works: one JSON line a step, the samples of every step, the samples it could not use.

runs/train/<name>/config.yaml log.jsonl samples.jsonl quarantine.jsonl sample_stats.parquet checkpoints/ lengths/
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from mmdata.shards import ledger, storage

LOG, SAMPLES, QUARANTINE = "log.jsonl", "samples.jsonl", "quarantine.jsonl"
STATS = "sample_stats.parquet"
_LOSSES = [(name, pa.float64()) for name in ("first_loss", "last_loss", "mean_loss")]
_STATS = pa.schema([("key", pa.string()), ("source", pa.string()), ("times_seen", pa.int32()), *_LOSSES])


class Journal:
    """The three files of a run folder. Lines of steps that a resumed run does again are taken out first."""

    def __init__(self, folder: Path, start_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._files = {}
        for name in (LOG, SAMPLES, QUARANTINE):
            path = folder / name
            kept = [line for line in read(path) if line["step"] < start_step]
            temporary = path.with_name(f".{name}.new")
            temporary.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in kept))
            temporary.replace(path)
            self._files[name] = path.open("ab")

    def write(self, name: str, line: dict[str, Any]) -> None:
        """Append a line, seen by readers at once. Each has its `step`."""
        self._files[name].write(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        self._files[name].flush()

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def write_stats(folder: Path) -> None:
    """`sample_stats.parquet`: how often each key was seen, its first, last and mean loss; joins a ledger by key."""
    losses: dict[str, list[float]] = {}
    seen: dict[str, int] = {}
    sources: dict[str, str] = {}
    for line in read(folder / SAMPLES):
        for key, source, loss, *_ in line["samples"]:
            sources[key] = source
            seen[key] = seen.get(key, 0) + 1
            losses.setdefault(key, []).extend([] if loss is None else [loss])
    rows = [
        {
            "key": key, "source": sources[key], "times_seen": seen[key], "first_loss": found[0] if found else None,
            "last_loss": found[-1] if found else None, "mean_loss": sum(found) / len(found) if found else None,
        }
        for key, found in sorted(losses.items())
    ]  # fmt: skip
    storage.write_whole(str(folder / STATS), ledger.parquet_bytes(pa.Table.from_pylist(rows, schema=_STATS)))


def read(path: Path) -> list[dict[str, Any]]:
    """Lines of one of the files; none where there is no file, and not the last one where a kill cut it."""
    if not path.is_file():
        return []
    lines = []
    for line in path.read_bytes().splitlines():
        try:
            lines.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            break
    return lines
