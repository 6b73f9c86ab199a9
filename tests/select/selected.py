"""Runs of a few rows, selected in memory."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmdata.select.counts import SelectionCounts
from mmdata.select.rules import Rule
from mmdata.select.selection import select
from mmdata.select.tables import ShardTables
from mmdata.shards.folders import RunFolder
from tests.builders import image_sample, write_staged_shard

Fates = dict[str, tuple[str, str]]


def tables_of(run: RunFolder, shards: int) -> list[ShardTables]:
    return [
        ShardTables(number, run.ledger(number), {"image_text": run.scores("image_text", number)})
        for number in range(shards)
    ]


def selected(
    tables: list[ShardTables], rules: list[Rule], scratch: Path, **options: Any
) -> tuple[SelectionCounts, dict[int, pa.Table]]:
    written: dict[int, pa.Table] = {}
    options = {"seed": 17, "val_share": 0.2, **options}
    counts = select(tables, rules, scratch=scratch / "select", write=written.__setitem__, **options)
    return counts, written


def fates_of(written: dict[int, pa.Table]) -> Fates:
    """Reason and detail by key."""
    return {row["key"]: (row["reason"], row["detail"]) for table in written.values() for row in table.to_pylist()}


def write_rows(
    folder: Path, rows: list[dict[str, Any]], per_shard: int = 4, own: dict[str, Any] | None = None
) -> list[ShardTables]:
    """Shards with these rows; a row: number, content, url, similarity and own columns."""
    run = RunFolder(str(folder / f"run-{random.random()}"))
    shards = [rows[start : start + per_shard] for start in range(0, len(rows), per_shard)]
    for number, shard in enumerate(shards):
        samples = []
        for row in shard:
            sample = image_sample("pictures", row["row"], content=0)
            sample.columns |= {"raw_sha256": row.get("content"), "url": row.get("url", f"u{row['row']}")}
            samples.append(sample)
        columns = pa.table({name: [row.get(name) for row in shard] for name in own or ()}) if own else None
        write_staged_shard(run, number, samples, [row.get("similarity", 0.5) for row in shard], own=columns)
    return tables_of(run, len(shards))
