"""`mmdata plan`: what a pipeline would do, counted, and with a pilot what will come of it; as tables and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmdata.config import load
from mmdata.emit.report_text import count, share, size
from mmdata.emit.report_text import seconds as duration
from mmdata.errors import ConfigError
from mmdata.run.catalog import resolve
from mmdata.run.census import SourceRows, take_census
from mmdata.run.funnel import console_of
from mmdata.run.intervals import Interval
from mmdata.run.pilot import run_pilot
from mmdata.run.pipeline import Places, default_places, executor_for
from mmdata.run.projection import Loading, Projection, Wishes, project, to_json
from mmdata.shards import storage
from mmdata.shards.arrow import start_without_pandas


def plan_pipeline(path: str, overrides: Sequence[str], places: Places, wishes: Wishes, json_path: str) -> None:
    """Print the plan of a pipeline, and its projection where a pilot is wished for; write both to `json_path`."""
    if wishes.pilot < 0 or wishes.workers < 1 or wishes.gpus < 0 or wishes.loader_workers < 1:
        raise ConfigError("--pilot, --workers, --gpus, --loader-workers: allowed are whole numbers from 0, 1, 0 and 1")
    if not wishes.pilot and (wishes.prices or wishes.gpus):
        raise ConfigError("--prices, --gpus: need --pilot N, the number of rows to try for real")
    if json_path and not storage.is_remote(json_path) and not Path(json_path).absolute().parent.is_dir():
        raise ConfigError(f"--json {json_path}: there is no such folder")
    start_without_pandas()
    pipeline = load(path, overrides)
    resolved = resolve(pipeline)
    places = default_places(pipeline, places)
    sources = take_census(pipeline, resolved, wishes.pilot)
    console = console_of(None, None)
    console.print(_table(console, ["source", "kind", "modality", "rows", "shards"], _plan_rows(sources), left=3))
    tree: dict[str, Any] = {
        "name": pipeline.name,
        "sources": [
            {name: getattr(source, name) for name in ("name", "kind", "modality", "rows", "shards")}
            for source in sources
        ],
    }
    if wishes.pilot:
        workers = pipeline.run.workers
        at_once = 1 if places.in_process else (os.cpu_count() or 1) if workers == "auto" else workers
        measured = run_pilot(
            pipeline, sources, places.run, lambda piloted: executor_for(piloted, places), wishes.workers, at_once
        )
        found = project(pipeline, resolved, sources, measured, wishes)
        console.print(
            f"\npilot: {count(found.sampled)} of {count(found.rows)} rows; 95 % intervals (all reasons together)"
        )
        console.print(_table(console, ["", "expected", "from", "to", "share"], list(_lines(found))))
        for line in _remarks(found):
            console.print(line, soft_wrap=True)
        tree["projection"] = to_json(found)
    if json_path:
        storage.write_whole(json_path, (json.dumps(tree, indent=1, ensure_ascii=False) + "\n").encode())


def _plan_rows(sources: Sequence[SourceRows]) -> list[list[str]]:
    lines = [[s.name, s.kind, s.modality, count(s.rows), count(s.shards)] for s in sources]
    total = [count(sum(getattr(source, name) for source in sources)) for name in ("rows", "shards")]
    return [*lines, ["all", "", "", *total]] if len(lines) > 1 else lines


def _table(console: Any, head: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else box.ASCII, pad_edge=False)
    for number, name in enumerate(head):
        table.add_column(name, justify="left" if number < left else "right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return table


def _lines(found: Projection) -> Iterator[list[str]]:
    def line(name: str, interval: Interval, shown: Any, of: float = 0) -> list[str]:
        numbers = [shown(each) for each in (interval.value, interval.low, interval.high)]
        return [name, *numbers, share(interval.value, of) if of else ""]

    def rows(number: float) -> str:
        return count(round(number))

    def hours(number: float) -> str:
        return duration(number * 3600)

    yield line("kept", found.kept, rows, found.rows)
    lost = [(reason, each) for reason, each in found.reasons.items() if reason != "ok"]
    for reason, each in sorted(lost, key=lambda item: (-item[1].value, -item[1].high, item[0])):
        yield line(f"  {reason}", each, rows, found.rows)
    yield line("  any other reason", found.unseen, rows, found.rows)
    yield line("samples/s", found.samples_per_s, lambda number: f"{number:,.1f}")
    yield line(f"time on {found.workers} workers", found.wall_hours, hours)
    for part, each in found.hours.items():
        yield line(f"  {part}, of one worker", each, hours)
    yield line("CPU time", found.cpu_hours, hours)
    if found.gpu_hours.value:
        yield line("GPU time", found.gpu_hours, hours)
    yield line("network", found.network_bytes, size)
    yield line("staged media", found.staged_bytes, size)
    yield ["tables, about", size(found.table_bytes), "", "", ""]
    yield line("dataset", found.dataset_bytes, size)
    if found.cost is not None:

        def money(number: float) -> str:
            return f"{number:,.2f}"

        for name in ("cpu", "gpu", "network"):
            yield line(f"  {name}, {found.cost.currency}", getattr(found.cost, name), money)
        yield line(f"cost of the run, {found.cost.currency}", found.cost.once, money)
        yield line(f"storage a month, {found.cost.currency}", found.cost.month, money)


def _remarks(found: Projection) -> Iterator[str]:
    if found.skipped:
        yield f"not projected, as they hang on all rows: {', '.join(found.skipped)}; kept is before them"
    for loading in found.loading:
        yield _loading_line(loading)


def _loading_line(loading: Loading) -> str:
    said = f"{loading.modality}: {count(loading.shards)} training shards for {count(loading.needed)} loader workers"
    if loading.is_enough:
        return f"{said}: enough"
    if not loading.samples_per_shard:
        return f"{said}: too few, and {count(loading.samples)} samples are too few for more; use fewer loader workers"
    return f"{said}: too few; emit.samples_per_shard={loading.samples_per_shard} gives enough"
