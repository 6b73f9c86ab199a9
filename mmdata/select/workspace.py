"""The rows still kept, as a DuckDB table that spills to disk, and what the rules decide about them.

Table `kept` has one row per sample that is still in: `mmdata_id` (its place in the order of all rows), `key`, and the
columns that the rules read. Memory stays under a limit whatever the number of rows: the rest goes to `scratch`.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmdata.errors import Reason, Status
from mmdata.sample import DETAIL_CHARS

ID = "mmdata_id"
# A sample's key without the suffixes of children and augmented copies: sample.root_key, for RE2.
_DESCENT = r"(_\d{4,})?(-x\d+)?$"
_HASHES = 2**64


class VectorReader(Protocol):
    """Reads a column of embeddings of some rows."""

    def read(self, column: str, ids: NDArray[np.int64], path: Path) -> tuple[NDArray[np.bool_], NDArray[np.float16]]:
        """For ascending ids: which have a vector, and those vectors as a memory map at `path`; float16 [n, width]."""


def stable_hash(seed: int, use: str, text: str) -> int:
    """Uniform number in [0, 2^64) that is the same on any machine; `use` keeps two uses of a seed apart."""
    return int.from_bytes(hashlib.md5(f"{seed}:{use}:{text}".encode(), usedforsecurity=False).digest()[:8], "little")


def stable_hash_sql(seed: int, use: str, text_sql: str) -> str:
    """SQL for `stable_hash` of a string expression."""
    # The first eight bytes; DuckDB's own md5_number_upper gives the same at five times the cost.
    return f"(md5_number(concat({literal(f'{seed}:{use}:')}, {text_sql})) & {_HASHES - 1}::UHUGEINT)::UBIGINT"


def below_share_sql(hash_sql: str, share: float) -> str:
    """SQL that is true for `share` of all hashes."""
    limit = round(share * _HASHES)
    return "true" if limit >= _HASHES else f"({hash_sql} < {limit}::UBIGINT)"


def root_key_sql(key_sql: str) -> str:
    """SQL for `sample.root_key`."""
    return f"regexp_replace({key_sql}, {literal(_DESCENT)}, '')"


def literal(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def quoted(column: str) -> str:
    """A column's name in SQL."""
    return '"' + column.replace('"', '""') + '"'


@dataclass(frozen=True, order=True)
class Identity:
    """128 bits of a column, of which a rule only asks whether two rows have the same; null where the column is.

    normalise: SQL that what is compared is made with; `{}` stands for the column as text.
    """

    column: str
    normalise: str = "{}"

    @property
    def name(self) -> str:
        """Its column in `kept`."""
        return f"{self.column} (identity {hashlib.md5(self.normalise.encode(), usedforsecurity=False).hexdigest()[:8]})"

    def sql(self, column_sql: str) -> str:
        return f"md5_number({self.normalise.format(f'{column_sql}::VARCHAR')})"


class Workspace:
    """What a rule works on: `db` with the table `kept`, the seed, and the types of the loaded columns.

    facts: what rules have to tell about their work, by rule number; plain values, small whatever the number of rows.
    """

    def __init__(
        self,
        scratch: Path,
        seed: int,
        types: Mapping[str, pa.DataType],
        identities: Sequence[Identity] = (),
        *,
        memory_mb: int,
        threads: int,
        vectors: VectorReader | None = None,
    ) -> None:
        import duckdb

        scratch.mkdir(parents=True, exist_ok=True)
        self.scratch = scratch
        self._spill = scratch / "spill"
        self.seed = seed
        self.threads = threads
        self.types = dict(types)
        self.facts: dict[int, Any] = {}
        self._vectors = vectors
        self.db: Any = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": f"{memory_mb}MB",
                "threads": threads,
                "temp_directory": str(self._spill),
                "preserve_insertion_order": True,
            },
        )
        self.create_table("kept", pa.schema([(ID, pa.int64()), ("key", pa.string()), *self.types.items()]))
        for same in identities:
            self.db.execute(f"ALTER TABLE kept ADD COLUMN {quoted(same.name)} UHUGEINT")
        self.db.execute(f"CREATE TABLE drops ({ID} BIGINT, rule INTEGER, reason VARCHAR, detail VARCHAR)")
        self.db.execute(f"CREATE TABLE repeats ({ID} BIGINT, repeat INTEGER)")
        self.db.execute(f"CREATE TABLE groups ({ID} BIGINT, leader VARCHAR)")
        self.db.execute(f"CREATE TABLE added ({ID} BIGINT)")
        self.added: dict[str, pa.DataType] = {}
        self._rule = 0
        self.num_kept = 0

    def create_table(self, name: str, schema: pa.Schema) -> None:
        """An empty table with the columns of an Arrow schema."""
        with self.registered("model", schema.empty_table()):
            self.db.execute(f"CREATE TABLE {quoted(name)} AS SELECT * FROM model")

    @contextmanager
    def registered(self, name: str, table: pa.Table) -> Iterator[None]:
        """An Arrow table that queries of this thread see under a name."""
        self.db.register(name, table)
        try:
            yield
        finally:
            self.db.unregister(name)

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Rules may be applied within; afterwards everything is as it was."""
        before = self.num_kept, dict(self.types), dict(self.added), dict(self.facts)
        self.db.execute("BEGIN")
        try:
            yield
        finally:
            self.db.execute("ROLLBACK")
            self.num_kept, self.types, self.added, self.facts = before

    def begin(self, rule: int) -> None:
        """Count the drops that follow for the rule of this number."""
        self._rule = rule

    def tell(self, facts: Any) -> None:
        """Leave facts of the present rule."""
        self.facts[self._rule] = facts

    def drop(self, query: str) -> None:
        """End the rows that `query` gives as (mmdata_id, reason, detail); a row ends once."""
        # A rule may call this more than once; what it has dropped before is not in `kept` any more.
        (gone,) = self.db.execute(
            f"INSERT INTO drops SELECT {ID}, {self._rule}, reason, left(detail, {DETAIL_CHARS}) FROM ({query})"
        ).fetchone()
        if not gone:
            return
        ours = f"FROM drops WHERE rule = {self._rule}"
        reasons = [row[0] for row in self.db.execute(f"SELECT DISTINCT reason {ours}").fetchall()]
        if any(Reason(reason).status is not Status.DROPPED for reason in reasons):
            raise AssertionError(f"rule {self._rule}: {reasons} hold a reason that does not mean dropped")
        (deleted,) = self.db.execute(f"DELETE FROM kept WHERE {ID} IN (SELECT {ID} {ours})").fetchone()
        if deleted != gone:
            raise AssertionError(f"rule {self._rule}: of {gone} dropped rows only {deleted} were kept and distinct")
        self.num_kept -= gone

    def set_repeat(self, query: str) -> None:
        """Repeat kept rows as `query` says: (mmdata_id, repeat), repeat at least 1; a later rule replaces it."""
        self.db.execute(f"CREATE OR REPLACE TEMP TABLE again AS SELECT {ID}, repeat::INTEGER AS repeat FROM ({query})")
        self.db.execute(f"DELETE FROM repeats WHERE {ID} IN (SELECT {ID} FROM again)")
        self.db.execute("INSERT INTO repeats SELECT * FROM again WHERE repeat > 1")
        self.db.execute("DROP TABLE again")

    def clear_repeats(self) -> None:
        """Forget what rules before this one said about repeats."""
        self.db.execute("DELETE FROM repeats")

    def group(self, query: str) -> None:
        """Record rows of duplicate groups: (mmdata_id, leader), the leader's key; a leader is in its own group."""
        self.db.execute(f"CREATE OR REPLACE TEMP TABLE grouped AS SELECT {ID}, leader FROM ({query})")
        self.db.execute(f"DELETE FROM groups WHERE {ID} IN (SELECT {ID} FROM grouped)")
        self.db.execute("INSERT INTO groups SELECT * FROM grouped")
        self.db.execute("DROP TABLE grouped")

    def add_column(self, name: str, kind: pa.DataType, ids: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Give kept rows a new column that later rules may read; rows that are not named have null."""
        with self.registered("made", pa.table({ID: ids, name: pa.array(values, kind)})):
            for table, join in (("added", "FULL"), ("kept", "LEFT")):
                self.db.execute(f"ALTER TABLE {table} RENAME TO before")
                self.db.execute(f"CREATE TABLE {table} AS SELECT * FROM before {join} JOIN made USING ({ID})")
                self.db.execute("DROP TABLE before")
        self.types[name] = self.added[name] = kind

    def vectors(self, column: str) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Ids in ascending order, and embeddings, of the kept rows that have one; a memory map, float16 [n, width]."""
        if self._vectors is None:
            raise AssertionError(f"vectors of {column} were asked for, but there is no reader of them")
        ids = self.db.execute(f"SELECT {ID} FROM kept ORDER BY {ID}").fetchnumpy()[ID]
        path = self.scratch / f"vectors-{hashlib.sha256(column.encode()).hexdigest()[:16]}"
        has, vectors = self._vectors.read(column, ids, path)
        return ids[has], vectors

    def close(self) -> None:
        self.db.close()
        shutil.rmtree(self.scratch, ignore_errors=True)
