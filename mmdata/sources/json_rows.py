"""Rows of JSON files: one object a line, one array of objects, or such an array inside of one object.

A column's type is found by reading the file once before its rows are given, because a column that is a number for a
million rows may turn into text after them. Integers beyond 64 bits lose digits. About 180,000 rows/s of one core for
lines, 100,000 for arrays.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import orjson
import pyarrow as pa

from mmdata.errors import SourceError
from mmdata.sources.decompress import lines, open_stream, refuse_utf16
from mmdata.sources.json_stream import Scanner
from mmdata.sources.rows import BATCH_BYTES, BATCH_ROWS, Block

MAX_COLUMNS = 1000
_NULL, _BOOL, _INT, _LARGE_INT, _FLOAT, _TEXT, _OTHER = 0, 1, 2, 4, 8, 16, 32
_BITS: dict[type, int] = {type(None): _NULL, bool: _BOOL, int: _INT, float: _FLOAT, str: _TEXT}
# Of each set of kinds seen in a column, its type; any other mixture is kept as JSON text. A large int is no float64.
_TYPES = {
    _NULL: pa.string(),
    _BOOL: pa.bool_(),
    _INT: pa.int64(),
    _LARGE_INT: pa.int64(),
    _INT | _LARGE_INT: pa.int64(),
    _FLOAT: pa.float64(),
    _INT | _FLOAT: pa.float64(),
    _TEXT: pa.string(),
}
_EXACT = 2**53
EVERY = "*"  # as rows_key: every member of the file's object is a row, its key in the column ITEM_KEY
ITEM_KEY = "item_key"
_MANY = 20  # keys that a message lists


class Columns:
    """The columns of many JSON objects in order of appearance, with a type that holds all their values."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._seen: dict[str, int] = {}
        self._names: tuple[str, ...] | None = None

    def see(self, objects: Iterable[Any]) -> None:
        """Take note of the kinds of values; what is no dict is passed over. Raises SourceError for too many columns."""
        seen = self._seen
        for each in objects:
            if isinstance(each, dict):
                for name, value in each.items():
                    bit = _BITS.get(type(value), _OTHER)
                    if bit == _INT and not -_EXACT <= value <= _EXACT:
                        bit = _LARGE_INT if -(2**63) <= value < 2**63 else _OTHER
                    seen[name] = seen.get(name, _NULL) | bit
        if len(seen) > MAX_COLUMNS:
            raise SourceError(f"{self._where}: more than {MAX_COLUMNS} different keys; these are values, not columns")

    @property
    def names(self) -> tuple[str, ...]:
        if self._names is None:
            # A name with half a surrogate pair has no UTF-8 form and could not be a column's.
            self._names = tuple(name for name in self._seen if _is_text(name))
        return self._names

    def block(self, objects: list[Any]) -> Block:
        """The objects as a block; a str stands for a row that could not be read and says why."""
        errors = {index: each for index, each in enumerate(objects) if isinstance(each, str)}
        rows: list[Mapping[str, Any]] = [{} if isinstance(each, str) else each for each in objects]
        try:
            arrays = [self._array(name, rows) for name in self.names]
        except UnicodeEncodeError:
            bad = "holds half a surrogate pair, which is no text"
            checked = [bad if _holds_surrogate(row) else each for row, each in zip(rows, objects, strict=True)]
            return self.block(checked)
        return Block(self.names, arrays, len(rows), errors)

    def _array(self, name: str, rows: list[Mapping[str, Any]]) -> Any:
        values = [row.get(name) for row in rows]
        kind = _TYPES.get(self._seen[name])
        if kind is None:
            values = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
        return pa.array(values, pa.string() if kind is None else kind)


def read_json(path: str, rows_key: str = "") -> Iterator[Block]:
    """Blocks of a JSON or JSONL file. Raises SourceError, also where no row is an object or an array is damaged.

    rows_key: where the file is one object, the key of the array of rows in it; EVERY for the members themselves.
    """
    columns = Columns(path)
    first_error, readable = "", False
    for chunk in _chunks(path, rows_key):
        columns.see(chunk)
        readable = readable or any(isinstance(each, dict) for each in chunk)
        first_error = first_error or next((each for each in chunk if isinstance(each, str)), "")
    if first_error and not readable:
        raise SourceError(f"{path}: no row is a JSON object: {first_error}")
    for chunk in _chunks(path, rows_key):
        yield columns.block(chunk)


def parse_object(data: bytes) -> dict[str, Any] | str:
    """The JSON object in `data`, or why it is none."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        # Python's reader also takes NaN and half surrogate pairs, and says more about what it does not take.
        try:
            value = json.loads(data.decode("utf-8"))
        except UnicodeDecodeError:
            return "is not UTF-8"
        except (ValueError, RecursionError) as error:
            return f"is not JSON: {error}"
    return value if isinstance(value, dict) else f"found {type(value).__name__}, allowed is a JSON object"


def _chunks(path: str, rows_key: str) -> Iterator[list[Any]]:
    """Lists of objects, with a str for each row that is none."""
    with open_stream(path) as stream, io.TextIOWrapper(stream, encoding="utf-8") as text:
        refuse_utf16(path, stream, "JSON is UTF-8")
        if stream.peek(3)[:3] == b"\xef\xbb\xbf":  # type: ignore[attr-defined]
            stream.read(3)
        head = stream.peek(64).lstrip()[:1]  # type: ignore[attr-defined]
        if rows_key:
            rows = _object_items(path, Scanner(path, text), rows_key)
        else:
            rows = _whole_array(Scanner(path, text)) if head == b"[" else _line_items(stream)
        chunk: list[Any] = []
        size = 0
        for item, length in rows:
            chunk.append(item)
            size += length
            if len(chunk) == BATCH_ROWS or size > BATCH_BYTES:
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk


def _line_items(stream: BinaryIO) -> Iterator[tuple[Any, int]]:
    for number, line in enumerate(lines(stream), 1):
        if line and not line.isspace():
            item = parse_object(line)
            yield (f"line {number}: {item}" if isinstance(item, str) else item), len(line)


def _array_items(scan: Scanner) -> Iterator[tuple[Any, int]]:
    for number, _ in scan.members("["):
        item, length = scan.value()
        is_object = isinstance(item, dict)
        yield item if is_object else f"item {number}: found {type(item).__name__}, allowed is an object", length


def _whole_array(scan: Scanner) -> Iterator[tuple[Any, int]]:
    yield from _array_items(scan)
    scan.expect_end("array")


def _object_items(path: str, scan: Scanner, rows_key: str) -> Iterator[tuple[Any, int]]:
    """Items of the array under `rows_key` in the object that the file is; of EVERY, the members of that object."""
    others: list[str] = []
    is_there = rows_key == EVERY
    for _, key in scan.members("{"):
        assert key is not None
        if rows_key == EVERY:
            value, length = scan.value()
            yield {ITEM_KEY: key, **(value if isinstance(value, dict) else {"value": value})}, length + len(key)
        elif key == rows_key and scan.peek() == "[":
            is_there = True
            yield from _array_items(scan)
        else:
            scan.skip()
            others = others if len(others) == _MANY else [*others, key]
    scan.expect_end("object")
    if not is_there:
        raise SourceError(f"{path}: no array under {rows_key!r} (rows_key); found: {', '.join(others)}")


def _holds_surrogate(row: Mapping[str, Any]) -> bool:
    return not all(_is_text(value) for value in row.values() if isinstance(value, str)) or not _is_text(
        json.dumps(row, ensure_ascii=False)
    )


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
