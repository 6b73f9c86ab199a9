"""Parquet with embedded bytes: rows without the bytes, bytes by row, in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmdata.errors import Reason, SampleError, SourceError
from mmdata.sources.media import MediaPlace, MediaReader
from mmdata.sources.parquet_bytes import ParquetBytes

from .tables import rows_of

IMAGES = [bytes([65 + i]) * (i + 1) for i in range(10)]


def write(path: Path, *, struct: bool, **more: Any) -> Path:
    media: list[Any] = [{"bytes": data, "path": f"{i}.jpg"} for i, data in enumerate(IMAGES)] if struct else IMAGES
    table = pa.table({"image": media, "text": [f"c{i}" for i in range(10)], "n": range(10), **more})
    pq.write_table(table, path, row_group_size=4)
    return path


@pytest.mark.parametrize("struct", [False, True])
def test_rows_have_their_place_and_the_bytes_come_from_it_in_any_order(struct: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", struct=struct)
    found = rows_of(ParquetBytes(path=str(path)))
    assert found[3] == {"row": 3, "media_path": str(path), "media_row": 3, "caption": "c3", "n": 3}
    wanted = [7, 0, 9, 3, 3, 8]
    with MediaReader() as reader:
        read = dict(reader.read_many(MediaPlace(str(path), row=row) for row in wanted))
        assert [read[index] for index in range(len(wanted))] == [IMAGES[row] for row in wanted]
        assert [reader.read(MediaPlace(str(path), row=row)) for row in wanted] == [IMAGES[row] for row in wanted]


def test_listing_does_not_touch_the_media_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", struct=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    assert len(rows_of(ParquetBytes(path=str(path)))) == 10
    with MediaReader() as reader, pytest.raises(SampleError) as raised:
        reader.read(MediaPlace(str(path), row=5))
    assert raised.value.reason is Reason.STORAGE


def test_a_table_of_nothing_but_bytes_has_its_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"jpg": IMAGES}), tmp_path / "a.parquet")
    assert [row["media_row"] for row in rows_of(ParquetBytes(path=str(tmp_path)))] == list(range(10))


def test_the_media_column_must_be_clear(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.parquet", struct=True, mask=IMAGES))
    with pytest.raises(SourceError, match=r"columns with bytes: image, mask; say which with columns: \{media: NAME\}"):
        rows_of(ParquetBytes(path=path))
    with pytest.raises(SourceError, match=r"column 'text' \(columns.media\): found string; columns with bytes:"):
        rows_of(ParquetBytes(path=path, columns={"media": "text"}))
    with pytest.raises(SourceError, match="no such column; columns with bytes: image, mask"):
        rows_of(ParquetBytes(path=path, columns={"media": "img"}))
    source = ParquetBytes(path=path, columns={"media": "mask"})
    assert len(rows_of(source)) == 10
    with MediaReader(source.media_column) as reader:
        assert reader.read(MediaPlace(path, row=2)) == IMAGES[2]


def test_null_bytes_are_empty_and_a_row_beyond_the_file_is_storage(tmp_path: Path) -> None:
    pq.write_table(pa.table({"jpg": pa.array([None, b""], pa.binary())}), tmp_path / "a.parquet")
    places = [MediaPlace(str(tmp_path / "a.parquet"), row=row) for row in (0, 1, 2)]
    with MediaReader() as reader:
        errors = dict(reader.read_many(places))
    assert [error.reason for error in errors.values() if isinstance(error, SampleError)] == [
        Reason.EMPTY,
        Reason.EMPTY,
        Reason.STORAGE,
    ]


def test_large_row_groups_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmdata.sources.parquet_rows.BATCH_BYTES", 2)
    path = write(tmp_path / "a.parquet", struct=True)
    with MediaReader() as reader:
        assert [reader.read(MediaPlace(str(path), row=row)) for row in (0, 2, 3, 1, 9)] == [
            IMAGES[row] for row in (0, 2, 3, 1, 9)
        ]
