"""A folder of media files; captions from `metadata.jsonl` or `.csv` as Hugging Face's folders have it, or from .txt.

The whole folder is one input file, known as `inputs.folder_input` says: in a large one, a medium that is replaced by
another of exactly the same size goes unseen. The list of names is held in memory (about 300 B a file).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import annotated_types as at
import pyarrow as pa
import pyarrow.compute as pc

from mmdata.errors import SourceError
from mmdata.options import operational, semantic
from mmdata.sources import inputs as files
from mmdata.sources.columns import Layout, layout, to_batch
from mmdata.sources.delimited import Dialect, read_delimited
from mmdata.sources.json_rows import read_json
from mmdata.sources.local_files import media_columns
from mmdata.sources.rows import BATCH_BYTES, BATCH_ROWS, MEDIA_SUFFIXES, TEXT_BYTES, Block, InputFile, OneMedium

SUBTITLES = (".srt", ".vtt")
METADATA = ("metadata.jsonl", "metadata.csv")
_NAME = "file_name"  # the column that joins metadata to media, and the source's own column in every case
_SUBTITLES = "subtitles"  # an own column of video and audio: the text of the .srt or .vtt beside the file
_ROLES = ("caption", "sha256", "language")


@dataclass(frozen=True, kw_only=True)
class MediaFolder:
    """Rows of a folder's media in the order of their names, below it too."""

    kind: ClassVar[str] = "media_folder"
    version: ClassVar[int] = 1

    path: Annotated[str, at.Len(1)] = operational()
    # Role -> column of the metadata. Without a caption column there, it is the .txt beside the file.
    columns: dict[Literal["caption", "sha256", "language"], str] = semantic(factory=dict)
    modality: OneMedium = semantic()
    limit: Annotated[int, at.Ge(1)] | None = semantic(None)

    def inputs(self) -> list[InputFile]:
        found = _Folder(self.path, self._suffixes)
        return [files.folder_input(self.path, list(found.files.values()), self._suffixes)]

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return tuple(f".{suffix}" for suffix in MEDIA_SUFFIXES[self.modality])

    def batches(self, input: InputFile) -> Iterator[Any]:
        folder = _Folder(input.path, self._suffixes)
        block, place, by_name = self._metadata(folder)
        names = (_NAME, *block.names)
        beside = SUBTITLES if self.modality != "image_text" and _SUBTITLES not in names else ()
        if beside:
            names = (*names, _SUBTITLES)
            place = Layout(place.roles, [*place.own, (len(names) - 1, _SUBTITLES)])
        texts = beside if "caption" in place.roles else (*beside, ".txt")
        first = 0
        for some in _windows(folder, [*folder.media, *(n for n in by_name if n not in folder.files)], texts):
            rows = pa.array([by_name.get(name) for name in some], pa.int64())
            errors = {i: block.errors[by_name[n]] for i, n in enumerate(some) if by_name.get(n) in block.errors}
            for index, name in enumerate(some):
                if name not in folder.files:
                    errors.setdefault(index, f"{folder.metadata} names {name[:100]!r}, which is not there")
                elif not _is_text(name):
                    errors.setdefault(index, f"its file name {name[:100]!a} is not UTF-8")
            shown = pa.array([name.encode("utf-8", "replace").decode() for name in some], pa.string())
            arrays = [shown, *(array.take(rows) for array in block.arrays)]
            if beside:
                arrays.append(_texts(folder, some, beside, errors))
            found = [folder.files.get(name) for name in some]
            fixed = media_columns([(f.path, 0, f.size_bytes) if f and _is_text(f.path) else None for f in found])
            if "caption" not in place.roles:
                fixed["caption"] = pc.utf8_trim_whitespace(_texts(folder, some, (".txt",), errors))
            yield to_batch(Block(names, arrays, len(some), errors), place, first, input.path, fixed)
            first += len(some)

    def _metadata(self, folder: _Folder) -> tuple[Block, Layout, dict[str, int]]:
        """All metadata as one block without its names, the layout of a batch, and row by file name."""
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
    """The files of a folder by name relative to it, sorted. Raises SourceError where it holds no media."""

    def __init__(self, path: str, suffixes: tuple[str, ...]) -> None:
        with files.unreadable(path):
            if not files.is_folder(path):
                raise SourceError(f"{path}: no such folder")
            found = files.tree(path)
        self.path = path
        self.files = {file.relative: file for file in found}
        self.media = [name for name in self.files if name.lower().endswith(suffixes)]
        if not self.media:
            raise SourceError(f"{path}: holds no {', '.join(f'*{suffix}' for suffix in suffixes)}")
        metadata = [name for name in self.files if name.rpartition("/")[2] in METADATA]
        for name in metadata:
            if "/" in name:
                raise SourceError(f"{path}: {name} is not in the folder itself: make its folder a source of its own")
        if len(metadata) > 1:
            raise SourceError(f"{path}: holds {' and '.join(metadata)}; allowed is one of them")
        self.metadata = metadata[0] if metadata else ""

    def beside(self, name: str, suffix: str) -> files.Found | None:
        """The file of the same name with another suffix."""
        return self.files.get(name.rpartition(".")[0] + suffix)


def _windows(folder: _Folder, names: list[str], texts: tuple[str, ...]) -> Iterator[list[str]]:
    """The names in lists whose texts go into memory together."""
    window: list[str] = []
    size = 0
    for name in names:
        window.append(name)
        size += sum(file.size_bytes for suffix in texts if (file := folder.beside(name, suffix)))
        if len(window) == BATCH_ROWS or size > BATCH_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


def _texts(folder: _Folder, names: list[str], suffixes: tuple[str, ...], errors: dict[int, str]) -> Any:
    """Text of the file beside each medium, of the first suffix there is; null where there is none."""
    values: list[str | None] = []
    for index, name in enumerate(names):
        file = next((file for suffix in suffixes if (file := folder.beside(name, suffix))), None)
        values.append(None)
        if file is None:
            continue
        suffix = file.path.rpartition(".")[2]
        if file.size_bytes > TEXT_BYTES:
            errors.setdefault(index, f"the .{suffix} beside it has {file.size_bytes} bytes, allowed are {TEXT_BYTES}")
            continue
        try:
            values[-1] = files.read(file.path).decode("utf-8-sig")
        except UnicodeDecodeError:
            errors.setdefault(index, f"the .{suffix} beside it is not UTF-8")
    return pa.array(values, pa.string())


def _is_text(name: str) -> bool:
    return name.isascii() or name.encode("utf-8", "replace").decode() == name
