"""Files of tables: Parquet, CSV, TSV, JSON, JSONL and TXT, plain or .gz or .zst, and how each is to be read."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import annotated_types as at

from mmdata.errors import SourceError
from mmdata.options import operational, semantic
from mmdata.sources import inputs as files
from mmdata.sources.delimited import Dialect, read_delimited, read_list
from mmdata.sources.json_rows import read_json
from mmdata.sources.parquet_rows import read_parquet
from mmdata.sources.rows import Block, InputFile

Format = Literal["parquet", "csv", "tsv", "json", "jsonl", "txt"]
SUFFIXES: dict[str, tuple[str, ...]] = {
    "parquet": (".parquet", ".pq"),
    "csv": (".csv",),
    "tsv": (".tsv", ".tab"),
    "json": (".json",),
    "jsonl": (".jsonl", ".ndjson"),
    "txt": (".txt",),
}


@dataclass(frozen=True, kw_only=True)
class TableFiles:
    """The options that every kind of table has, and its blocks; what a row means is the kind's own matter."""

    # A file, a folder, a glob, braces or an fsspec URL. Where it lies changes nothing: fingerprints tell what it holds.
    path: Annotated[str, at.Len(1)] = operational()
    limit: Annotated[int, at.Ge(1)] | None = semantic(None)  # rows, of the whole source
    format: Format | Literal["auto"] = semantic("auto")  # auto: by the file's suffix
    delimiter: str = semantic("")  # "": a comma, in TSV a tab
    quote: str = semantic('"')  # "": quotes mean nothing, as in tables written without them
    header: list[str] = semantic(factory=list)  # names of the columns, where the file has no row of names
    encoding: str = semantic("utf-8")  # of CSV, TSV and TXT
    # JSON whose rows lie inside of one object: the key of their array; "*": every member is a row, see read_json.
    rows_key: str = semantic("")

    def __post_init__(self) -> None:
        if len(self.delimiter) > 1 or len(self.quote) > 1:
            raise ValueError("delimiter and quote: allowed is one character")
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise ValueError(f"encoding: no such encoding as {self.encoding!r}; for instance utf-8, gb18030") from None

    def inputs(self) -> list[InputFile]:
        suffixes = sum((ends for name, ends in SUFFIXES.items() if self.format in ("auto", name)), ())
        found = files.find(self.path, suffixes)
        formats = {self._format(file.path): file.path for file in found}
        if "json" in formats and "jsonl" in formats:
            formats.pop("json")  # read in the same way
        if len(formats) > 1:
            raise SourceError(f"{self.path}: holds {' and '.join(sorted(formats))} files: say which with format:")
        return files.input_files(found, self.path)

    def blocks(self, path: str) -> Iterator[Block]:
        """The rows of one input file as its format gives them. Raises SourceError."""
        format = self._format(path)
        if format == "parquet":
            return read_parquet(path)
        if format in ("json", "jsonl"):
            return read_json(path, self.rows_key)
        if format == "txt":
            return read_list(path, self.encoding)
        delimiter = self.delimiter or ("\t" if format == "tsv" else ",")
        return read_delimited(path, Dialect(delimiter, self.quote, tuple(self.header), self.encoding))

    def _format(self, path: str) -> str:
        if self.format != "auto":
            return self.format
        name = files.bare_name(path)
        for format, suffixes in SUFFIXES.items():
            if name.endswith(suffixes):
                return format
        raise SourceError(f"{path}: its name does not tell the format: say format: {', '.join(SUFFIXES)}")
