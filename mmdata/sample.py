"""A sample: the parts and columns of one training example, and what became of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from mmdata.errors import Reason, Status

RAW = "raw"  # the part that holds the bytes as they came from the source, until a decoder has read them
IMAGE_PARTS = ("jpg", "png", "webp")  # the extensions a picture may have in a shard
SOUND_PARTS = ("flac", "wav")
PART_GROUPS = {  # what stages read and write, as patterns of part names
    "raw": re.compile(r"raw"),
    "image": re.compile("|".join(IMAGE_PARTS)),
    "frames": re.compile(r"\d{3,}\.jpg"),
    "video": re.compile(r"mp4"),
    "sound": re.compile("|".join(SOUND_PARTS)),
    "mel": re.compile(r"mel\.npy"),
    "mfcc": re.compile(r"mfcc\.npy"),
}
DETAIL_CHARS = 200

_SOURCE_NAME = re.compile(r"[a-z0-9-]+")
_DESCENT = re.compile(r"(_\d{4,})?(-x\d+)?$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")


@dataclass(slots=True)
class Sample:
    """One training example on its way through the stages.

    parts: bytes by extension (`raw`, `jpg`, ...). columns: its ledger row by column name, except status and reason.
    """

    key: str
    parts: dict[str, bytes] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    reason: Reason = Reason.OK
    detail: str = ""

    @property
    def status(self) -> Status:
        return self.reason.status

    @property
    def is_ok(self) -> bool:
        return self.reason is Reason.OK

    @property
    def image_part(self) -> str | None:
        """Extension of the part that holds the decoded picture, or None before it is decoded."""
        return next((part for part in IMAGE_PARTS if part in self.parts), None)

    @property
    def frame_parts(self) -> list[str]:
        """Names of the frames, in their order."""
        return sorted((part for part in self.parts if PART_GROUPS["frames"].fullmatch(part)), key=_number)

    @property
    def sound_part(self) -> str | None:
        """Extension of the part that holds the sound, or None before there is one."""
        return next((part for part in SOUND_PARTS if part in self.parts), None)

    def has(self, name: str) -> bool:
        """True where it has a part of the group; a column is the stage's own matter, so always true for its name."""
        pattern = PART_GROUPS.get(name)
        return pattern is None or any(pattern.fullmatch(part) for part in self.parts)

    def end(self, reason: Reason, detail: str = "") -> None:
        """Set why this sample goes no further and let go of its bytes. The first reason stays."""
        if self.is_ok:
            self.reason = reason
            self.detail = clean_detail(detail)
            self.parts.clear()


def _number(part: str) -> int:
    return int(part.partition(".")[0])


def clean_detail(text: str) -> str:
    """`text` on one line, without control characters or lone surrogates, at most 200 characters."""
    return _CONTROL.sub(" ", text).strip()[:DETAIL_CHARS]


def sample_key(source: str, number: int) -> str:
    """Key of row `number` of a source: `pictures-000000000042`. No dot: readers cut a name at the first one."""
    return f"{source}-{number:012d}"


def child_key(parent: str, index: int) -> str:
    """Key of the `index`-th part cut from a sample: `films-000000000042_0007`."""
    return f"{parent}_{index:04d}"


def root_key(key: str) -> str:
    """The key of the input row that `key` comes from; splits go by it."""
    return _DESCENT.sub("", key)


def is_source_name(name: str) -> bool:
    """True for `[a-z0-9-]+`: it begins every key of the source."""
    return _SOURCE_NAME.fullmatch(name) is not None
