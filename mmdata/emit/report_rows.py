"""All rows of a run as one narrow DuckDB table on disk, which every number of the report is counted from.

Ledger, scores and selection of a shard are row-aligned, so they are joined shard by shard as Arrow columns and only
what is counted goes in; keys, captions and details stay in the Parquet files and are read for the rows that are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmdata.errors import ShardError
from mmdata.select.outcome import SCHEMA as SELECTION
from mmdata.shards import ledger, storage

UNEXPLAINED = "unexplained"  # not kept, and selection says ok: damage that the page must show
FETCH_GROUPS = ("blocked", "policy", "fetch")
MEMORY_LIMIT = "1GB"  # what DuckDB may hold; the rest of the table lies in the scratch folder
_NO_VALUES = {"key", "status", "reason", "detail"}
_LEDGER = ("key", "source", "modality", "language", "url", "reason", "bytes", "duration_s")
_LEDGER_PICTURES = ("original_width_px", "original_height_px")
_LISTED = ("raw_sha256", "phash")  # with key and link, what a row may be removed by
_OWN = {"license": ("license", "licence"), "planted": ("planted",), "expected": ("expected_reason",)}


@dataclass(frozen=True)
class ShardFiles:
    """Where the tables and the staged tar of one shard lie; `selection` is None before it has run."""

    shard: int
    ledger: str
    scores: dict[str, str]
    selection: str | None
    staged: str


@dataclass(frozen=True)
class Place:
    """One row: the shard and the position in it."""

    shard: int
    position: int


class Rows:
    """The table `rows`, and what is known about its columns.

    Columns: shard, position, pick (a number that orders rows at random, the same way in every run), source, modality,
    language, removed (nothing of the row may be shown), domain, license, planted, expected, bytes, width_px, height_px,
    duration_s, had (ingest has its media), scored, fate, reason, split, repeat, and one column `v_<number>` for each of
    `values`; leader (the key that stands for its duplicates) and, where there is one, its own key.
    fate: fetch | decode | score | select (where it was lost), kept, wait_score, wait_select.

    Of the ledgers' own columns, `columns` are among `values`, besides every number that scorers wrote.
    """

    def __init__(
        self,
        shards: Sequence[ShardFiles],
        columns: Sequence[str],
        scratch: Path,
        removed: Callable[[pa.Table], Any] | None = None,
    ) -> None:
        self._removed = removed
        self.shards = {files.shard: files for files in shards}
        self.scorers = list(dict.fromkeys(name for files in shards for name in files.scores))
        self.has_selection = any(files.selection is not None for files in shards)
        self.scores = _score_columns(shards)
        self.added = _added_columns(shards)
        self.values = list(dict.fromkeys([*self.scores, *self.added, *columns]))
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": str(scratch / "spill"),
        }
        self._connection = duckdb.connect(str(scratch / "rows.duckdb"), config=settings)
        for number, files in enumerate(shards):
            self._connection.register("batch", self._batch(files))
            self._connection.execute(
                "INSERT INTO rows SELECT * FROM batch" if number else "CREATE TABLE rows AS SELECT * FROM batch"
            )
            self._connection.unregister("batch")
        if not shards:
            raise ShardError("a report needs at least one shard that ingest has finished")

    def close(self) -> None:
        self._connection.close()

    def ask(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        found: list[tuple[Any, ...]] = self._connection.execute(query, list(parameters)).fetchall()
        return found

    def ask_with(self, table: pa.Table, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query that may read `table` as `given`."""
        self._connection.register("given", table)
        try:
            return self.ask(query)
        finally:
            self._connection.unregister("given")

    def hidden(self, shard: int) -> set[int]:
        """Positions of the rows of a shard that were removed."""
        return {position for (position,) in self.ask(f"SELECT position FROM rows WHERE shard = {shard} AND removed")}

    def column(self, name: str) -> str:
        """What a score or a limited column is called in `rows`."""
        return f"v_{self.values.index(name)}"

    def _batch(self, files: ShardFiles) -> pa.Table:
        names = column_names(files.ledger)
        own = {ours: _first(names, wanted) for ours, wanted in _OWN.items()}
        listed = _LISTED if self._removed else ()
        extra = [name for name in (*own.values(), *self.values, *listed) if name in names]
        base = ledger.read(
            files.ledger,
            list(dict.fromkeys([*(name for name in (*_LEDGER, *_LEDGER_PICTURES) if name in names), *extra])),
        )
        rows = base.num_rows
        scores = {scorer: _aligned(path, base, embeddings=False) for scorer, path in files.scores.items()}
        selection = _aligned(files.selection, base, embeddings=True) if files.selection else None

        positions = np.arange(rows, dtype=np.uint64)
        identity = np.uint64(files.shard << 24) + positions
        columns: dict[str, Any] = {
            "shard": pa.array(np.full(rows, files.shard, np.int32)),
            "position": pa.array(positions.astype(np.int32)),
            # an odd factor permutes the numbers below 2**64: random to look at, the same in every run, never equal
            "pick": pa.array((identity + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)),
        }
        for name in ("source", "modality", "language"):
            columns[name] = texts(base, name)
        removed = pa.array(np.zeros(rows, bool) if self._removed is None else self._removed(base))
        columns["removed"] = removed
        columns["domain"] = pc.if_else(removed, pa.scalar(None, pa.string()), _domain(texts(base, "url")))
        for ours, theirs in own.items():
            columns[ours] = texts(base, theirs)
        columns["bytes"] = _numbers(base, "bytes", pa.int64())
        columns["width_px"] = _numbers(base, "original_width_px", pa.int32())
        columns["height_px"] = _numbers(base, "original_height_px", pa.int32())
        columns["duration_s"] = _numbers(base, "duration_s", pa.float64())
        leader = pa.nulls(rows, pa.string()) if selection is None else texts(selection, "duplicate_group")
        columns["leader"] = leader
        columns["key"] = pc.if_else(pc.is_valid(leader), texts(base, "key"), pa.scalar(None, pa.string()))
        columns |= self._fates(texts(base, "reason"), scores, selection)
        for name in self.values:
            made = [selection] if selection is not None and name in self.added else []
            tables = (*scores.values(), *made, base)
            # Selection calls a column that several places have `place.name`.
            place, _, short = name.partition(".")
            if place in scores and short in scores[place].column_names:
                columns[self.column(name)] = _numbers(scores[place], short, pa.float64())
                continue
            table = next((table for table in tables if name in table.column_names), base)
            columns[self.column(name)] = _numbers(table, name, pa.float64())
        return pa.table(columns)

    def _fates(self, ingest: Any, scores: dict[str, pa.Table], selection: pa.Table | None) -> dict[str, Any]:
        """Columns had, scored, fate, reason, split, repeat of one shard."""
        rows = len(ingest)
        had = pc.equal(ingest, "ok")
        group = pc.list_element(pc.split_pattern(ingest, "."), 0)
        fate = pc.if_else(pc.is_in(group, pa.array(FETCH_GROUPS)), "fetch", "decode")
        reason = ingest
        scored = pa.array(np.ones(rows, bool)) if not self.scorers else had
        score_reason = pa.nulls(rows, pa.string())
        for scorer in self.scorers:
            if scorer not in scores:
                scored = pa.array(np.zeros(rows, bool))
                continue
            found = texts(scores[scorer], "reason")
            bad = pc.fill_null(pc.not_equal(found, "ok"), False)
            score_reason = pc.if_else(pc.and_(bad, pc.is_null(score_reason)), found, score_reason)
        failed = pc.and_(had, pc.is_valid(score_reason))
        scored = pc.and_(pc.and_(had, scored), pc.invert(failed))
        undecided = pc.if_else(scored, "wait_select", "wait_score")
        if selection is None:
            after, split, repeat = undecided, pa.nulls(rows, pa.string()), pa.nulls(rows, pa.int32())
        else:
            keep = pc.fill_null(selection["keep"], False)
            after = pc.if_else(keep, "kept", "select")
            final = texts(selection, "reason")
            final = pc.if_else(keep, "ok", pc.if_else(pc.equal(final, "ok"), UNEXPLAINED, final))
            reason = pc.if_else(had, final, reason)
            split, repeat = texts(selection, "split"), _numbers(selection, "repeat", pa.int32())
        fate = pc.if_else(had, pc.if_else(failed, "score", after), fate)
        reason = pc.if_else(failed, score_reason, reason)
        return {"had": had, "scored": scored, "fate": fate, "reason": reason, "split": split, "repeat": repeat}


def _score_columns(shards: Sequence[ShardFiles]) -> list[str]:
    """Names of the numbers that scorers wrote; embeddings are lists and stay out."""
    names: dict[str, None] = {}
    seen: set[str] = set()
    for files in shards:
        for scorer, path in files.scores.items():
            if scorer not in seen:
                seen.add(scorer)
                with storage.open_input(path) as file:
                    schema = pq.read_schema(file)
                names |= {f.name: None for f in schema if f.name not in _NO_VALUES and _is_number(f.type)}
    return list(names)


def _added_columns(shards: Sequence[ShardFiles]) -> list[str]:
    """Names of the numbers that rules of selection added; every table of one selection has them."""
    path = next((files.selection for files in shards if files.selection), None)
    if path is None:
        return []
    with storage.open_input(path) as file:
        schema = pq.read_schema(file)
    return [field.name for field in schema if field.name not in SELECTION.names and _is_number(field.type)]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def column_names(path: str) -> list[str]:
    """Names of the columns of a Parquet file. Raises ShardError where it is none."""
    try:
        with storage.open_input(path) as file:
            return list(pq.read_schema(file).names)
    except pa.ArrowInvalid as error:
        raise ShardError(f"{path}: cannot be read as a ledger: {error}") from error


def _first(names: Sequence[str], wanted: Sequence[str]) -> str:
    return next((name for name in names if name.lower() in wanted), "")


def _aligned(path: str, base: pa.Table, embeddings: bool) -> pa.Table:
    """A table beside the ledger, without its embeddings. Raises ShardError where its keys are others."""
    columns = None
    if not embeddings:
        with storage.open_input(path) as file:
            schema = pq.read_schema(file)
        columns = [field.name for field in schema if field.name in _NO_VALUES or _is_number(field.type)]
    table = ledger.read(path, columns)
    if table.num_rows != base.num_rows or not table["key"].equals(base["key"].cast(table["key"].type)):
        raise ShardError(f"{path}: its rows are not those of the ledger of that shard")
    return table


def texts(table: pa.Table, name: str) -> Any:
    """A column as text, one array; nulls where there is none. Bytes that are no UTF-8 are replaced."""
    if name not in table.column_names:
        return pa.nulls(table.num_rows, pa.string())
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_nested(column.type):
        return pa.nulls(table.num_rows, pa.string())
    try:
        text = column.cast(pa.string())
        text.validate(full=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raw = column.cast(pa.binary()).to_pylist()
        return pa.array([None if data is None else data.decode("utf-8", "replace") for data in raw], pa.string())
    return text.combine_chunks()


def _numbers(table: pa.Table, name: str, kind: pa.DataType) -> Any:
    """A column as numbers; nulls where there is none or where it holds something else."""
    if name not in table.column_names or not _is_number(table[name].type):
        return pa.nulls(table.num_rows, kind)
    return table[name].combine_chunks().cast(kind, safe=False)


def _domain(urls: Any) -> Any:
    """The host of each link, lower case; null where there is none."""
    found = pc.extract_regex(urls, r"^[A-Za-z][A-Za-z0-9+.\-]*://(?:[^/?#@]*@)?(?P<host>\[[^\]/]*\]|[^/:?#@]+)")
    return pc.utf8_lower(pc.struct_field(found, "host"))
