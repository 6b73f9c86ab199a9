"""Any table reads back equal from every format; what cannot be read is a row with an error, or one clear line."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmdata.errors import ConfigError, SourceError
from mmdata.options import build
from mmdata.sources.rows import ROW_FIELDS, batches_of
from mmdata.sources.url_table import UrlTable

from .tables import COMPRESSIONS, FORMATS, TEXT_FORMATS, rows_of, write_table

LINKS = st.from_regex(r"https?://[a-z]{1,8}\.org/[a-zA-Z0-9%&?=_,;'-]{0,20}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ROWS = st.lists(
    st.fixed_dictionaries({"url": LINKS, "caption": TEXTS, "extra": TEXTS, 'Note, of "x"': TEXTS}),
    min_size=1,
    max_size=8,
)
SHA = "ab" * 32


def table(path: Path, **options: Any) -> UrlTable:
    return UrlTable(path=str(path), **options)


def put(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_any_table_reads_back_equal(format: str, compression: str, rows: list[dict[str, str]], tmp_path: Path) -> None:
    path = write_table(tmp_path / f"t.{format}{compression}", rows)
    wanted = [{"url": row["url"]} for row in rows] if format == "txt" else rows
    assert rows_of(table(path)) == [{"row": index, **row} for index, row in enumerate(wanted)]


def test_parquet_columns_pass_unchanged_in_name_and_type(tmp_path: Path) -> None:
    own = pa.table(
        {
            "when": pa.array([0], pa.timestamp("us", "UTC")),
            "tags": pa.array([[{"a": 1, "b": [1.5]}]]),
            "kind": pa.array(["x"]).dictionary_encode(),
            "large": pa.array(["x"], pa.large_string()),
            "raw": pa.array([b"\xff"]),
            "nothing": pa.nulls(1),
        }
    )
    pq.write_table(own.append_column("URL", pa.array(["http://a/1"])), tmp_path / "t.parquet")
    source = table(tmp_path / "t.parquet")
    (batch,) = [batch for _, batch in batches_of(source, source.inputs())]
    assert batch.schema.names == [*ROW_FIELDS.names, *own.column_names]
    assert batch.schema.types == [*ROW_FIELDS.types, *own.schema.types]
    assert pa.Table.from_batches([batch]).select(own.column_names).equals(own)


@pytest.mark.parametrize("format", [*TEXT_FORMATS, "parquet"])
def test_the_schema_is_the_same_in_every_batch_and_rows_are_numbered_on(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("delimited", "json_rows", "parquet_rows"):
        monkeypatch.setattr(f"mmdata.sources.{module}.BATCH_ROWS", 4)
    path = write_table(tmp_path / f"t.{format}", [{"url": f"http://a/{i}", "n": i} for i in range(11)])
    source = table(path)
    batches = [batch for _, batch in batches_of(source, source.inputs())]
    assert len(batches) > 2
    assert {str(batch.schema) for batch in batches} == {str(batches[0].schema)}
    assert [row for batch in batches for row in batch["row"].to_pylist()] == list(range(11))


def test_a_json_column_that_changes_type_late_keeps_every_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmdata.sources.json_rows.BATCH_ROWS", 2)
    lines = [b'{"url": "http://a/1", "a": 1, "b": 1, "c": true, "d": 9007199254740993}'] * 4
    lines += [b'{"url": "http://a/2", "a": 2.5, "b": "x", "c": {"k": [1]}, "d": 0.5, "late": "y"}']
    rows = rows_of(table(put(tmp_path, "t.jsonl", b"\n".join(lines))))
    assert rows[0] == {"row": 0, "url": "http://a/1", "a": 1.0, "b": "1", "c": "true", "d": "9007199254740993"}
    assert rows[4] == {"row": 4, "url": "http://a/2", "a": 2.5, "b": '"x"', "c": '{"k": [1]}', "d": "0.5", "late": "y"}


def test_a_bad_json_line_is_a_row_with_an_error(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbf{"url":"http://a/1"}\r\n\r\n{"url":\n[1]\n{"url":"\xff"}\n{"url":"\\ud83d"}\n' + b"[" * 9000
    rows = rows_of(table(put(tmp_path, "t.jsonl", data)))
    assert [row.get("url") for row in rows] == ["http://a/1", None, None, None, None, None]
    assert rows[1]["row_error"].startswith("line 3: is not JSON: ")
    assert rows[2]["row_error"] == "line 4: found list, allowed is a JSON object"
    assert rows[3]["row_error"] == "line 5: is not UTF-8"
    assert rows[4]["row_error"] == "holds half a surrogate pair, which is no text"
    assert rows[5]["row_error"].startswith("line 7: is not JSON")


def test_csv_with_bom_crlf_quoted_line_ends_and_a_huge_caption(tmp_path: Path) -> None:
    huge = "w " * 500_000
    data = f'\ufeffurl,caption,n\r\nhttp://a/1,"two\r\nlines, ""quoted""",7\r\n\r\nhttp://a/2,{huge},\r\n'.encode()
    rows = rows_of(table(put(tmp_path, "t.csv", data)))
    assert rows[0] == {"row": 0, "url": "http://a/1", "caption": 'two\r\nlines, "quoted"', "n": "7"}
    assert rows[1] == {"row": 1, "url": "http://a/2", "caption": huge, "n": ""}


def test_a_bad_csv_row_is_a_row_with_an_error_and_its_neighbours_are_read(tmp_path: Path) -> None:
    data = b'url,caption\nhttp://a/1,x\nhttp://a/2,"open\nhttp://a/3,y\nhttp://a/4,y,z\nhttp://a/5,"q"q\nhttp://a/6,caf\xe9\n,\n'
    rows = rows_of(table(put(tmp_path, "t.csv", data)))
    assert [row.get("url") for row in rows] == ["http://a/1", None, "http://a/3", None, None, None, ""]
    assert rows[1]["row_error"].startswith("line 3: ")
    assert rows[3]["row_error"] == "line 5: found 3 fields, the header has 2"
    assert rows[4]["row_error"] == "line 6: ',' expected after '\"'"
    assert rows[5]["row_error"] == "is not text in the encoding of the file"
    assert set(rows[1]) == {"row", "row_error"}


def test_a_quote_left_open_to_the_end_costs_one_row(tmp_path: Path) -> None:
    data = b'url,caption\nhttp://a/0,"open\n' + b"".join(b"http://a/%d,x\n" % i for i in range(1, 500))
    rows = rows_of(table(put(tmp_path, "t.csv", data)))
    assert "row_error" in rows[0]
    assert [row["url"] for row in rows[1:]] == [f"http://a/{i}" for i in range(1, 500)]


def test_a_table_without_header_other_delimiter_and_encoding(tmp_path: Path) -> None:
    path = put(tmp_path, "t.csv", "a \"5' board;http://a/1\n\u4e00;http://a/2\n".encode("gb18030"))
    source = table(path, header=["text", "link"], delimiter=";", quote="", encoding="gb18030")
    assert [(row["url"], row["caption"]) for row in rows_of(source)] == [
        ("http://a/1", "a \"5' board"),
        ("http://a/2", "\u4e00"),
    ]


def test_double_and_colliding_column_names_are_all_kept(tmp_path: Path) -> None:
    path = put(tmp_path, "t.csv", b"URL,x,x,,row,url,caption\nhttp://a/1,1,2,3,4,5,c\n")
    own = {"x": "1", "x_2": "2", "column_4": "3", "src_row": "4", "src_url": "5"}
    assert rows_of(table(path, columns={"url": "URL"})) == [{"row": 0, "url": "http://a/1", "caption": "c", **own}]


def test_hashes_are_made_small_and_a_wrong_one_is_an_error(tmp_path: Path) -> None:
    data = f"url,sha256,language\nhttp://a/1,{SHA.upper()},en\nhttp://a/2,,\nhttp://a/3,d41d8cd9,zh\n".encode()
    rows = rows_of(table(put(tmp_path, "t.csv", data)))
    assert rows[0] == {"row": 0, "url": "http://a/1", "expected_sha256": SHA, "language": "en"}
    assert rows[1] == {"row": 1, "url": "http://a/2"}
    assert rows[2] == {"row": 2, "language": "zh", "row_error": "expected sha256 is 'd41d8cd9', not 64 hex digits"}


def test_parquet_text_that_is_not_utf8_is_a_row_with_an_error(tmp_path: Path) -> None:
    broken = pa.array([b"http://a/1", b"\xff", None])
    text = pa.Array.from_buffers(pa.string(), 3, broken.buffers())
    for name, array in (("binary", broken), ("text", text)):
        pq.write_table(pa.table({"url": array, "own": ["a", "b", "c"]}), tmp_path / f"{name}.parquet")
        rows = rows_of(table(tmp_path / f"{name}.parquet"))
        assert rows[0] == {"row": 0, "url": "http://a/1", "own": "a"}
        assert rows[1] == {"row": 1, "own": "b", "row_error": "column 'url' is not UTF-8"}
        assert rows[2] == {"row": 2, "own": "c"}


def test_limit_counts_over_all_files(tmp_path: Path) -> None:
    for part in range(3):
        write_table(tmp_path / f"{part}.csv", [{"url": f"http://a/{part}{i}"} for i in range(4)])
    source = table(tmp_path, limit=6)
    assert [row["url"][-2:] for row in rows_of(source)] == ["00", "01", "02", "03", "10", "11"]
    later = [batch for _, batch in batches_of(source, source.inputs()[1:], rows_before=4)]
    assert sum(batch.num_rows for batch in later) == 2


BAD_TABLES = {
    "t.csv": (
        b"link_to,TEXT,Url\n1,2,3\n",
        {"columns": {"url": "URL"}},
        "no column 'URL' (columns.url) (did you mean Url?); found: link_to, TEXT, Url",
    ),
    "u.csv": (b"a,b\n1,2\n", {}, "no column looks like the url: say columns: {url: NAME}; found: a, b"),
    "v.csv": (b"http://a/1,cat\n", {}, "its first line holds a link, so it is no header; name the columns: header:"),
    "w.csv": (b"url\n", {}, "holds no rows"),
    "x.csv": (b"", {}, "is empty (0 bytes)"),
    "y.csv": ("url\nhttp://a/1\n".encode("utf-16"), {}, "is UTF-16; say encoding: utf-16"),
    "z.csv": (b"caf\xe9,url\n", {}, "its header is not UTF-8; say which encoding: it has"),
    "a.jsonl": (b"<html>\n</html>\n", {}, "no row is a JSON object: line 1: is not JSON: "),
    "b.json": (b'[{"url": "http://a/1"}, {"url": }]', {}, "item 1 of the array is not JSON, or the file is cut: "),
    "c.json": (b'[{"url": "http://a/1"}', {}, "item 0 of the array is not JSON, or the file is cut: it ends too early"),
    "d.json": (b'[{"url": "http://a/1"}] x', {}, "text follows the end of the array"),
    "e.json": (b'[{"url": "http://a/1"} {}]', {}, "item 1 of the array: found '{' at character 23, wanted ','"),
    "f.json": (b"[]", {}, "holds no rows"),
    "g.parquet": (b"PAR1 nothing", {}, "is no Parquet file, or is cut: "),
    "h.csv.gz": (gzip.compress(b"url\n" + b"http://a/1\n" * 9999)[:-9], {}, "cannot be read: "),
    "i.csv.zst": (b"\x28\xb5\x2f\xfdxxxxxxxxx", {}, "cannot be read: "),
    "j.dat": (b"url\n", {}, "its name does not tell the format: say format: parquet, csv, tsv, json, jsonl, txt"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_table_is_one_line_that_names_the_file(name: str, tmp_path: Path) -> None:
    data, options, message = BAD_TABLES[name]
    with pytest.raises(SourceError) as raised:
        rows_of(table(put(tmp_path, name, data), **options))
    assert str(raised.value).startswith(f"{tmp_path / name}: {message}")
    assert "\n" not in str(raised.value)


def test_a_link_column_that_is_no_text_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": [["http://a/1"]]}), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match=r"column 'url' \(columns.url\): found list<.*>, allowed is text"):
        rows_of(table(tmp_path / "t.parquet"))


def test_too_many_json_keys_are_refused(tmp_path: Path) -> None:
    data = b"\n".join(b'{"url":"http://a/1","key%d":1}' % i for i in range(1100))
    with pytest.raises(SourceError, match="more than 1000 different keys"):
        rows_of(table(put(tmp_path, "t.jsonl", data)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoding": "klingon"}, "no such encoding as 'klingon'"),
        ({"delimiter": "||"}, "allowed is one character"),
        ({"columns": {"link": "x"}}, "columns.link"),
        ({"limit": 0}, "limit"),
        ({"path": ""}, "path"),
    ],
)
def test_wrong_options_are_config_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        build(UrlTable, {"path": "t.csv", **options}, "p.yaml: sources.x")
    assert message in str(raised.value)
    assert str(raised.value).startswith("p.yaml: sources.x")


def test_a_long_line_without_end_is_read_in_bounded_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmdata.sources.delimited._FIELD_CHARS", 1000)
    monkeypatch.setattr("mmdata.sources.delimited._LINE_CHARS", 2000)
    rows = rows_of(table(put(tmp_path, "t.csv", b"url\n" + b"x" * 9500 + b"\nhttp://a/1\n")))
    assert rows[-1]["url"] == "http://a/1"
    assert {row["row_error"] for row in rows[:-1]} == {
        f"line {number}: field larger than field limit (1000)" for number in range(2, 1 + len(rows))
    }
