"""What tables of documents share: every row is turned into messages and a list of media, or gets the reason why not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import annotated_types as at
import orjson
import pyarrow as pa

from mmdata.options import operational, semantic
from mmdata.sources.columns import layout, to_batch
from mmdata.sources.local_files import folder_of
from mmdata.sources.messages import Messages
from mmdata.sources.rows import Block, InputFile
from mmdata.sources.table_files import TableFiles

_ROLES = ("url", "language")

Document = tuple[Messages, list[dict[str, Any]]]


class Reader(Protocol):
    """How the documents of one table are written."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of the table."""

    @property
    def consumed(self) -> tuple[str, ...]:
        """Those that are not passed on, since they are in the messages."""

    def read(self, row: Mapping[str, Any], root: str) -> Document:
        """Messages and media of a row with the columns that it reads. Raises ValueError saying what is wrong."""


@dataclass(frozen=True, kw_only=True)
class DocumentTable(TableFiles):
    """Options of tables of documents. max_images: of one document; further media are not asked for."""

    root: str = operational("")  # folder that names of files are relative to; "": the table's own
    max_images: Annotated[int, at.Ge(1)] | None = semantic(None)

    def documents(self, input: InputFile, reader_for: Any) -> Iterator[Any]:
        """Batches of one input. reader_for(names): the Reader of a table with these columns; may raise SourceError."""
        root = self.root or folder_of(input.path)
        reader: Reader | None = None
        row = 0
        for block in self.blocks(input.path):
            if reader is None:
                reader = reader_for(block.names)
                keep = [place for place, name in enumerate(block.names) if name not in reader.consumed]
                kept = tuple(block.names[place] for place in keep)
                place = layout(kept, {}, _ROLES if self._has_own_link(kept) else ("language",), input.path)
            errors = dict(block.errors)
            fixed = _documents(reader, block, root, errors)
            rest = Block(kept, [block.arrays[place] for place in keep], block.num_rows, errors)
            yield to_batch(rest, place, row, input.path, fixed)
            row += block.num_rows

    def _has_own_link(self, names: Sequence[str]) -> bool:
        """True where a column `url` is the document's own address."""
        return "url" in names


def _documents(reader: Reader, block: Block, root: str, errors: dict[int, str]) -> dict[str, Any]:
    columns = {name: block.arrays[block.names.index(name)].to_pylist() for name in reader.reads if name in block.names}
    messages: list[str | None] = []
    media: list[str | None] = []
    for index in range(block.num_rows):
        document: Document | None = None
        if index not in errors:
            try:
                document = reader.read({name: values[index] for name, values in columns.items()}, root)
            except ValueError as error:
                errors[index] = str(error)
        messages.append(None if document is None else orjson.dumps(document[0]).decode())
        media.append(None if document is None else orjson.dumps(document[1]).decode())
    return {"messages": pa.array(messages, pa.string()), "media_list": pa.array(media, pa.string())}


def nested(value: Any, name: str) -> Any:
    """A value of a nested column: as it is, or read from its JSON, which tables of plain types keep it as.

    Raises ValueError where it looks like JSON and is none; a text that does not is given back.
    """
    if isinstance(value, str) and value[:1] in ("[", "{", '"'):
        try:
            return json.loads(value)
        except ValueError:
            if value[:1] == "{":
                raise ValueError(f"{name} is not JSON") from None
    return value


def listed(value: Any, name: str) -> list[Any]:
    """A list that may have been written as JSON; raises ValueError naming it where it is none."""
    found = nested(value, name)
    if not isinstance(found, list):
        raise ValueError(f"{name}: found {type(found).__name__}, allowed is a list")
    return found
