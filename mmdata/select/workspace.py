"""The rows still kept, as a DuckDB table that spills to disk, and what the rules decide about them.

Table `kept` has one row per sample that is still in: `mmdata_id` (its place in the order of all rows), `key`, and the
columns that the rules read. Memory stays under a limit whatever the number of rows: DuckDB
writes the rest to `scratch`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmdata.errors import Reason, Status
from mmdata.sample import DETAIL_CHARS

ID = "mmdata_id"
# A sample's key without the suffixes of children and augmented copies: sample.root_key, for RE2.
_DESCENT = r"(_\d{4,})?(-x\d+)?$"
_HASHES = 2**64


def stable_hash(seed: int, use: str, text: str) -> int:
    """Uniform number in [0, 2^64) that is the same on any machine; `use` keeps two uses of a seed apart."""
    return int.from_bytes(hashlib.md5(f"{seed}:{use}:{text}".encode(), usedforsecurity=False).digest()[:8], "little")


def stable_hash_sql(seed: int, use: str, text_sql: str) -> str:
    """SQL for `stable_hash` of a string expression."""
    return f"md5_number_upper(concat({literal(f'{seed}:{use}:')}, {text_sql}))"


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


class Workspace:
    """What a rule works on: `db` with the table `kept`, the seed, and the types of the loaded columns."""

    def __init__(
        self, scratch: Path, seed: int, types: Mapping[str, pa.DataType], memory_mb: int, threads: int
    ) -> None:
        import duckdb

        scratch.mkdir(parents=True, exist_ok=True)
        self._file = scratch / "select.duckdb"
        self.close_files()
        self.seed = seed
        self.types = dict(types)
        self.db: Any = duckdb.connect(
            str(self._file),
            config={
                "memory_limit": f"{memory_mb}MB",
                "threads": threads,
                "temp_directory": str(scratch / "spill"),
                "preserve_insertion_order": True,
            },
        )
        empty = pa.schema([(ID, pa.int64()), ("key", pa.string()), *self.types.items()]).empty_table()
        self.db.execute("PRAGMA disable_checkpoint_on_shutdown")  # the file goes with the workspace
        self.db.register("batch", empty)
        self.db.execute("CREATE TABLE kept AS SELECT * FROM batch")
        self.db.unregister("batch")
        self.db.execute(f"CREATE TABLE drops ({ID} BIGINT, rule INTEGER, reason VARCHAR, detail VARCHAR)")
        self.db.execute(f"CREATE TABLE repeats ({ID} BIGINT, repeat INTEGER)")
        self._rule = 0
        self.num_kept = 0

    def load(self, rows: pa.Table) -> None:
        """Append rows to `kept`; columns as in `types`, after mmdata_id and key."""
        self.db.register("batch", rows)
        self.db.execute("INSERT INTO kept SELECT * FROM batch")
        self.db.unregister("batch")
        self.num_kept += rows.num_rows

    def begin(self, rule: int) -> None:
        """Count the drops that follow for the rule of this number."""
        self._rule = rule

    def drop(self, query: str) -> None:
        """End the rows that `query` gives as (mmdata_id, reason, detail); a row ends once."""
        self.db.execute(f"CREATE OR REPLACE TEMP TABLE gone AS SELECT {ID}, reason, detail FROM ({query})")
        reasons = [row[0] for row in self.db.execute("SELECT DISTINCT reason FROM gone").fetchall()]
        if any(Reason(reason).status is not Status.DROPPED for reason in reasons):
            raise AssertionError(f"rule {self._rule}: {reasons} hold a reason that does not mean dropped")
        (gone,) = self.db.execute("SELECT count(*) FROM gone").fetchone()
        if gone:
            self.db.execute(
                f"INSERT INTO drops SELECT {ID}, {self._rule}, reason, left(detail, {DETAIL_CHARS}) FROM gone"
            )
            (deleted,) = self.db.execute(f"DELETE FROM kept WHERE {ID} IN (SELECT {ID} FROM gone)").fetchone()
            if deleted != gone:
                raise AssertionError(f"rule {self._rule}: of {gone} dropped rows only {deleted} were kept and distinct")
        self.num_kept -= gone
        self.db.execute("DROP TABLE gone")

    def set_repeat(self, query: str) -> None:
        """Repeat kept rows as `query` says: (mmdata_id, repeat), repeat at least 1; a later rule replaces it."""
        self.db.execute(f"CREATE OR REPLACE TEMP TABLE again AS SELECT {ID}, repeat::INTEGER AS repeat FROM ({query})")
        self.db.execute(f"DELETE FROM repeats WHERE {ID} IN (SELECT {ID} FROM again)")
        self.db.execute("INSERT INTO repeats SELECT * FROM again WHERE repeat > 1")
        self.db.execute("DROP TABLE again")

    def close(self) -> None:
        self.db.close()
        self.close_files()

    def close_files(self) -> None:
        """Remove the database; an attempt that was killed may have left one."""
        for name in (self._file, self._file.with_name(self._file.name + ".wal")):
            name.unlink(missing_ok=True)
