"""Ledgers and scores of all shards seen as one table: which columns there are, and the rows that come to selection."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmdata.errors import ConfigError, ShardError
from mmdata.select.workspace import ID
from mmdata.shards import ledger, storage

LEDGER = "ledger"
_STATUS = ("key", "status", "reason", "detail")
_LOAD_ROWS = 200_000  # rows given to DuckDB at once


@dataclass(frozen=True)
class ShardTables:
    """Where the tables of one staged shard lie: its ledger, and what each scorer left, row-aligned with it."""

    shard: int
    ledger: str
    scores: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Columns:
    """Every column of ledgers and scores: its type over all shards, and where it lies.

    places: by name, (ledger or scorer, column in it). A name that two of them have is there with its place before it
    only, as in `image_text.clip_similarity`.
    """

    types: dict[str, pa.DataType]
    places: dict[str, tuple[str, str]]
    own: dict[str, pa.Schema]

    @classmethod
    def of(cls, shards: Sequence[ShardTables]) -> Columns:
        """Read the schemas of all files. Raises ConfigError where a column has types that do not go together."""
        schemas: dict[str, list[pa.Schema]] = {}
        own: dict[str, list[pa.Schema]] = {}
        for shard in shards:
            schema = _schema(shard.ledger)
            schemas.setdefault(LEDGER, []).append(schema)
            modality, columns = _own(schema)
            own.setdefault(modality, []).append(columns)
            for scorer, path in shard.scores.items():
                schemas.setdefault(scorer, []).append(_schema(path))
        types, places = {}, {}
        owners: dict[str, list[str]] = {}
        merged = {place: unify(group, place) for place, group in schemas.items()}
        for place, schema in merged.items():
            for column in schema:
                if place == LEDGER or column.name not in _STATUS:
                    owners.setdefault(column.name, []).append(place)
        for name, found in owners.items():
            for place in found:
                shown = name if len(found) == 1 else f"{place}.{name}"
                places[shown] = (place, name)
                types[shown] = merged[place].field(name).type
        return cls(types, places, {modality: unify(group, modality) for modality, group in own.items()})


def unify(schemas: Sequence[pa.Schema], where: str) -> pa.Schema:
    """One schema with every column of all. Raises ConfigError naming the column whose types do not go together."""
    distinct = list(dict.fromkeys(schema.remove_metadata() for schema in schemas))
    try:
        return pa.unify_schemas(distinct, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise ConfigError(f"{where}: sources have one column with types that do not go together: {error}") from error


def read_shard(shard: ShardTables, columns: Mapping[str, Collection[str]]) -> tuple[pa.Table, dict[str, pa.Table]]:
    """Ledger of a shard and its scores by scorer, with key, status, reason, detail and those of `columns` there are.

    columns: by place (ledger or scorer). Raises ShardError where a scorer's rows are not those of the ledger.
    """
    given = _read(shard.ledger, [*_STATUS, *columns.get(LEDGER, ())])
    scores = {}
    for scorer, path in shard.scores.items():
        scores[scorer] = _read(path, [*_STATUS, *columns.get(scorer, ())])
        if not given["key"].equals(scores[scorer]["key"]):
            raise ShardError(f"{path}: its keys are not those of the ledger, row by row")
    return given, scores


def statuses(given: pa.Table, scores: Mapping[str, pa.Table]) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Status, reason and detail of every row before any rule: of ingest, or of the first scorer that failed on it."""
    status, reason, detail = (given[name].combine_chunks() for name in _STATUS[1:])
    for scorer, scored in scores.items():
        theirs = scored["status"].combine_chunks()
        ended = pc.and_(pc.equal(status, "ok"), pc.fill_null(pc.not_equal(theirs, "ok"), False))
        if pc.any(ended).as_py():
            said = scored["detail"].combine_chunks() if "detail" in scored.column_names else pa.scalar(scorer)
            status = pc.if_else(ended, theirs, status)
            reason = pc.if_else(ended, scored["reason"].combine_chunks(), reason)
            detail = pc.if_else(ended, said, detail)
    return status, reason, detail


def ok_rows(shards: Sequence[ShardTables], wanted: Sequence[str], columns: Columns) -> Iterator[pa.Table]:
    """Rows that are ok so far: mmdata_id, key and the wanted columns; several shards in one table, in order."""
    names: dict[str, list[str]] = {}
    for name in wanted:
        place, column = columns.places[name]
        names.setdefault(place, []).append(column)
    waiting: list[pa.Table] = []
    first = 0
    for shard in shards:
        given, scores = read_shard(shard, names)
        tables = {LEDGER: given, **scores}
        num_rows = given.num_rows
        rows: dict[str, Any] = {ID: pa.array(np.arange(first, first + num_rows)), "key": given["key"]}
        for name in wanted:
            place, column = columns.places[name]
            kind, table = columns.types[name], tables.get(place)
            has = table is not None and column in table.column_names
            rows[name] = table[column].cast(kind) if table is not None and has else pa.nulls(num_rows, kind)
        status, _, _ = statuses(given, scores)
        waiting.append(pa.table(rows).filter(pc.equal(status, "ok")))
        first += num_rows
        if sum(table.num_rows for table in waiting) >= _LOAD_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _read(path: str, names: Collection[str]) -> pa.Table:
    """The columns of a Parquet file that it has, read whole. Raises ShardError naming the file where it is none."""
    try:
        with storage.open_input(path) as file:
            parquet = pq.ParquetFile(file)
            here = set(parquet.schema_arrow.names)
            return parquet.read(columns=[name for name in dict.fromkeys(names) if name in here], use_threads=False)
    except pa.ArrowInvalid as error:
        raise ShardError(f"{path}: cannot be read as a ledger: {error}") from error


def _schema(path: str) -> pa.Schema:
    try:
        with storage.open_input(path) as file:
            return pq.read_schema(file)
    except pa.ArrowInvalid as error:
        raise ShardError(f"{path}: cannot be read as a ledger: {error}") from error


def _own(schema: pa.Schema) -> tuple[str, pa.Schema]:
    """Modality of a ledger, known by its columns, and the source's own ones."""
    for modality, extra in ledger.BY_MODALITY.items():
        if set(extra.names) <= set(schema.names):
            ours = {*ledger.COMMON.names, *extra.names}
            return modality, pa.schema([column for column in schema if column.name not in ours])
    return "", pa.schema([column for column in schema if column.name not in ledger.RESERVED])
