"""The kept rows of a window as tables: our columns, annotations, scores, the source's own; row by row the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmdata.emit.layout import MEDIA_COLUMNS
from mmdata.emit.plan import Output, StagedShard, WindowJob
from mmdata.errors import ShardError
from mmdata.select.counts import schema_of_text
from mmdata.shards import ledger

TAKEN = {  # names in the final files that are ours or img2dataset's: an own column or score of that name is renamed
    *("caption", "url", "key", "status", "error_message", "width", "height", "original_width", "original_height"),
    *("sha256", "extra", "image", "images", "messages", "source", "language", "exif"),
    *("width_px", "height_px", "original_width_px", "original_height_px"),
}


_FIXED = {*ledger.COMMON.names, *(name for schema in ledger.BY_MODALITY.values() for name in schema.names)}
_NOT_FOR_SCORES = {*TAKEN, *MEDIA_COLUMNS, *ledger.RESERVED, "row_group"}


@dataclass(frozen=True)
class WindowRows:
    """Kept rows of one modality of a window, in the order of the staged shards.

    rows: the ledger's columns, and shard (number), repeat, split. annotations: what stages added. scores: number and
    text columns, and after them what rules added. own: the source's own columns. All but `rows` have the key as their
    first column. added: names of those of `scores` that are from rules.
    """

    rows: pa.Table
    annotations: pa.Table
    scores: pa.Table
    own: pa.Table
    added: tuple[str, ...] = ()

    def take(self, places: Sequence[int]) -> WindowRows:
        """The rows at these places, in this order."""
        chosen = pa.array(places, pa.int64())
        rows, annotations, scores, own = (
            table.take(chosen) for table in (self.rows, self.annotations, self.scores, self.own)
        )
        return WindowRows(rows, annotations, scores, own, self.added)

    def copies(self, output: Output, seed: int) -> list[tuple[str, int]]:
        """Key in the dataset and place of every sample of an output, shuffled by a seeded hash of the key."""
        chosen = pc.and_(
            pc.and_(pc.equal(self.rows["modality"], output.modality), pc.equal(self.rows["split"], output.split)),
            pc.equal(self.rows["parts"], output.parts),
        )
        places = np.flatnonzero(chosen.to_numpy())
        picked = self.rows.select(["key", "repeat"]).take(pa.array(places))
        copies = [
            (copy_key(key, copy), int(place))
            for key, repeat, place in zip(
                picked["key"].to_pylist(), picked["repeat"].to_pylist(), places.tolist(), strict=True
            )
            for copy in range(1, repeat + 1)
        ]
        return sorted(copies, key=lambda copy: (shuffle_hash(seed, copy[0]), copy[0]))


def copy_key(key: str, copy: int) -> str:
    """Key of the `copy`-th time a sample is in the dataset: the first keeps its own, the second is `...-x02`."""
    return key if copy == 1 else f"{key}-x{copy:02d}"


def shuffle_hash(seed: int, key: str) -> bytes:
    """Where a sample comes in the shuffled order of its window."""
    return hashlib.md5(f"{seed}:emit:{key}".encode(), usedforsecurity=False).digest()


def read_window(job: WindowJob) -> dict[str, WindowRows]:
    """The kept rows of all shards of a window, by modality. Raises ShardError where tables do not belong together."""
    found: dict[str, list[WindowRows]] = {}
    for shard in job.shards:
        rows = _read_shard(job, shard)
        if rows.rows.num_rows:
            found.setdefault(rows.rows["modality"][0].as_py(), []).append(rows)
    return {modality: _joined(job, modality, parts) for modality, parts in found.items()}


def _joined(job: WindowJob, modality: str, parts: Sequence[WindowRows]) -> WindowRows:
    annotations = {name: ledger.ANNOTATIONS[name] for name in job.annotations.get(modality, ())}
    own = {field.name: field.type for field in job.own_schema(modality)}
    return WindowRows(
        _concat([part.rows for part in parts]),
        _concat([_typed(part.annotations, annotations) for part in parts]),
        _concat([part.scores for part in parts]),
        _concat([_typed(part.own, own) for part in parts]),
        parts[0].added,
    )


def _concat(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="permissive").combine_chunks()


def _typed(table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The columns of the whole run with their types there, so that every window writes the same schema."""
    columns: dict[str, Any] = {"key": table["key"]}
    for name, kind in types.items():
        columns[name] = table[name].cast(kind) if name in table.column_names else pa.nulls(table.num_rows, kind)
    return pa.table(columns)


def _read_shard(job: WindowJob, shard: StagedShard) -> WindowRows:
    table = ledger.read(shard.ledger)
    by_rules = job.added_schema(ledger.modality_of(table.schema))
    chosen = ledger.read(shard.selection, ["key", "keep", "repeat", "split", *by_rules.names])
    keep = chosen["keep"]
    _check_aligned(shard.selection, table["key"], chosen["key"])
    known = {name for names in job.annotations.values() for name in names}
    noted = [name for name in table.column_names if name in known]
    ours = [name for name in table.column_names if name in _FIXED]
    own = [name for name in table.column_names if name not in ledger.RESERVED]
    rows = table.select(ours).filter(keep)
    rows = rows.append_column("shard", pa.array([shard.shard] * rows.num_rows, pa.int32()))
    for name in ("repeat", "split"):
        rows = rows.append_column(name, chosen[name].filter(keep))
    scores: dict[str, pa.ChunkedArray] = {}
    for scorer, path in shard.scores.items():
        schema = schema_of_text(job.scores[scorer])
        scored = ledger.read(path, ["key", *schema.names])  # not embeddings: they are many times the rest
        _check_aligned(path, table["key"], scored["key"])
        for field in schema:
            free = field.name not in scores and field.name not in _NOT_FOR_SCORES
            values = scored[field.name].filter(keep).cast(field.type)
            scores[field.name if free else f"{scorer}_{field.name}"] = values
    added = {}
    for field in by_rules:
        free = field.name not in scores and field.name not in _NOT_FOR_SCORES
        added[field.name if free else f"select_{field.name}"] = chosen[field.name].filter(keep).cast(field.type)
    # A table without columns forgets how many rows it has, so the key is in all of them.
    key = {"key": rows["key"]}
    annotated, owned = (table.select(names).filter(keep).add_column(0, "key", rows["key"]) for names in (noted, own))
    return WindowRows(rows, annotated, pa.table({**key, **scores, **added}), owned, tuple(added))


def _check_aligned(path: str, keys: pa.ChunkedArray, theirs: pa.ChunkedArray) -> None:
    if not keys.equals(theirs):
        raise ShardError(f"{path}: its keys are not those of the ledger, row by row")
