"""A folder of pictures; captions from `metadata.jsonl` or `.csv` as Hugging Face's imagefolder has it, or from .txt.

The whole folder is one input file. Its fingerprint covers names and sizes of the pictures and the content of the
texts; up to inputs.WHOLE_BYTES in all, the content of the pictures too. So in a large folder a picture that is
replaced by another of exactly the same size goes unseen. The list of names is held in memory (about 300 B a file).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import annotated_types as at
import pyarrow as pa

from mmdata.errors import SourceError
from mmdata.options import operational, semantic
from mmdata.shards import storage
from mmdata.sources import inputs as files
from mmdata.sources.columns import Layout, layout, to_batch
from mmdata.sources.delimited import Dialect, read_delimited
from mmdata.sources.json_rows import read_json
from mmdata.sources.rows import BATCH_ROWS, Block, InputFile

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif")
METADATA = ("metadata.jsonl", "metadata.csv")
_NAME = "file_name"  # the column that joins metadata to pictures, and the source's own column in every case
_ROLES = ("caption", "sha256", "language")


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """Rows of a folder's pictures in the order of their names, below it too."""

    kind: ClassVar[str] = "image_folder"
    version: ClassVar[int] = 1

    path: Annotated[str, at.Len(1)] = operational()
    # Role -> column of the metadata. Without a caption column there, it is the .txt beside the picture.
    columns: dict[Literal["caption", "sha256", "language"], str] = semantic(factory=dict)
    modality: Literal["image_text"] = semantic("image_text")
    limit: Annotated[int, at.Ge(1)] | None = semantic(None)

    def inputs(self) -> list[InputFile]:
        found = _Folder(self.path)
        size = sum(file.size_bytes for file in found.files.values())
        digest = hashlib.sha256()
        for name, file in found.files.items():
            digest.update(f"{name}\0{file.size_bytes}\0".encode("utf-8", "surrogateescape"))
            if size <= files.WHOLE_BYTES or not name.lower().endswith(PICTURES):
                digest.update(_read(file.path))
        return [InputFile(self.path, size, f"{size}-{digest.hexdigest()[:32]}")]

    def batches(self, input: InputFile) -> Iterator[Any]:
        folder = _Folder(input.path)
        block, place, by_name = self._metadata(folder)
        names = list(folder.pictures)
        names += [name for name in by_name if name not in folder.files]  # metadata of pictures that are not there
        for first in range(0, len(names), BATCH_ROWS):
            some = names[first : first + BATCH_ROWS]
            rows = pa.array([by_name.get(name) for name in some], pa.int64())
            errors = {i: block.errors[by_name[n]] for i, n in enumerate(some) if by_name.get(n) in block.errors}
            for index, name in enumerate(some):
                if name not in folder.files:
                    errors.setdefault(index, f"{folder.metadata} names {name[:100]!r}, which is not there")
                elif not _is_text(name):
                    errors.setdefault(index, f"its file name {name[:100]!a} is not UTF-8")
            shown = pa.array([name.encode("utf-8", "replace").decode() for name in some], pa.string())
            own = Block((_NAME, *block.names), [shown, *(a.take(rows) for a in block.arrays)], len(some), errors)
            found = [folder.files.get(name) for name in some]
            fixed = {
                "media_path": pa.array([f.path if f and _is_text(f.path) else None for f in found], pa.string()),
                "media_offset": pa.array([0 if f else None for f in found], pa.int64()),
                "media_size": pa.array([f.size_bytes if f else None for f in found], pa.int64()),
            }
            if "caption" not in place.roles:
                fixed["caption"] = pa.array([_caption(folder, n, i, errors) for i, n in enumerate(some)], pa.string())
            yield to_batch(own, place, first, input.path, fixed)

    def _metadata(self, folder: _Folder) -> tuple[Block, Layout, dict[str, int]]:
        """All metadata as one block without its names, the layout of a batch, and row by picture name."""
        if not folder.metadata:
            return Block((), [], 0, {}), layout((_NAME,), self.columns, (), folder.path), {}
        path = folder.files[folder.metadata].path
        blocks = list(read_json(path) if path.endswith("l") else read_delimited(path, Dialect()))
        if not blocks or _NAME not in blocks[0].names:
            found = ", ".join(blocks[0].names) if blocks else "no rows"
            raise SourceError(f"{path}: no column {_NAME!r}; found: {found}")
        names = blocks[0].names
        arrays = [pa.chunked_array([b.arrays[i] for b in blocks]).combine_chunks() for i in range(len(names))]
        errors: dict[int, str] = {}
        start = 0
        for block in blocks:
            errors |= {start + index: error for index, error in block.errors.items()}
            start += block.num_rows
        by_name: dict[str, int] = {}
        for row, name in enumerate(arrays[names.index(_NAME)].to_pylist()):
            if row in errors or not name:
                by_name[f"{folder.metadata} row {row}"] = row
            elif name in by_name:
                raise SourceError(f"{path}: {name!r} is there twice, in rows {by_name[name]} and {row}")
            else:
                by_name[name] = row
        keep = [place for place, name in enumerate(names) if name != _NAME]
        kept = tuple(names[place] for place in keep)
        place = layout((_NAME, *kept), self.columns, _ROLES, path)
        return Block(kept, [arrays[place] for place in keep], start, errors), place, by_name


class _Folder:
    """The files of a folder by name relative to it, sorted. Raises SourceError where it holds no pictures."""

    def __init__(self, path: str) -> None:
        with files.unreadable(path):
            if not files.is_folder(path):
                raise SourceError(f"{path}: no such folder")
            found = files.tree(path)
        self.path = path
        self.files = {file.relative: file for file in found}
        self.pictures = [name for name in self.files if name.lower().endswith(PICTURES)]
        if not self.pictures:
            names = ", ".join(f"*{suffix}" for suffix in PICTURES)
            raise SourceError(f"{path}: holds no {names}")
        metadata = [name for name in self.files if name.rpartition("/")[2] in METADATA]
        for name in metadata:
            if "/" in name:
                raise SourceError(f"{path}: {name} is not in the folder itself: make its folder a source of its own")
        if len(metadata) > 1:
            raise SourceError(f"{path}: holds {' and '.join(metadata)}; allowed is one of them")
        self.metadata = metadata[0] if metadata else ""


def _caption(folder: _Folder, name: str, index: int, errors: dict[int, str]) -> str | None:
    file = folder.files.get(name.rpartition(".")[0] + ".txt")
    if file is None:
        return None
    try:
        return _read(file.path).decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        errors.setdefault(index, "the .txt beside it is not UTF-8")
        return None


def _read(path: str) -> bytes:
    with files.unreadable(path):
        return storage.read_bytes(path)


def _is_text(name: str) -> bool:
    return name.isascii() or name.encode("utf-8", "replace").decode() == name
