"""Tables whose rows name files on disk or in storage: AISHELL-like lists, WaveCaps JSON, captions.tsv beside clips.

The fingerprint of the input is the table's own: a medium that changes under a run is found by a `sha256` column only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from mmdata.options import operational, semantic
from mmdata.sources.columns import Layout, PathRole, layout, to_batch
from mmdata.sources.local_files import folder_of, located
from mmdata.sources.rows import Block, InputFile, OneMedium
from mmdata.sources.table_files import TableFiles

_ROLES = ("path", "caption", "sha256", "language")


@dataclass(frozen=True, kw_only=True)
class MediaTable(TableFiles):
    """Rows with the name of a file below `root`, and what else the table has; the name stays as an own column."""

    kind: ClassVar[str] = "media_table"
    version: ClassVar[int] = 1

    columns: dict[PathRole, str] = semantic(factory=dict)  # role -> column; others are found by well-known names
    modality: OneMedium = semantic("image_text")
    root: str = operational("")  # folder that names are relative to; "": the table's own
    suffix: str = semantic("")  # put behind every name, where the column holds ids: .flac

    def batches(self, input: InputFile) -> Iterator[Any]:
        root = self.root or folder_of(input.path)
        place: Layout | None = None
        row = 0
        for block in self.blocks(input.path):
            if place is None:
                place = layout(block.names, self.columns, _ROLES, input.path, needed=("path",))
                names = place.roles["path"]
                place = _without_path(place, block.names)
            errors = dict(block.errors)
            fixed = located(root, block.arrays[names].to_pylist(), (self.suffix,), errors)
            block = Block(block.names, block.arrays, block.num_rows, errors)
            yield to_batch(block, place, row, input.path, fixed)
            row += block.num_rows


def _without_path(found: Layout, names: tuple[str, ...]) -> Layout:
    """The layout with the path as one of the table's own columns."""
    wanted = {role: names[place] for role, place in found.roles.items() if role != "path"}
    return layout(names, wanted, (), "")
