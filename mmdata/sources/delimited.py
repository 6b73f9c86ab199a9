"""Rows of CSV, TSV and TXT files. All values are text: a guess from the first rows would be wrong further down.

Python's reader in strict mode is used, not Arrow's: it goes on after a bad row, reads fields of any length, and does
not misread a quote that was never closed (Arrow refuses the file). About 200,000 rows/s of one core.
"""

from __future__ import annotations

import csv
import functools
import io
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa

from mmdata.errors import SourceError
from mmdata.sources.decompress import open_stream, refuse_utf16
from mmdata.sources.rows import BATCH_BYTES, BATCH_ROWS, Block, unique_names

_FIELD_CHARS = 16 << 20  # a longer field is a quote left open, not a caption
_LINE_CHARS = 2 * _FIELD_CHARS


@dataclass(frozen=True)
class Dialect:
    """How a file is written. quote: "" where quotes mean nothing. header: names where the file has no row of them."""

    delimiter: str = ","
    quote: str = '"'
    header: tuple[str, ...] = ()
    encoding: str = "utf-8"


class _Lines:
    """Lines of a text file for csv.reader, counted, and given again where a row turned out not to be one."""

    def __init__(self, text: io.TextIOBase) -> None:
        # An unbounded readline would take a file without line ends whole.
        self._read = functools.partial(text.readline, _LINE_CHARS)
        self._again: deque[str] = deque()
        self.row: list[str] = []  # lines since it was last cleared: those of the row being read
        self.number = 0  # of the last line given, from 1
        self.chars = 0

    def __iter__(self) -> Iterator[str]:
        again, row, read = self._again, self.row, self._read
        while line := again.popleft() if again else read():
            self.number += 1
            self.chars += len(line)
            row.append(line)
            yield line

    def retry_after_first(self) -> int:
        """Give the lines of this row again, but for its first: a quote left open there swallowed them. Its number."""
        again = self.row[1:]
        self._again.extendleft(reversed(again))
        self.number -= len(again)
        self.row.clear()
        return self.number


def read_delimited(path: str, dialect: Dialect) -> Iterator[Block]:
    """Blocks of a CSV or TSV file; empty lines are no rows. Raises SourceError."""
    # Global to the process; no other code here reads CSV with a smaller limit in mind.
    csv.field_size_limit(_FIELD_CHARS)
    with open_stream(path) as stream, _text(path, stream, dialect.encoding) as text:
        lines = _Lines(text)
        found = _rows(lines, dialect)
        names = unique_names(dialect.header or _header(path, next(found, [])))
        rows: list[Sequence[str | None]] = []
        errors: dict[int, str] = {}
        empty = [None] * len(names)
        for row in found:
            if isinstance(row, str):
                errors[len(rows)] = row
            elif len(row) != len(names):
                errors[len(rows)] = f"line {lines.number}: found {len(row)} fields, the header has {len(names)}"
            rows.append(empty if len(rows) in errors else row)
            if len(rows) == BATCH_ROWS or lines.chars > BATCH_BYTES:
                yield _block(names, rows, errors)
                rows, errors, lines.chars = [], {}, 0
        if rows:
            yield _block(names, rows, errors)


def _rows(lines: _Lines, dialect: Dialect) -> Iterator[list[str] | str]:
    """Rows that are not empty; a str says why one cannot be read."""
    quoting: Any = {"quotechar": dialect.quote} if dialect.quote else {"quoting": csv.QUOTE_NONE}
    while True:
        try:
            for row in csv.reader(lines, delimiter=dialect.delimiter, strict=True, **quoting):
                if row:
                    yield row
                lines.row.clear()
            return
        except csv.Error as error:
            yield f"line {lines.retry_after_first()}: {error}"


def read_list(path: str, encoding: str = "utf-8") -> Iterator[Block]:
    """Blocks of a list with one link a line; space around a link and empty lines are left out. Raises SourceError."""
    with open_stream(path) as stream, _text(path, stream, encoding) as text:
        lines = _Lines(text)
        rows: list[Sequence[str | None]] = []
        for line in lines:
            if link := line.strip():
                rows.append([link])
            lines.row.clear()
            if len(rows) == BATCH_ROWS or lines.chars > BATCH_BYTES:
                yield _block(("url",), rows, {})
                rows, lines.chars = [], 0
        if rows:
            yield _block(("url",), rows, {})


def _text(path: str, stream: BinaryIO, encoding: str) -> io.TextIOWrapper:
    is_utf8 = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    if is_utf8:
        refuse_utf16(path, stream, "say encoding: utf-16")
    # Bytes that are no text come as lone surrogates, which no good text holds, and make their row an error.
    return io.TextIOWrapper(stream, encoding="utf-8-sig" if is_utf8 else encoding, errors="surrogateescape", newline="")


def _header(path: str, row: list[str] | str) -> list[str]:
    if isinstance(row, str):
        raise SourceError(f"{path}: its header cannot be read: {row}")
    header = [name.strip() for name in row]
    if _is_bad("".join(header)):
        raise SourceError(f"{path}: its header is not UTF-8; say which encoding: it has")
    if any("://" in name for name in header):
        raise SourceError(f"{path}: its first line holds a link, so it is no header; name the columns: header: [..]")
    return header


def _block(names: tuple[str, ...], rows: list[Sequence[str | None]], errors: dict[int, str]) -> Block:
    try:
        arrays = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    except UnicodeEncodeError:
        for index, row in enumerate(rows):
            if _is_bad("".join(value or "" for value in row)):
                errors[index] = "is not text in the encoding of the file"
                rows[index] = [None] * len(names)
        return _block(names, rows, errors)
    return Block(names, arrays, len(rows), errors)


def _is_bad(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
