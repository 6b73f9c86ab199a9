"""Ledgers: their columns, their bytes, and messages that name row and column where one breaks its rules."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmdata.errors import Reason, ShardError
from mmdata.shards import ledger
from tests.builders import failed_sample, image_sample


def _table(rows: int = 4) -> pa.Table:
    samples = [image_sample("pictures", row) for row in range(rows)]
    samples[1] = failed_sample("pictures", 1, Reason.TIMEOUT, "20 s")
    samples[2].end(Reason.TOO_SMALL, "9 x 9")
    return ledger.table_of(samples, pa.table({"license": [f"l{row}" for row in range(rows)]}), "image_text")


def _with(table: pa.Table, column: str, values: list[Any]) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, pa.array(values, table.schema.field(column).type))


def test_a_ledger_has_common_columns_then_those_of_the_modality_then_the_sources_own() -> None:
    table = _table()
    assert table.schema.equals(ledger.schema_of("image_text", pa.schema([("license", pa.string())])))
    assert table.column_names == [*ledger.COMMON.names, *ledger.IMAGE.names, "license"]


def test_every_row_says_what_became_of_it() -> None:
    table = _table()
    assert table["key"].to_pylist() == [f"pictures-{row:012d}" for row in range(4)]
    assert table["status"].to_pylist() == ["ok", "failed", "dropped", "ok"]
    assert table["reason"].to_pylist() == ["ok", "fetch.timeout", "filtered.too_small", "ok"]
    assert table["detail"].to_pylist() == ["", "20 s", "9 x 9", ""]
    assert table["retryable"].to_pylist() == [False, True, False, False]
    assert table["parts"].to_pylist() == ["jpg", "", "", "jpg"]
    assert table["width_px"].to_pylist() == [64, None, 64, 64]
    assert table["license"].to_pylist() == ["l0", "l1", "l2", "l3"]
    ledger.validate(table, "ledger/00000.parquet")


def test_the_same_rows_give_the_same_bytes() -> None:
    table = _table(50)
    chunked = pa.concat_tables([table.slice(0, 7), table.slice(7)])
    assert ledger.parquet_bytes(table) == ledger.parquet_bytes(_table(50))
    assert ledger.parquet_bytes(chunked) == ledger.parquet_bytes(table), "chunks of a table show in its bytes"


def test_a_ledger_is_read_back_whole_or_by_columns(tmp_path: Path) -> None:
    path = tmp_path / "00000.parquet"
    path.write_bytes(ledger.parquet_bytes(_table()))
    assert ledger.read(str(path)).equals(_table())
    assert ledger.read(str(path), ["reason", "key"]).column_names == ["reason", "key"]


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("key", ["a", "b", "a", "b"], "column key: 2 keys are there twice"),
        (
            "reason",
            ["ok", "fetch.timeot", "filtered.too_small", "ok"],
            "row 1, column reason: 'fetch.timeot' is not in the closed list",
        ),
        ("reason", ["ok", None, "filtered.too_small", "ok"], "row 1, column reason: None is not in the closed list"),
        (
            "status",
            ["ok", "failed", "failed", "ok"],
            "row 2, column status: 'failed', but 'filtered.too_small' means another",
        ),
        ("status", [None, "failed", "dropped", "ok"], "row 0, column status: None, but 'ok' means another"),
    ],
)
def test_a_broken_rule_is_named_with_row_and_column(column: str, values: list[Any], says: str) -> None:
    with pytest.raises(ShardError) as caught:
        ledger.validate(_with(_table(), column, values), "ledger/00000.parquet")
    assert str(caught.value) == f"ledger/00000.parquet: {says}"


def test_missing_columns_are_named() -> None:
    with pytest.raises(ShardError, match=r"ledger/00000\.parquet: columns \['key', 'reason'\] are missing"):
        ledger.validate(_table().drop_columns(["key", "reason"]), "ledger/00000.parquet")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no table at all" * 100])
def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "00000.parquet"
    path.write_bytes(data)
    with pytest.raises(ShardError) as caught:
        ledger.read(str(path))
    assert str(caught.value).startswith(f"{path}: cannot be read as a ledger: ")


def test_any_damaged_byte_gives_a_shard_error_or_a_table(tmp_path: Path) -> None:
    """Pages have no checksum, so a flip may give other values; it must never end the run as a bug of ours."""
    whole = ledger.parquet_bytes(_table(40))
    path = tmp_path / "00000.parquet"
    refused = 0
    places = sorted({*range(0, len(whole), 61), *range(len(whole) - 40, len(whole))})
    for place, bit in itertools.product(places, (1, 0x40)):
        data = bytearray(whole)
        data[place] ^= bit
        path.write_bytes(data)
        try:
            ledger.read(str(path))
        except ShardError:
            refused += 1
    assert refused > 10


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    whole = ledger.parquet_bytes(_table())
    path = tmp_path / "00000.parquet"
    for cut in range(0, len(whole), 101):
        path.write_bytes(whole[:cut])
        with pytest.raises(ShardError):
            ledger.read(str(path))


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "00000.parquet"
    pq.write_table(pa.table({"key": ["a"]}), path)
    with pytest.raises(ShardError, match="reason"):
        ledger.read(str(path), ["key", "reason"])
