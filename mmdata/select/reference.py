"""Another dataset that ours must not overlap with: an evaluation set, as a run or dataset folder or Parquet files."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmdata.errors import ConfigError, Reason
from mmdata.select.load import open_storages
from mmdata.select.tables import is_vector
from mmdata.select.workspace import ID, Identity, Workspace, literal, quoted
from mmdata.shards import storage
from mmdata.sources.inputs import Found
from mmdata.sources.inputs import fingerprint as content_of

# Where tables lie in the folders that may be named; the first that have the column are read.
_PLACES = (
    "index/*/*/*.parquet",
    "ledger/*.parquet",
    "scores/*/*.parquet",
    "*/*/*.parquet",
    "*.parquet",
    "**/*.parquet",
)
_NAMES = {  # what else a column is called elsewhere
    "raw_sha256": ("raw_sha256", "sha256"),
    "url": ("url", "URL"),
    "caption": ("caption", "TEXT", "text"),
}


class Reference:
    """A dataset to compare with; only the column asked for is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def drop_same(self, work: Workspace, same: Identity) -> None:
        """Drop the kept rows with an identity that the dataset has."""
        table, column = self._table(work, same.column)
        (known,) = work.db.execute(f"SELECT count({column}) FROM {table}").fetchone()
        self._check_filled(known, column)
        work.drop(
            f"SELECT {ID}, {literal(Reason.LEAKAGE.value)} AS reason, {literal(self.path)} AS detail FROM kept "
            f"WHERE {quoted(same.name)} IN (SELECT {same.sql(column)} FROM {table} WHERE {column} IS NOT NULL)"
        )

    def numbers(self, work: Workspace, column: str) -> NDArray[np.uint64]:
        """All values of a column of 64-bit hashes."""
        table, name = self._table(work, column)
        query = f"SELECT {name}::UBIGINT AS h FROM {table}"
        found = work.db.execute(f"SELECT h FROM ({query}) WHERE h IS NOT NULL").fetchnumpy()["h"]
        self._check_filled(len(found), name)
        return np.ascontiguousarray(found)

    def vectors(self, column: str) -> NDArray[np.float16]:
        """All embeddings of a column; float16 [n, width]."""
        files, name = self._files(column)
        parts = []
        for path in files:
            with storage.open_input(path) as file:
                found = pq.ParquetFile(file).read(columns=[name])[name].combine_chunks().drop_null()
            if len(found) and is_vector(found.type):
                parts.append(found.flatten().to_numpy(zero_copy_only=False).astype(np.float16).reshape(len(found), -1))
        if len({part.shape[1] for part in parts}) > 1:
            raise ConfigError(f"{self.path}: {column}: found embeddings of several widths")
        return np.concatenate(parts) if parts else np.empty((0, 0), np.float16)

    def _table(self, work: Workspace, column: str) -> tuple[str, str]:
        """The files that have the column as a table in SQL, and its name there."""
        files, name = self._files(column)
        open_storages(work.db, files)
        return f"read_parquet([{', '.join(map(literal, files))}], union_by_name = true)", quoted(name)

    def _check_filled(self, values: int, name: str) -> None:
        """Raise ConfigError where a column is there and never filled: that nothing leaks could not be told from it."""
        if not values:
            raise ConfigError(f"{self.path}: column {name} is empty in every row, so there is nothing to compare by")

    def _files(self, column: str) -> tuple[list[str], str]:
        """The files that have the column, and its name there. Raises ConfigError where none has it."""
        names = _NAMES.get(column, (column,))
        seen: set[str] = set()
        for place in ("",) if self.path.endswith(".parquet") else _PLACES:
            found: dict[str, list[str]] = {}
            for path in _matching(self.path, place):
                with storage.open_input(path) as file:
                    here = pq.read_schema(file).names
                seen |= set(here)
                name = next((name for name in names if name in here), None)
                if name is not None:
                    found.setdefault(name, []).append(path)
            if found:
                name = max(found, key=lambda name: len(found[name]))
                return found[name], name
        there = f"there are: {', '.join(sorted(seen))}" if seen else "found no Parquet files there"
        raise ConfigError(f"{self.path}: no column {' or '.join(names)} to compare by; {there}")


def fingerprint(path: str) -> str:
    """What the content of a file or folder is known by: its sha256, that of its manifest, or of its tables.

    It does not depend on where the folder lies.
    """
    if not _is_folder(path) and storage.exists(path):
        return hashlib.sha256(storage.read_bytes(path)).hexdigest()
    manifest = storage.join(path, "manifest.json")
    if storage.exists(manifest):
        return hashlib.sha256(storage.read_bytes(manifest)).hexdigest()
    folder = path.rstrip("/").partition("://")[2] or path.rstrip("/")
    files = [
        f"{file.partition(folder)[2]}:{content_of(Found(file, storage.size_bytes(file) or 0))}"
        for file in _matching(path, "**/*.parquet")
    ]
    if not files:
        raise ConfigError(f"{path}: found no file, and no folder with Parquet files")
    return hashlib.sha256("\n".join(files).encode()).hexdigest()


def _is_folder(path: str) -> bool:
    if not storage.is_remote(path):
        return storage.local_path(path).is_dir()
    files, inner = storage.filesystem(path)
    return bool(files.isdir(inner))


def _matching(path: str, place: str) -> Sequence[str]:
    whole = storage.join(path, place) if place else path
    if not storage.is_remote(whole):
        return sorted(glob.glob(str(storage.local_path(whole)), recursive=True))
    files, inner = storage.filesystem(whole)
    return sorted(files.unstrip_protocol(found) for found in files.glob(inner))
