"""Ledgers and scores of planted rows, without media: what selection is given, as small Parquet files."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmdata.sample import sample_key
from mmdata.select.rules import Rule
from mmdata.select.tables import ShardTables
from mmdata.shards import ledger, storage
from mmdata.shards.folders import RunFolder
from tests.select.selected import selected

SCORES = ("clip_similarity", "image_embedding")
Rows = Sequence[dict[str, Any]]


def write_planted(folder: Path, rows: Rows, per_shard: int = 50) -> list[ShardTables]:
    """Shards with these rows, one modality a shard; what is no column of ours is the source's own.

    A row needs nothing: `row` is its number, `source` web, `modality` image_text. Scores are in SCORES.
    """
    run = RunFolder(str(folder / f"run-{random.random()}"))
    whole = [{"row": number, "source": "web", "modality": "image_text", **row} for number, row in enumerate(rows)]
    tables = []
    for modality in dict.fromkeys(row["modality"] for row in whole):
        ours = [row for row in whole if row["modality"] == modality]
        for start in range(0, len(ours), per_shard):
            tables.append(_write_shard(run, len(tables), ours[start : start + per_shard], modality))
    return tables


def _write_shard(run: RunFolder, shard: int, rows: Rows, modality: str) -> ShardTables:
    names = {name for row in rows for name in row} - set(SCORES) - {"key"}
    fixed = ledger.schema_of(modality, pa.schema([]), names)
    keys = pa.array([row.get("key") or sample_key(row["source"], row["row"]) for row in rows], pa.string())
    given = {"status": "ok", "reason": "ok", "detail": "", "parts": "jpg"}
    columns = {
        field.name: keys
        if field.name == "key"
        else pa.array([row.get(field.name, given.get(field.name)) for row in rows], field.type)
        for field in fixed
    }
    for name in sorted(names - set(fixed.names)):
        columns[name] = pa.array([row.get(name) for row in rows])
    table = pa.table(columns).replace_schema_metadata(fixed.metadata)
    storage.write_whole(run.ledger(shard), ledger.parquet_bytes(table))
    ok = pa.array(["ok"] * len(rows))
    scores = {"key": keys, "status": ok, "reason": ok, "detail": pa.array([""] * len(rows))}
    scores["clip_similarity"] = pa.array([row.get("clip_similarity") for row in rows], pa.float32())
    vectors = [row.get("image_embedding") for row in rows]
    width = next((len(vector) for vector in vectors if vector is not None), 0)
    if width:
        plain = [None if vector is None else np.asarray(vector, np.float16) for vector in vectors]
        scores["image_embedding"] = pa.array(plain, pa.list_(pa.float16(), width))
    storage.write_whole(run.scores("image_text", shard), ledger.parquet_bytes(pa.table(scores)))
    return ShardTables(shard, run.ledger(shard), {"image_text": run.scores("image_text", shard)})


def kept_rows(folder: Path, rows: Rows, rules: Sequence[Rule], **options: Any) -> dict[str, dict[str, Any]]:
    """The selection's row of every key that is kept."""
    return {key: row for key, row in decided(folder, rows, rules, **options).items() if row["keep"]}


def decided(folder: Path, rows: Rows, rules: Sequence[Rule], **options: Any) -> dict[str, dict[str, Any]]:
    """The selection's row of every key."""
    _, written = selected(write_planted(folder, rows), list(rules), folder, **options)
    return {row["key"]: row for table in written.values() for row in table.to_pylist()}


def facts_of(folder: Path, rows: Rows, rules: Sequence[Rule], **options: Any) -> list[Any]:
    """What every rule tells."""
    counts, _ = selected(write_planted(folder, rows), list(rules), folder, **options)
    return [dict(rule.facts) for rule in counts.rules]
