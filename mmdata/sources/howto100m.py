"""HowTo100M (Miech et al. 2019): `caption.json`, {id: {"start": [s, ...], "end": [s, ...], "text": [...]}}, and videos.

The captions become WebVTT in the own column `subtitles`, as media_folder gives them, so that the same stages cut both.
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
from mmdata.sources.json_rows import EVERY, ITEM_KEY, read_json
from mmdata.sources.local_files import folder_of, located
from mmdata.sources.rows import Block, InputFile

_LISTS = ("start", "end", "text")
_NAMES = ("video_id", "subtitles")


@dataclass(frozen=True, kw_only=True)
class Howto100m:
    """A row a video, without a caption of its own: clips get theirs from the subtitles."""

    kind: ClassVar[str] = "howto100m"
    version: ClassVar[int] = 1

    path: Annotated[str, at.Len(1)] = operational()  # caption.json or raw_caption.json
    root: str = operational("")  # folder of the videos; "": that of the JSON
    suffixes: list[str] = semantic(factory=lambda: [".mp4", ".webm", ".mkv"])  # of video files, the first found counts
    modality: Literal["video_text"] = semantic("video_text")
    limit: Annotated[int, at.Ge(1)] | None = semantic(None)

    def inputs(self) -> list[InputFile]:
        return files.input_files(files.find(self.path, (".json",)), self.path)

    def batches(self, input: InputFile) -> Iterator[Any]:
        place = layout(_NAMES, {}, (), input.path)
        row = 0
        for block in read_json(input.path, EVERY):
            missing = [name for name in _LISTS if name not in block.names]
            if missing:
                raise SourceError(f"{input.path}: no key {missing[0]!r} in any video, so it is not HowTo100M's")
            errors = dict(block.errors)
            ids = block.arrays[block.names.index(ITEM_KEY)]
            fixed = located(self.root or folder_of(input.path), ids.to_pylist(), self.suffixes, errors)
            lists = (block.arrays[block.names.index(name)].to_pylist() for name in _LISTS)
            texts = [_subtitles(index, values, errors) for index, values in enumerate(zip(*lists, strict=True))]
            whole = Block(_NAMES, [ids, pa.array(texts, pa.string())], block.num_rows, errors)
            yield to_batch(whole, place, row, input.path, fixed)
            row += block.num_rows


def _subtitles(index: int, lists: tuple[Any, ...], errors: dict[int, str]) -> str | None:
    """The three lists of a video, as JSON, as WebVTT; what cannot be is an error of the row."""
    try:
        starts, ends, texts = (json.loads(each) for each in lists)
        cues = list(zip(starts, ends, texts, strict=True))
        return webvtt((float(start), float(end), str(text)) for start, end, text in cues)
    except (TypeError, ValueError, OverflowError) as error:
        errors.setdefault(index, f"start, end and text are not lists of the same length: {error}")
        return None


def webvtt(cues: Iterator[tuple[float, float, str]]) -> str:
    """(start in s, end in s, text) as WebVTT."""
    lines = ["WEBVTT", ""]
    for start, end, text in cues:
        lines += [f"{_time(start)} --> {_time(end)}", " ".join(text.replace("-->", "->").split()), ""]
    return "\n".join(lines)


def _time(seconds: float) -> str:
    ms = round(seconds * 1000)
    if ms < 0:
        raise ValueError(f"a time of {seconds} s")
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"
