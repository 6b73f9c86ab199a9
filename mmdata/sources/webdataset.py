"""WebDataset tars that exist already: media, caption and metadata of a sample side by side under one key.

Only headers and the small text members are read when rows are listed; nothing is ever extracted. Member names are
data: they end up in the column `sample_key` and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, BinaryIO, ClassVar, Literal

import annotated_types as at
import pyarrow as pa

from mmdata.errors import SourceError
from mmdata.options import operational, semantic
from mmdata.shards import storage
from mmdata.sources import inputs as files
from mmdata.sources.columns import layout, to_batch
from mmdata.sources.json_rows import Columns, parse_object
from mmdata.sources.rows import BATCH_BYTES, BATCH_ROWS, MEDIA_SUFFIXES, TEXT_BYTES, Block, InputFile, OneMedium
from mmdata.sources.tar_index import Entry, entries

# As webdataset has it: the key ends at the first dot of the file's name; other names belong to no sample.
_MEMBER = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)


@dataclass
class _Group:
    """The members of one sample, by extension in small letters."""

    key: str
    parts: dict[str, Entry] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class WebDataset:
    """Rows of WebDataset tars: caption from `.txt`, keys of `.json` as columns, the original key as `sample_key`."""

    kind: ClassVar[str] = "webdataset"
    version: ClassVar[int] = 1

    # A tar, a folder, a glob, braces ({00000..00009}) or an fsspec URL.
    path: Annotated[str, at.Len(1)] = operational()
    # Role -> key of the json. Without caption, it is the txt, or where no sample has one, a well-known key. A hash is
    # not looked for: img2dataset's `sha256` is of the bytes before they were resized.
    columns: dict[Literal["caption", "sha256", "language"], str] = semantic(factory=dict)
    modality: OneMedium = semantic("image_text")
    limit: Annotated[int, at.Ge(1)] | None = semantic(None)

    def inputs(self) -> list[InputFile]:
        found = files.find(self.path, (".tar",))
        for file in found:
            if file.path.lower().endswith((".gz", ".tgz", ".zst")):
                raise SourceError(f"{file.path}: a compressed tar cannot be read in places; unpack it to .tar first")
        return files.input_files(found, self.path)

    def batches(self, input: InputFile) -> Iterator[Any]:
        with files.unreadable(input.path), storage.open_input(input.path) as file:
            columns, has_txt = Columns(input.path), False
            for group in _groups(file, input.path):
                has_txt = has_txt or "txt" in group.parts
                columns.see([_metadata(file, group)])
            guess = [] if has_txt else ["caption"]
            place = None
            row = 0
            for groups in _windows(_groups(file, input.path)):
                block = columns.block([_metadata(file, group) for group in groups])
                errors = dict(block.errors)
                keys = pa.array([group.key.encode("utf-8", "replace").decode() for group in groups], pa.string())
                block = Block(("sample_key", *block.names), [keys, *block.arrays], len(groups), errors)
                place = place or layout(block.names, self.columns, guess, input.path)
                fixed = self._media(input.path, groups, errors)
                if "caption" not in place.roles:
                    captions = [_caption(file, group, index, errors) for index, group in enumerate(groups)]
                    fixed["caption"] = pa.array(captions, pa.string())
                yield to_batch(block, place, row, input.path, fixed)
                row += len(groups)

    def _media(self, path: str, groups: list[_Group], errors: dict[int, str]) -> dict[str, Any]:
        wanted = MEDIA_SUFFIXES[self.modality]
        media = []
        for index, group in enumerate(groups):
            entry = next((group.parts[part] for part in wanted if part in group.parts), None)
            media.append(entry)
            if group.error:
                errors[index] = group.error
            elif entry is None:
                errors[index] = f"has no {', '.join(wanted)}; found: {', '.join(group.parts)}"
        return {
            "media_path": pa.array([None if entry is None else path for entry in media], pa.string()),
            "media_offset": pa.array([None if entry is None else entry.offset for entry in media], pa.int64()),
            "media_size": pa.array([None if entry is None else entry.size for entry in media], pa.int64()),
        }


def _groups(file: BinaryIO, path: str) -> Iterator[_Group]:
    group: _Group | None = None
    seen: set[int] = set()
    for entry in entries(file, path):
        match = _MEMBER.fullmatch(entry.name)
        if match is None:
            continue
        key, part = match[1], match[2].lower()
        if group is None or key != group.key:
            if group is not None:
                yield group
            group = _Group(key)
            if hash(key) in seen:
                group.error = "its key has been there before: the files of a sample must stand side by side"
            seen.add(hash(key))
        if part in group.parts:
            group.error = group.error or f".{part} is there twice"
        elif not entry.is_file:
            group.error = group.error or f".{part} is a link or device"
        else:
            group.parts[part] = entry
    if group is not None:
        yield group


def _windows(groups: Iterator[_Group]) -> Iterator[list[_Group]]:
    window: list[_Group] = []
    size = 0
    for group in groups:
        window.append(group)
        size += sum(group.parts[part].size for part in ("txt", "json") if part in group.parts)
        if len(window) == BATCH_ROWS or size > BATCH_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


def _metadata(file: BinaryIO, group: _Group) -> dict[str, Any] | str:
    if "json" not in group.parts:
        return {}
    data = _read(file, group.parts["json"])
    found = parse_object(data) if isinstance(data, bytes) else data
    return f".json {found}" if isinstance(found, str) else found


def _caption(file: BinaryIO, group: _Group, index: int, errors: dict[int, str]) -> str | None:
    if "txt" not in group.parts:
        return None
    data = _read(file, group.parts["txt"])
    try:
        if isinstance(data, bytes):
            return data.decode("utf-8")
        errors.setdefault(index, f".txt {data}")
    except UnicodeDecodeError:
        errors.setdefault(index, ".txt is not UTF-8")
    return None


def _read(file: BinaryIO, entry: Entry) -> bytes | str:
    if entry.size > TEXT_BYTES:
        return f"has {entry.size} bytes, allowed are {TEXT_BYTES}"
    file.seek(entry.offset)
    return file.read(entry.size)
