"""The media of a document before they are fetched: links, files below a root, or why one will not be had.

A medium is {"type": image | video | audio} with {"url"} or {"path", "size"}, perhaps {"sha256"}; or with {"reason"},
the code of why it is not even asked for. `media_list` of a row is the JSON of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmdata.errors import Reason
from mmdata.sources.local_files import place_of

_LINKS = ("raw_url", "url", "image_url", "href")
_NAMES = ("path", "file_name", "image_name", "image", "video", "audio")


def medium(kind: str, found: Any, root: str, *, prefer_files: bool = False) -> dict[str, Any]:
    """The medium that a value of a document stands for: a link, a name below `root`, or a mapping with either.

    prefer_files: where a mapping has both. What is none of these is a medium with a reason.
    """
    entry: dict[str, Any] = {"type": kind}
    if isinstance(found, Mapping):
        expected = found.get("sha256")
        if isinstance(expected, str) and expected:
            entry["sha256"] = expected.lower()
        keys = (*_NAMES, *_LINKS) if prefer_files else (*_LINKS, *_NAMES)
        found = next((found[key] for key in keys if isinstance(found.get(key), (str, Mapping)) and found[key]), None)
        if isinstance(found, Mapping):  # {"type": "image_url", "image_url": {"url": ...}}
            found = found.get("url")
    if not isinstance(found, str):
        return {**entry, "reason": Reason.ROW_ERROR.value}
    if "://" in found:
        return {**entry, "url": found}
    place = place_of(root, found)
    if isinstance(place, str):
        return {**entry, "reason": Reason.ROW_ERROR.value}
    return {**entry, "path": place[0], "size": place[2]}


def capped(media: list[dict[str, Any]], limit: int | None) -> list[dict[str, Any]]:
    """The same, where only the first `limit` are asked for."""
    if limit is None or len(media) <= limit:
        return media
    beyond = [{"type": each["type"], "reason": Reason.TOO_MANY_IMAGES.value} for each in media[limit:]]
    return [*media[:limit], *beyond]
