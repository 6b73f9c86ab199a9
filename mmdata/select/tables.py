"""Ledgers and scores of all shards seen as one table: which columns there are, of which types, and where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from mmdata.errors import ConfigError, ShardError
from mmdata.shards import ledger, storage

LEDGER = "ledger"
STATUS = ("key", "status", "reason", "detail")
_CHUNK_SHARDS = 32  # read by one query


@dataclass(frozen=True)
class ShardTables:
    """Where the tables of one staged shard lie: its ledger, and what each scorer left, row-aligned with it."""

    shard: int
    ledger: str
    scores: Mapping[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> dict[str, str]:
        """By place: ledger first, then the scorers."""
        return {LEDGER: self.ledger, **self.scores}


@dataclass(frozen=True)
class Chunk:
    """Neighbouring shards whose tables have the same columns. first: the mmdata_id of the first row.

    schemas: by place. rows: of each shard.
    """

    shards: tuple[ShardTables, ...]
    schemas: Mapping[str, pa.Schema]
    first: int
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Columns:
    """Every column of ledgers and scores: its type over all shards, and where it lies.

    places: by name, (ledger or scorer, column in it). A name that two of them have is there with its place before it
    only, as in `image_text.clip_similarity`. own: by modality, the source's own columns.
    """

    types: dict[str, pa.DataType]
    places: dict[str, tuple[str, str]]
    own: dict[str, pa.Schema]
    chunks: tuple[Chunk, ...]

    @classmethod
    def of(cls, shards: Sequence[ShardTables]) -> Columns:
        """Read the schemas of all files. Raises ConfigError where a column has types that do not go together."""
        schemas: dict[str, list[pa.Schema]] = {}
        own: dict[str, list[pa.Schema]] = {}
        found: list[tuple[ShardTables, dict[str, pa.Schema], int]] = []
        for shard in shards:
            here, rows = {}, {}
            for place, path in shard.paths.items():
                here[place], rows[place] = _schema(path)
                schemas.setdefault(place, []).append(here[place])
                if rows[place] != rows[LEDGER]:
                    raise ShardError(
                        f"{path}: {rows[place]} rows, but its keys are not those of the ledger, row by row"
                    )
            found.append((shard, here, rows[LEDGER]))
            modality, columns = _own(here[LEDGER], shard.ledger)
            own.setdefault(modality, []).append(columns)
        types, places = {}, {}
        owners: dict[str, list[str]] = {}
        merged = {place: unify(group, place) for place, group in schemas.items()}
        for place, schema in merged.items():
            for column in schema:
                if place == LEDGER or column.name not in STATUS:
                    owners.setdefault(column.name, []).append(place)
        for name, having in owners.items():
            for place in having:
                shown = name if len(having) == 1 else f"{place}.{name}"
                places[shown] = (place, name)
                types[shown] = _plain(merged[place].field(name).type)
        owned = {modality: unify(group, modality) for modality, group in own.items()}
        return cls(types, places, owned, tuple(_chunks(found)))


def _chunks(found: Sequence[tuple[ShardTables, dict[str, pa.Schema], int]]) -> Iterator[Chunk]:
    start = first = 0
    while start < len(found):
        end = start + 1
        while end < len(found) and end - start < _CHUNK_SHARDS and found[end][1] == found[start][1]:
            end += 1
        rows = tuple(number for _, _, number in found[start:end])
        yield Chunk(tuple(shard for shard, _, _ in found[start:end]), found[start][1], first, rows)
        start, first = end, first + sum(rows)


def unify(schemas: Sequence[pa.Schema], where: str) -> pa.Schema:
    """One schema with every column of all. Raises ConfigError naming the column whose types do not go together."""
    distinct = list(dict.fromkeys(schema.remove_metadata() for schema in schemas))
    if len(distinct) > 1:
        distinct = [pa.schema([(column.name, _plain(column.type)) for column in schema]) for schema in distinct]
    try:
        return pa.unify_schemas(distinct, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise ConfigError(f"{where}: sources have one column with types that do not go together: {error}") from error


def is_vector(kind: pa.DataType) -> bool:
    """True for columns of embeddings: lists of floating-point numbers."""
    is_list = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and pa.types.is_floating(kind.value_type))


def check_aligned(shard: ShardTables) -> None:
    """Raise ShardError naming a scorer's file whose keys are not those of the ledger."""
    keys = ledger.read(shard.ledger, ["key"])["key"]
    for path in shard.scores.values():
        if not keys.equals(ledger.read(path, ["key"])["key"]):
            raise ShardError(f"{path}: its keys are not those of the ledger, row by row")


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _schema(path: str) -> tuple[pa.Schema, int]:
    try:
        with storage.open_input(path) as file:
            parquet = pq.ParquetFile(file)
            return parquet.schema_arrow, parquet.metadata.num_rows
    except pa.ArrowInvalid as error:
        raise ShardError(f"{path}: cannot be read as a ledger: {error}") from error


def _own(schema: pa.Schema, path: str) -> tuple[str, pa.Schema]:
    """Modality of a ledger and the source's own columns. Raises ShardError naming a file that says no modality."""
    try:
        modality = ledger.modality_of(schema)
    except ShardError as error:
        raise ShardError(f"{path}: {error}") from None
    ours = ledger.RESERVED
    return modality, pa.schema([column for column in schema if column.name not in ours])
