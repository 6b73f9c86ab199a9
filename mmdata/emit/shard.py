"""One shard of the dataset without its media: keys, columns, texts, and what augmentation changed of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from mmdata.emit import messages
from mmdata.emit.layout import MESSAGES, Layout, Media
from mmdata.emit.rows import WindowRows


@dataclass
class Shard:
    """What the writers of json, sidecar, Parquet and index read, row by row in the order of the shard.

    keys: in the dataset, those of copies with their suffix. parts: of every sample, as staged. media: columns of the
    Parquet shard. extra: the source's own columns of each row as JSON. changes: by row, ledger columns and annotations
    that are not those of the ledger, since the sample is an augmented copy.
    """

    layout: Layout
    keys: Sequence[str]
    parts: Sequence[str]
    rows: WindowRows
    media: Sequence[Media]
    extra: Sequence[str]
    changes: dict[int, Mapping[str, Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def column(self, name: str, kind: pa.DataType, start: int = 0, length: int | None = None) -> pa.ChunkedArray:
        """A column of the ledger as it is in the dataset, nulls where there is none; `length` rows from `start`."""
        end = len(self) if length is None else start + length
        for table in (self.rows.rows, self.rows.annotations):
            if name in table.column_names:
                values = table[name].slice(start, end - start).cast(kind)
                break
        else:
            return pa.chunked_array([pa.nulls(end - start, kind)])
        changed = {row - start: new[name] for row, new in self.changes.items() if start <= row < end and name in new}
        if not changed:
            return values
        listed = values.to_pylist()
        return pa.chunked_array([pa.array([changed.get(row, old) for row, old in enumerate(listed)], kind)])

    @property
    def annotations(self) -> list[str]:
        return list(self.rows.annotations.column_names[1:])

    @cached_property
    def _captions(self) -> list[str]:
        return [caption or "" for caption in self.rows.rows["caption"].to_pylist()]

    @cached_property
    def _messages(self) -> list[messages.Messages]:
        return [
            messages.parse(text, key) for text, key in zip(self.rows.rows[MESSAGES].to_pylist(), self.keys, strict=True)
        ]

    def caption(self, row: int) -> str:
        """The caption; empty where there is none."""
        caption = self.changes.get(row, {}).get("caption", self._captions[row])
        return str(caption or "")

    def conversation(self, row: int) -> messages.Messages:
        """The sample as a conversation: a document's own, or its media and caption as question and answer."""
        if self.layout.is_document:
            return self._messages[row]
        return messages.about(self.layout.said, self.caption(row))

    def conversations(self, start: int, length: int) -> pa.Array:
        """The conversations of some rows as a column."""
        rows = range(start, start + length)
        if self.layout.is_document:
            return pa.array([self.conversation(row) for row in rows], messages.ARROW)
        return messages.about_all(self.layout.said, [self.caption(row) for row in rows])

    def text(self, row: int) -> str:
        """All text to learn from: the part `txt`, and what the index counts."""
        if self.layout.is_document and self._messages[row]:
            return messages.text_of(self._messages[row])
        return self.caption(row)

    def columns(self, row: int) -> dict[str, Any]:
        """The ledger row and its annotations as plain values."""
        found: dict[str, Any] = {}
        for table in (self.rows.rows, self.rows.annotations):
            found |= table.slice(row, 1).to_pylist()[0]
        return found
