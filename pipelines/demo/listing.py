"""Rows, files and server behaviours of the demo's tables of films, speech, captions, documents and instructions.

Used by `build.py` only. `expected_reason` is how the row should end; `expected_values` what its ledger should say: JSON
of columns with their values, or with the least and the greatest.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.demo.planted import FOLDER, HOST, sha256_of

Row = dict[str, Any]
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Work:
    """What a file was made from: its licence, and author and source as LICENSES.md names them."""

    license: str
    source: str

    def changed(self) -> Work:
        """The same work after a fault was planted in it."""
        return Work(self.license, f"{self.source}; changed by `build.py`")


MADE_HERE = Work("CC0-1.0", "made by `build.py`, holds nobody's work")


@dataclass
class Listing:
    """What becomes files under `media/`, rows of tables and behaviours of the server."""

    media: Path
    tables: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    works: dict[str, Work] = field(default_factory=dict)  # by path under media/
    behaviours: dict[str, dict[str, Any]] = field(default_factory=dict)

    def file(self, path: str, content: bytes, work: Work) -> str:
        """A file under media/; its URL."""
        target = self.media / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        self.works[path] = work
        return f"{HOST}/{path}"

    def serve_as(self, path: str, content_type: str) -> None:
        """Have the server say `content_type` of a file, whatever its suffix is."""
        self.behaviours[f"/{path}"] = {"kind": "file", "file": path, "type": content_type}

    def row(
        self,
        table: str,
        url: str,
        caption: str,
        planted: str = "right",
        reason: str = "ok",
        values: Values | None = None,
        **more: Any,
    ) -> None:
        """One row of a table; `more` are columns that only this table has, or `language`, `sha256`, `license`."""
        row = {
            "URL": url,
            "TEXT": caption,
            "language": "en",
            "sha256": None,
            "license": None,
            "planted": planted,
            "expected_reason": reason,
            "expected_values": json.dumps(values, sort_keys=True) if values else None,
        }
        path = url.removeprefix(f"{HOST}/")
        if path in self.works:
            row |= {"license": self.works[path].license, "sha256": sha256_of((self.media / path).read_bytes())}
        self.tables[table].append(row | more)

    def plant(
        self,
        table: str,
        name: str,
        content: bytes,
        work: Work,
        caption: str,
        planted: str,
        reason: str = "ok",
        values: Values | None = None,
        **more: Any,
    ) -> str:
        """A file under media/planted and its row; its path under media/."""
        path = f"{FOLDER}/{name}"
        self.row(table, self.file(path, content, work), caption, planted, reason, values, **more)
        return path
