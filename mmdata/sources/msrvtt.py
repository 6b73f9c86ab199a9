"""MSR-VTT (Xu et al. 2016): one JSON with `videos` and `sentences`, and a folder of video files named by id.

All sentences are held in memory (about 200 B each; the whole set has 200,000).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import annotated_types as at
import pyarrow as pa

from mmdata.errors import SourceError
from mmdata.options import operational, semantic
from mmdata.sources import inputs as files
from mmdata.sources.columns import layout, to_batch
from mmdata.sources.json_rows import read_json
from mmdata.sources.local_files import folder_of, located
from mmdata.sources.rows import Block, InputFile

_ID, _CAPTIONS = "video_id", "captions"


@dataclass(frozen=True, kw_only=True)
class Msrvtt:
    """A row a video with its first caption, and all of them as JSON in the own column `captions`."""

    kind: ClassVar[str] = "msrvtt"
    version: ClassVar[int] = 1

    path: Annotated[str, at.Len(1)] = operational()  # train_val_videodatainfo.json
    root: str = operational("")  # folder of the videos; "": that of the JSON
    suffix: str = semantic(".mp4")  # what stands behind an id in the name of its file
    modality: Literal["video_text"] = semantic("video_text")
    limit: Annotated[int, at.Ge(1)] | None = semantic(None)

    def inputs(self) -> list[InputFile]:
        return files.input_files(files.find(self.path, (".json",)), self.path)

    def batches(self, input: InputFile) -> Iterator[Any]:
        captions = _captions(input.path)
        row = 0
        for block in read_json(input.path, "videos"):
            _need(block, (_ID,), input.path)
            errors = dict(block.errors)
            ids = [str(value) for value in block.arrays[block.names.index(_ID)].to_pylist()]
            fixed = located(self.root or folder_of(input.path), ids, (self.suffix,), errors)
            found = [captions.get(name, []) for name in ids]
            for index, texts in enumerate(found):
                if not texts:
                    errors.setdefault(index, "has no sentence")
            fixed["caption"] = pa.array([texts[0] if texts else None for texts in found], pa.string())
            all_texts = pa.array([json.dumps(texts, ensure_ascii=False) for texts in found], pa.string())
            names = (*block.names, _CAPTIONS)
            whole = Block(names, [*block.arrays, all_texts], block.num_rows, errors)
            yield to_batch(whole, layout(names, {}, (), input.path), row, input.path, fixed)
            row += block.num_rows


def _captions(path: str) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    for block in read_json(path, "sentences"):
        _need(block, (_ID, "caption"), path)
        ids, texts = (block.arrays[block.names.index(name)].to_pylist() for name in (_ID, "caption"))
        for name, text in zip(ids, texts, strict=True):
            if text is not None:
                captions.setdefault(str(name), []).append(str(text).strip())
    return captions


def _need(block: Block, names: tuple[str, ...], path: str) -> None:
    for name in names:
        if name not in block.names:
            raise SourceError(f"{path}: no key {name!r}, so it is not MSR-VTT's; found: {', '.join(block.names)}")
