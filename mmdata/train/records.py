"""Random access to the samples of a dataset by its index: tar or Parquet shards, on a disk or any fsspec URL."""

from __future__ import annotations

import contextlib
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mmdata.errors import ConfigError, Reason, SampleError
from mmdata.sample import IMAGE_PARTS, SOUND_PARTS
from mmdata.shards import ledger, storage
from mmdata.shards.folders import DatasetFolder, shard_number
from mmdata.train.media import MEL_PART, VIDEO_PARTS, Medium
from mmdata.train.places import Part, Places, read_parts
from mmdata.train.sections import Kind

_INDEX_COLUMNS = ("key", "parts", "row_group", "row", "text_tokens", "duration_s", "source")
_NUMBERED = re.compile(r"(\d{3,})\.(\w+)")
_OPEN_SHARDS = 16
_HELD_GROUPS = 4
_MEDIA_COLUMNS = ("image", "video", "audio", "frames", "images", "videos", "audios")
_TEXTS = ("caption", "messages", "frame_times_s")
_TEXT_PARTS = ("txt", "json")  # of a tar


@dataclass
class Record:
    """One sample as a trainer reads it: `messages` where it is a conversation or a document, else `caption`."""

    key: str
    source: str
    caption: str
    messages: list[dict[str, Any]] | None
    media: dict[Kind, list[Medium]] = field(default_factory=dict)


class Recent:
    """The most recently used of what is costly to make, at most `limit`; `close` is called for what goes."""

    def __init__(self, limit: int, close: Callable[[Any], None] | None = None) -> None:
        self._limit, self._close = limit, close
        self._held: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._held:
            self._held[key] = make()
            if len(self._held) > self._limit:
                _, old = self._held.popitem(last=False)
                if self._close is not None:
                    self._close(old)
        self._held.move_to_end(key)
        return self._held[key]


class ShardReader:
    """Samples of one modality and split of a dataset, by shard and row.

    Open files are kept within one process: make a reader in each worker. Raises ConfigError where there are no data.
    """

    def __init__(self, root: str, modality: str, split: str) -> None:
        self.folder, self.modality, self.split = DatasetFolder(root), modality, split
        names = storage.list_names(self.folder.path(f"index/{modality}/{split}"))
        numbers = (shard_number(name) for name in names if name.endswith(".parquet"))
        self.shards = sorted(number for number in numbers if number is not None)
        if not self.shards:
            raise ConfigError(f"{root}: has no index/{modality}/{split}; is it a dataset with such data?")
        self._indexes, self._places = Recent(_OPEN_SHARDS), Recent(_OPEN_SHARDS)
        self._files = Recent(_OPEN_SHARDS, close=lambda held: held[1].close())
        self._groups = Recent(_HELD_GROUPS)

    def index(self, shard: int) -> pa.Table:
        """The index of a shard: a row for each sample, in the shard's order."""
        path = self.folder.path(DatasetFolder.index(self.modality, self.split, shard))
        return self._indexes.get(shard, lambda: ledger.read(path, _INDEX_COLUMNS))

    def places(self, shard: int) -> Places:
        """The same, for single rows."""
        found: Places = self._places.get(shard, lambda: Places(self.index(shard)))
        return found

    def read(self, shard: int, row: int, *, media: bool = True) -> Record:
        """The sample; with media=False its media are there without their bytes.

        Raises SampleError where its bytes are cut off or its `json` is none.
        """
        places = self.places(shard)
        read = self._from_tar if places.is_tar else self._from_parquet
        caption, messages, times_s, parts = read(shard, row, media)
        conversation = messages if not self.modality.endswith("_text") else None
        record = Record(places.keys[row], places.sources[row] or "", caption, conversation)
        for medium in _media(parts, times_s, self.modality):
            record.media.setdefault(medium.kind, []).append(medium)
        return record

    def facts(self, shard: int, row: int) -> dict[str, Any]:
        """What the ledger said of a sample when it was emitted: the `json` of its tar, or its row in Parquet."""
        places = self.places(shard)
        if places.is_tar:
            found = self._bytes_of(shard, [part for part in places.parts(row) if part[0] == "json"])
            return dict(orjson.loads(found["json"])) if found else {}
        path = self.folder.path(DatasetFolder.parquet(self.modality, self.split, shard))
        file, _ = self._files.get(path, lambda: _opened(path, pq.ParquetFile))
        plain = [name for name in file.schema_arrow.names if name not in _MEDIA_COLUMNS]
        group = file.read_row_group(int(places.row_groups[row]), columns=plain)
        row_of: dict[str, Any] = group.slice(int(places.rows[row]), 1).to_pylist()[0]
        return row_of

    def media_of(self, shard: int, row: int, parts: list[dict[str, Any]] | None) -> list[Medium]:
        """Media of a sample without their bytes: from the index alone where it lists `parts`."""
        if parts is None:
            return [medium for found in self.read(shard, row, media=False).media.values() for medium in found]
        return _media([(part["part"], b"") for part in parts], (), self.modality)

    def _bytes_of(self, shard: int, parts: list[Part]) -> dict[str, bytes]:
        file, _ = self._files.get(shard, lambda: _opened(self._tar(shard)))
        try:
            return read_parts(file, parts)
        except EOFError as error:
            raise SampleError(Reason.TRUNCATED, f"its shard ends within part {error}") from error

    def _tar(self, shard: int) -> str:
        return self.folder.path(DatasetFolder.tar(self.modality, self.split, shard))

    def _from_tar(self, shard: int, row: int, media: bool) -> Any:
        places = self.places(shard).parts(row)
        read = self._bytes_of(shard, places if media else [part for part in places if part[0] in _TEXT_PARTS])
        try:
            facts = orjson.loads(read.get("json", b"{}"))
        except orjson.JSONDecodeError as error:
            raise SampleError(Reason.CORRUPT, f"json: {error}") from error
        parts = [(name, read.get(name, b"")) for name, _, _ in places if name not in _TEXT_PARTS]
        caption = read["txt"].decode("utf-8", "replace") if "txt" in read else str(facts.get("caption") or "")
        return caption, facts.get("messages"), facts.get("frame_times_s") or (), parts

    def _from_parquet(self, shard: int, row: int, media: bool) -> Any:
        path = self.folder.path(DatasetFolder.parquet(self.modality, self.split, shard))
        file, _ = self._files.get(path, lambda: _opened(path, pq.ParquetFile))
        places = self.places(shard)
        group = int(places.row_groups[row])
        table = self._groups.get((path, group, media), lambda: file.read_row_group(group, columns=_leaves(file, media)))
        values = table.slice(int(places.rows[row]), 1).to_pylist()[0]
        parts = []
        for name in _MEDIA_COLUMNS:
            found = values.get(name)
            for medium in found if isinstance(found, list) else [found] if found else []:
                # A key has no dot: what follows the first one is the part's name in a tar.
                parts.append((medium["path"].partition(".")[2], medium.get("bytes") or b""))
        return values.get("caption") or "", values.get("messages"), values.get("frame_times_s") or (), parts


def _opened(path: str, wrap: Callable[[BinaryIO], Any] = lambda file: file) -> tuple[Any, contextlib.ExitStack]:
    stack = contextlib.ExitStack()
    return wrap(stack.enter_context(storage.open_input(path))), stack


def _leaves(file: pq.ParquetFile, media: bool) -> list[str]:
    """Plain columns to read; without the bytes of media where they are not asked for."""
    wanted = {*_TEXTS, *_MEDIA_COLUMNS}
    paths = [file.schema.column(number).path for number in range(len(file.schema))]
    return [path for path in paths if path.split(".")[0] in wanted and (media or not path.endswith(".bytes"))]


def _media(parts: list[tuple[str, bytes]], times_s: Any, modality: str) -> list[Medium]:
    """The media that parts are of; numbered pictures are frames of one video in `video_text`, else pictures."""
    found: list[Medium] = []
    sound: list[tuple[str, bytes]] = []
    frames: list[tuple[str, bytes]] = []
    for name, data in sorted(parts, key=lambda part: (len(part[0].partition(".")[0]), part[0])):
        numbered = _NUMBERED.fullmatch(name)
        extension = numbered.group(2) if numbered else name
        if extension in IMAGE_PARTS and numbered and modality == "video_text":
            frames.append((extension, data))
        elif extension in IMAGE_PARTS:
            found.append(Medium("image", [(extension, data)]))
        elif extension in VIDEO_PARTS:
            found.append(Medium("video", [(extension, data)]))
        elif extension in SOUND_PARTS and numbered:
            found.append(Medium("audio", [(extension, data)]))
        elif extension in (*SOUND_PARTS, MEL_PART):
            sound.append((extension, data))
    if frames:
        # Frames that stand ready are cheaper than those of the file beside them.
        found = [medium for medium in found if medium.kind != "video"]
        found.append(Medium("video", frames, times_s))
    if sound:
        found.append(Medium("audio", sound))
    return found
