"""Reading ledgers and scores with DuckDB: the rows that come to the rules, and what is known of every row before them.

Files are read side by side, row by row, as they are row-aligned. Columns are named by their place in the file, so names
that differ only in case do not meet. Every query reads a few shards of the same columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from mmdata.errors import ShardError
from mmdata.select.tables import LEDGER, Chunk, Columns, check_aligned
from mmdata.select.workspace import ID, Identity, Workspace, literal
from mmdata.shards import storage

_BATCH_ROWS = 100_000


def load_kept(work: Workspace, columns: Columns, wanted: Sequence[str], identities: Sequence[Identity]) -> None:
    """Fill `kept` with the rows that are ok so far. Raises ShardError for tables that do not belong together."""
    open_storages(work.db, (path for chunk in columns.chunks for path in chunk.shards[0].paths.values()))

    def load(chunk: Chunk) -> int:
        source = _Source(chunk)
        chosen = [_typed(source, columns, name) for name in wanted]
        chosen += [_identity(source, columns, same) for same in identities]
        rows = ", ".join(["key", *(f"v{number}" for number in range(len(chosen)))])
        values = "".join(f", {sql} AS v{number}" for number, sql in enumerate(chosen))
        query = (
            f"INSERT INTO kept SELECT {ID}, {rows} FROM (SELECT {chunk.first} + row_number() OVER () - 1 AS {ID}, "
            f"{source.column(LEDGER, 'key')} AS key, {source.status} AS status, {source.is_aligned} AS aligned{values} "
            f"FROM {source.tables}) WHERE CASE WHEN aligned THEN status = 'ok' ELSE error('not aligned') END"
        )
        with work.db.cursor() as cursor:
            return int(_ask(cursor, query, chunk).fetchone()[0])

    with ThreadPoolExecutor(work.threads) as pool:
        work.num_kept += sum(pool.map(load, columns.chunks))


def all_rows(work: Workspace, columns: Columns) -> Iterator[pa.Table]:
    """Key, source, modality, parts, status, reason and detail of every row, in order, before any rule; in batches."""
    for chunk in columns.chunks:
        source = _Source(chunk)
        plain = ", ".join(f"{source.column(LEDGER, name)} AS {name}" for name in ("key", "source", "modality", "parts"))
        query = (
            f"SELECT {plain}, {source.status} AS status, {source.reason} AS reason, {source.detail} AS detail "
            f"FROM {source.tables}"
        )
        with work.db.cursor() as cursor:
            reader = _ask(cursor, query, chunk).to_arrow_reader(_BATCH_ROWS)
            yield from (pa.Table.from_batches([batch]) for batch in reader)


def open_storages(db: Any, paths: Iterable[str]) -> None:
    """Let DuckDB read the file systems that the paths lie on."""
    known = set(db.list_filesystems())
    for path in paths:
        if storage.is_remote(path) and path.partition("://")[0] not in known:
            files, _ = storage.filesystem(path)
            db.register_filesystem(files)
            known |= {files.protocol} if isinstance(files.protocol, str) else set(files.protocol)


class _Source:
    """The tables of a chunk in SQL."""

    def __init__(self, chunk: Chunk) -> None:
        self._schemas: Mapping[str, pa.Schema] = chunk.schemas
        self._numbers = {place: number for number, place in enumerate(chunk.schemas)}
        files = {place: [shard.paths[place] for shard in chunk.shards] for place in chunk.schemas}
        self.tables = " POSITIONAL JOIN ".join(self._table(place, files[place]) for place in chunk.schemas)
        self._scorers = [place for place in chunk.schemas if place != LEDGER]
        key = self.column(LEDGER, "key")
        same = [f"{key} IS NOT DISTINCT FROM {self.column(scorer, 'key')}" for scorer in self._scorers]
        self.is_aligned = " AND ".join(same) if same else "true"

    def column(self, place: str, name: str) -> str | None:
        """A column in SQL, or None where the table has none of the name."""
        if place not in self._schemas or name not in self._schemas[place].names:
            return None
        return f"t{self._numbers[place]}.c{self._schemas[place].names.index(name)}"

    def _table(self, place: str, paths: Sequence[str]) -> str:
        number = self._numbers[place]
        names = ", ".join(f"c{column}" for column in range(len(self._schemas[place])))
        return f"read_parquet([{', '.join(map(literal, paths))}]) AS t{number}({names})"

    def _ended(self, ours: str, theirs: str) -> str:
        """What ingest says, or the first scorer that failed on the row."""
        status = self.column(LEDGER, "status")
        cases = ""
        for scorer in self._scorers:
            said = self.column(scorer, theirs) or literal(scorer)
            cases += f" WHEN coalesce({self.column(scorer, 'status')} <> 'ok', false) THEN {said}"
        return f"CASE WHEN {status} <> 'ok' THEN {ours}{cases} ELSE {ours} END" if cases else ours

    @property
    def status(self) -> str:
        return self._ended(str(self.column(LEDGER, "status")), "status")

    @property
    def reason(self) -> str:
        return self._ended(str(self.column(LEDGER, "reason")), "reason")

    @property
    def detail(self) -> str:
        return self._ended(str(self.column(LEDGER, "detail")), "detail")


def _typed(source: _Source, columns: Columns, name: str) -> str:
    return (source.column(*columns.places[name]) if name in columns.places else None) or "NULL"


def _identity(source: _Source, columns: Columns, same: Identity) -> str:
    found = source.column(*columns.places[same.column])
    return same.sql(found) if found else "NULL"


def _ask(cursor: Any, query: str, chunk: Chunk) -> Any:
    import duckdb

    try:
        return cursor.sql(query) if query.startswith("SELECT") else cursor.execute(query)
    except duckdb.Error as error:
        for shard in chunk.shards:
            check_aligned(shard)
        paths = f"{chunk.shards[0].ledger} to {chunk.shards[-1].ledger}"
        raise ShardError(f"{paths}: cannot be read as ledgers: {error}") from error
