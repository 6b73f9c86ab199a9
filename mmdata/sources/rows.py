"""What a source gives: its input files, and their rows as Arrow batches with the same first columns for every kind.

A row is never lost: one that cannot be read comes as a row with `row_error` set and no link, and fails later by name.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import pyarrow as pa

from mmdata.errors import SourceError

OneMedium = Literal["image_text", "video_text", "audio_text"]
MEDIA_SUFFIXES: dict[str, tuple[str, ...]] = {  # of files that hold a medium, and of members of tars
    "image_text": ("jpg", "jpeg", "png", "webp", "gif"),
    "video_text": ("mp4", "webm", "mkv", "mov", "avi", "m4v", "mpeg", "mpg", "ts", "flv", "gif"),
    "audio_text": ("flac", "wav", "mp3", "ogg", "opus", "m4a", "aac", "amr", "g722", "aif", "aiff", "wma"),
}

# A batch ends at whichever comes first, so that a million short rows are quick and 1 MB captions stay in bounds.
BATCH_ROWS = 8192
BATCH_BYTES = 16 << 20
TEXT_BYTES = 16 << 20  # of one caption, subtitle or json file; a longer one is an error of its row

ROW_FIELDS = pa.schema(
    [
        ("row", pa.int64()),  # position within the input file, from 0
        ("url", pa.string()),  # link as found; null where the bytes lie in storage
        ("media_path", pa.string()),  # file that holds the bytes; null for links
        ("media_offset", pa.int64()),  # their place in it: a tar member, or the whole file
        ("media_size", pa.int64()),
        ("media_row", pa.int64()),  # their row where the file is Parquet with embedded bytes
        ("caption", pa.string()),
        ("expected_sha256", pa.string()),  # 64 small hex digits
        ("language", pa.string()),
        ("row_error", pa.string()),  # why this row could not be read; null for a good row
        ("messages", pa.string()),  # JSON of a document's text with a place for each medium; see sources/messages.py
        ("media_list", pa.string()),  # JSON of the media of a document, in the order of their places
    ]
)


@dataclass(frozen=True)
class InputFile:
    """One file (or folder, where a source says so) that rows come from.

    fingerprint: changes with the content, not with the place: see `inputs.fingerprint`.
    """

    path: str
    size_bytes: int
    fingerprint: str


class Source(Protocol):
    """One kind of source; a frozen dataclass whose fields are its YAML options.

    version: raised when the same options and input give other rows; part of the config hash.
    """

    kind: ClassVar[str]
    version: ClassVar[int]

    @property
    def modality(self) -> str:
        """Of every row."""

    @property
    def limit(self) -> int | None:
        """Rows to take of the whole source; `batches_of` applies it."""

    def inputs(self) -> list[InputFile]:
        """The input files, sorted. Raises SourceError where there are none or all are empty."""

    def batches(self, input: InputFile) -> Iterator[pa.RecordBatch]:
        """All rows of one input in order, in bounded memory; the schema is the same in every batch.

        ROW_FIELDS come first, then the source's own columns. Raises SourceError where the file itself is unreadable.
        """


@dataclass(frozen=True)
class Block:
    """Some rows as a file format gives them, before anyone knows which column is the link.

    errors: by position in the block, why a row could not be read; its other values then mean nothing.
    """

    names: tuple[str, ...]
    arrays: list[Any]
    num_rows: int
    errors: Mapping[int, str]


def batches_of(
    source: Source, inputs: Iterable[InputFile], *, rows_before: int = 0
) -> Iterator[tuple[InputFile, pa.RecordBatch]]:
    """Rows of several inputs, each batch with its input, cut at the source's `limit`.

    rows_before: rows that earlier inputs, not in `inputs`, have given. Raises SourceError where there is no row at all.
    """
    given = rows_before
    inputs = list(inputs)
    for input in inputs:
        for batch in source.batches(input):
            if source.limit is not None:
                batch = batch.slice(0, max(0, source.limit - given))
            if batch.num_rows:
                given += batch.num_rows
                yield input, batch
            if source.limit is not None and given >= source.limit:
                return
    if given == 0:
        raise SourceError(f"{inputs[0].path if inputs else source.kind}: holds no rows")


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """Column names with a second `x` called `x_2`, and one without a name `column_<place from 1>`."""
    taken: dict[str, None] = {}
    for place, name in enumerate(names, 1):
        base = name or f"column_{place}"
        number = itertools.count(2)
        free = base
        while free in taken:
            free = f"{base}_{next(number)}"
        taken[free] = None
    return tuple(taken)


def own_names(names: Iterable[str], taken: Iterable[str] = tuple(ROW_FIELDS.names)) -> list[str]:
    """Names for a source's own columns, with `src_` before each that is in `taken` or would be there twice."""
    used = set(taken)
    result = []
    for name in names:
        while name in used:
            name = f"src_{name}"
        used.add(name)
        result.append(name)
    return result
