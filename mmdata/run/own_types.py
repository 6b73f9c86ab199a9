"""One type for each of the sources' own columns over all shards of a run: selection and the dataset see one table.

Files and sources may have a column of one name with types that do not go together, a number here and a text there. It
then becomes text in all shards. A shard that was planned before is never written again, so there it is an error.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from mmdata.errors import SourceError
from mmdata.shards import ledger, storage
from mmdata.shards.folders import RunFolder
from mmdata.sources.rows import ROW_FIELDS


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """One table; columns that only some have are null elsewhere, and types that do not go together become text."""
    mixed = _mixed([table.schema for table in tables])
    tables = [as_text(table, mixed) for table in tables] if mixed else tables
    return pa.concat_tables(tables, promote_options="permissive")


def make_alike(run: RunFolder, planned: Sequence[int], fresh: Sequence[int]) -> dict[int, bytes]:
    """Rewrite the rows of fresh shards where columns must become text; returns their new content.

    Raises SourceError where a planned shard has such a column as anything but text.
    """
    schemas = {shard: _schema(run, shard) for shard in [*planned, *fresh]}
    mixed = _mixed(list(schemas.values()))
    for shard in planned:
        for name in sorted(mixed & set(schemas[shard].names)):
            if not _is_text(schemas[shard].field(name).type):
                others = {str(schemas[new].field(name).type) for new in fresh if name in schemas[new].names}
                raise SourceError(
                    f"column {name!r}: the new files have {' and '.join(sorted(others))}, the rows that this run was "
                    f"planned with have {schemas[shard].field(name).type}; write it alike, or choose another RUN"
                )
    written = {}
    for shard in fresh:
        if any(not _is_text(schemas[shard].field(name).type) for name in mixed & set(schemas[shard].names)):
            written[shard] = ledger.parquet_bytes(as_text(ledger.read(run.rows(shard)), mixed))
            storage.write_whole(run.rows(shard), written[shard])
    return written


def as_text(table: pa.Table, columns: Collection[str]) -> pa.Table:
    """The table with these columns as text: texts as they are, any other value as JSON."""
    for name in set(columns) & set(table.column_names):
        if not _is_text(table.schema.field(name).type):
            values = [
                value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
                for value in table[name].to_pylist()
            ]
            table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))
    return table


def _mixed(schemas: Sequence[pa.Schema]) -> set[str]:
    """Own columns whose types do not go together, by Arrow's rules for joining tables."""
    types: dict[str, dict[pa.DataType, None]] = {}
    for schema in schemas:
        for field in schema:
            if field.name not in ROW_FIELDS.names:
                types.setdefault(field.name, {})[field.type] = None
    return {name for name, kinds in types.items() if len(kinds) > 1 and not _go_together(list(kinds))}


def _go_together(kinds: list[pa.DataType]) -> bool:
    try:
        pa.unify_schemas([pa.schema([("column", kind)]) for kind in kinds], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return False
    return True


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _schema(run: RunFolder, shard: int) -> pa.Schema:
    with storage.open_input(run.rows(shard)) as file:
        return pq.read_schema(file).remove_metadata()
