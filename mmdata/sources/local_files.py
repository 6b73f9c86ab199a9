"""Names of files in tables and documents, and the files below a root that they stand for.

A name can only lead to a file below the root: one that is absolute, a link, or holds `..` is refused. Symbolic links
below the root are followed, since whoever owns the folder has put them there.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from mmdata.shards import storage
from mmdata.sources import inputs as files

_SHOWN = 100  # characters of a name in a message


Place = tuple[str, int, int]  # path of a file, where in it the medium begins, and how many bytes it has


def place_of(root: str, name: str | None) -> Place | str:
    """The whole file `name` below `root`, or why there is none."""
    if not name or not name.strip():
        return "names no file"
    shown = repr(name[:_SHOWN])
    if "://" in name or "\0" in name:
        return f"{shown} is not the name of a file"
    if name.startswith("/") or ".." in name.split("/"):
        return f"{shown} leads out of the folder that it is relative to"
    path = storage.join(root, posixpath.normpath(name))
    try:
        found = files.one(path)
    except OSError as error:  # a name that is too long, a loop of links, a folder that may not be looked into
        return f"{shown} cannot be looked at: {error.strerror}"
    return f"{shown} is not there" if found is None else (path, 0, found.size_bytes)


def media_columns(places: Sequence[Place | None]) -> dict[str, Any]:
    """Columns media_path, media_offset and media_size, null where there is no place."""
    return {
        "media_path": pa.array([place and place[0] for place in places], pa.string()),
        "media_offset": pa.array([place and place[1] for place in places], pa.int64()),
        "media_size": pa.array([place and place[2] for place in places], pa.int64()),
    }


def located(root: str, names: Sequence[Any], suffixes: Sequence[str], errors: dict[int, str]) -> dict[str, Any]:
    """The media columns of rows that name files below `root`; a name that leads nowhere becomes an error of its row.

    suffixes: what is put behind a name, the first that gives a file; ("",) for names that are whole.
    """
    places: list[Place | None] = []
    for index, name in enumerate(names):
        place: Place | str = "names no file"
        for suffix in suffixes:
            place = place_of(root, None if name is None else f"{name}{suffix}")
            if not isinstance(place, str):
                break
        if isinstance(place, str):
            errors.setdefault(index, place)
        places.append(None if isinstance(place, str) or index in errors else place)
    return media_columns(places)


def folder_of(path: str) -> str:
    """The folder that a file lies in."""
    folder, slash, _ = path.rpartition("/")
    return folder or slash or "."
