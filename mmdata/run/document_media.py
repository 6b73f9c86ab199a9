"""The media of one document while they come in: what has come waits in a file, so that memory stays bounded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from mmdata.errors import Reason
from mmdata.fetch.links import Fetched, Link
from mmdata.sample import Sample
from mmdata.shards.storage import storage_errors
from mmdata.sources.media import MediaPlace
from mmdata.sources.messages import MEDIA_REASONS, places, raw_part

TIMES_MAX_BYTES = 4  # what the media of one document may have together, in times of what one medium may have
_Read = Callable[[str, MediaPlace, "str | None"], Fetched]


class DocumentMedia:
    """A document with its list of media.

    links: those to fetch, by key. The sample is ended at once where the text has other places than there are media.
    scratch: a folder for the bytes of links that come before others.
    """

    def __init__(self, sample: Sample, messages: str, media_list: str, scratch: Path) -> None:
        self.sample = sample
        self._media: list[dict[str, Any]] = orjson.loads(media_list)
        self._file = scratch / f"{sample.key}.media"
        self._size = 0
        self._fetched: dict[int, tuple[Fetched, int, int]] = {}  # by place, with offset and length in the file
        sample.columns["messages"] = messages
        wanted, named = places(orjson.loads(messages)), [medium["type"] for medium in self._media]
        if wanted != named:
            sample.end(Reason.MEDIA_COUNT, f"places in the text: {', '.join(wanted)}; media: {', '.join(named)}")
        self.links: dict[str, Link] = {}
        self._places: dict[str, int] = {}
        for place, medium in enumerate(self._media if sample.is_ok else ()):
            if "url" in medium:
                key = f"{sample.key}.{place}"
                self.links[key] = Link(key, medium["url"], medium.get("sha256"))
                self._places[key] = place

    @property
    def is_complete(self) -> bool:
        """True where an answer for every link is there."""
        return len(self._fetched) == len(self.links)

    def keep(self, fetched: Fetched) -> None:
        """Take what came of one of the links; its bytes are put away."""
        length = len(fetched.data)
        if length:
            with storage_errors(str(self._file)), self._file.open("ab") as file:
                file.write(fetched.data)
            fetched.data = b""
        self._fetched[self._places[fetched.key]] = fetched, self._size, length
        self._size += length

    def finish(self, read: _Read, max_bytes: int) -> Sample:
        """The sample with the media that were had as parts, by place, and the reason of every medium.

        Media beyond TIMES_MAX_BYTES times max_bytes in all, in their order, are too large. raw_sha256 is of the
        messages and of the hashes of the media, so that equal documents are found.
        """
        if not self.sample.is_ok:
            return self.sample
        left = TIMES_MAX_BYTES * max_bytes
        reasons, hashes, total = [], [], 0
        for place, medium in enumerate(self._media):
            fetched, data = self._medium(place, medium, read, left)
            reasons.append(fetched.reason.value)
            hashes.append(fetched.sha256 or "")
            if data:
                self.sample.parts[raw_part(place)] = data
                left -= len(data)
                total += len(data)
        self._file.unlink(missing_ok=True)
        text = "\n".join([self.sample.columns["messages"], *hashes])
        self.sample.columns |= {
            MEDIA_REASONS: reasons,
            "attempts": max((fetched.attempts for fetched, _, _ in self._fetched.values()), default=1),
            "raw_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "bytes": total,
        }
        return self.sample

    def _medium(self, place: int, medium: dict[str, Any], read: _Read, left: int) -> tuple[Fetched, bytes]:
        """What came of a medium, and its bytes where it is ok and there is room for them."""
        key = f"{self.sample.key}.{place}"
        if "reason" in medium:
            return Fetched(key).end(Reason(medium["reason"])), b""
        if place in self._fetched:
            fetched, offset, length = self._fetched[place]
        else:
            fetched = read(key, MediaPlace(medium["path"], 0, medium["size"]), medium.get("sha256"))
            offset, length = 0, len(fetched.data)
        if fetched.reason is Reason.OK and length > left:
            fetched.end(Reason.TOO_LARGE)
        if fetched.reason is not Reason.OK:
            return fetched, b""
        if fetched.data:
            return fetched, fetched.data
        with self._file.open("rb") as file:
            file.seek(offset)
            return fetched, file.read(length)
