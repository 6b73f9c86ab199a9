"""How the files of each modality look: one description each, so that nothing else asks which modality it writes.

Most follows from the modality's ledger columns: where there is a size, img2dataset's width and height are in `json` and
sidecar; where there are messages, it is a document.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from mmdata.sample import PART_GROUPS
from mmdata.shards import ledger

# img2dataset's names and types after the source's own columns, and where they lie in a ledger.
SIDECAR = (
    ("caption", pa.string(), "caption"),
    ("url", pa.string(), "url"),
    ("key", pa.string(), ""),
    ("status", pa.string(), ""),
    ("error_message", pa.string(), ""),
    ("width", pa.int32(), "width_px"),
    ("height", pa.int32(), "height_px"),
    ("original_width", pa.int32(), "original_width_px"),
    ("original_height", pa.int32(), "original_height_px"),
    ("sha256", pa.string(), "raw_sha256"),
)
SIZES = ("width_px", "height_px", "original_width_px", "original_height_px")
# Ledger columns that follow img2dataset's names where the modality has them.
NUMBERS = ("duration_s", "fps", "num_frames", "sample_rate_hz", "num_mel_frames", "num_images")
MESSAGES = "messages"


@dataclass(frozen=True)
class Media:
    """One column of media in a Parquet shard.

    feature: its type in Hugging Face `datasets`; empty for the bytes of an `.npy` file as they are. groups: of
    sample.PART_GROUPS. many: a list, in the order of the parts' numbers.
    """

    column: str
    feature: str
    groups: tuple[str, ...]
    many: bool = False

    def parts_of(self, parts: Iterable[str]) -> list[str]:
        """Those of the parts that go into this column, in their order."""
        return sorted((part for part in parts if self._holds(part)), key=_number)

    def _holds(self, part: str) -> bool:
        return any(PART_GROUPS[group].fullmatch(part) for group in self.groups)

    @property
    def kind(self) -> pa.DataType:
        """Its type in Arrow."""
        if not self.feature:
            return pa.binary()
        one = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        return pa.list_(one) if self.many else one


@dataclass(frozen=True)
class Layout:
    """One modality.

    media: its Parquet columns. fixed: those that are there even if no sample of the run has such a part. said: type of
    the content piece that stands for the media where a caption is written as a conversation; none for documents, which
    bring their own. augments: kinds of `emit.augment` that apply, in this order. video2dataset: its `_stats.json` has
    that tool's counts too.
    """

    modality: str
    media: tuple[Media, ...]
    fixed: frozenset[str]
    said: str = ""
    augments: tuple[str, ...] = ()
    video2dataset: bool = False

    @cached_property
    def is_document(self) -> bool:
        """Its text stands in messages, and a sample may have no media at all."""
        return MESSAGES in self.ledger_columns.names

    @property
    def ledger_columns(self) -> pa.Schema:
        return ledger.BY_MODALITY[self.modality]

    @property
    def sidecar(self) -> tuple[tuple[str, pa.DataType, str], ...]:
        """img2dataset's columns that say something here."""
        known = {"", *ledger.COMMON.names, *self.ledger_columns.names}
        return tuple(entry for entry in SIDECAR if entry[2] in known)

    @property
    def sizes(self) -> list[str]:
        return [name for name in SIZES if name in self.ledger_columns.names]

    @property
    def numbers(self) -> list[str]:
        return [name for name in NUMBERS if name in self.ledger_columns.names]

    def columns_for(self, parts: Iterable[str]) -> list[str]:
        """Names of the media columns of a run whose samples have these parts, in the order they are written."""
        known = list(parts)
        return [m.column for m in self.media if m.column in self.fixed or m.parts_of(known)]


def _number(part: str) -> tuple[int, str]:
    stem = part.partition(".")[0]
    return (int(stem) if stem.isdigit() else -1, part)


_IMAGE = Media("image", "Image", ("image",))
_VIDEO = Media("video", "Video", ("video",))
FRAMES = Media("frames", "Image", ("frames",), many=True)
_AUDIO = Media("audio", "Audio", ("sound",))
_FEATURES = (Media("mel", "", ("mel",)), Media("mfcc", "", ("mfcc",)))
_LISTS = (
    Media("images", "Image", ("image", "frames"), many=True),
    Media("videos", "Video", ("video",), many=True),
    Media("audios", "Audio", ("sound",), many=True),
)
_ALL_LISTS = frozenset(media.column for media in _LISTS)
LAYOUTS = {
    layout.modality: layout
    for layout in (
        Layout("image_text", (_IMAGE,), frozenset({"image"}), "image", ("image", "caption")),
        Layout(
            "video_text",
            (_VIDEO, FRAMES, _AUDIO, *_FEATURES),
            frozenset(),
            "video",
            ("video", "caption"),
            video2dataset=True,
        ),
        Layout("audio_text", (_AUDIO, *_FEATURES), frozenset(), "audio", ("audio", "caption"), video2dataset=True),
        Layout("interleaved", _LISTS, _ALL_LISTS),
        Layout("instruct", _LISTS, _ALL_LISTS),
    )
}
MEDIA_COLUMNS = frozenset(media.column for layout in LAYOUTS.values() for media in layout.media)
