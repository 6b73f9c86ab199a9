"""Tables of links: Parquet, CSV, TSV, JSON, JSONL and TXT, plain or .gz or .zst."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from mmdata.options import semantic
from mmdata.sources.columns import Role, assemble
from mmdata.sources.rows import InputFile, OneMedium
from mmdata.sources.table_files import TableFiles

_ROLES = ("url", "caption", "sha256", "language")


@dataclass(frozen=True, kw_only=True)
class UrlTable(TableFiles):
    """Rows with a link and, where the table has them, a caption, a sha256 and a language."""

    kind: ClassVar[str] = "url_table"
    version: ClassVar[int] = 1

    columns: dict[Role, str] = semantic(factory=dict)  # role -> column; others are found by well-known names
    modality: OneMedium = semantic("image_text")

    def batches(self, input: InputFile) -> Iterator[Any]:
        return assemble(self.blocks(input.path), self.columns, _ROLES, input.path, needed=("url",))
