"""Finding input files: a path, a folder, a glob, braces or an fsspec URL; and what tells that one has changed."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from mmdata.errors import MmdataError, SourceError
from mmdata.shards import storage
from mmdata.sources.rows import InputFile

COMPRESSED = (".gz", ".zst")
# Up to here a file is hashed whole. Above, its ends: hashing a terabyte again at every start would take an hour.
WHOLE_BYTES = 16 << 20
_END_BYTES = 1 << 20
_GLOB = re.compile(r"[*?\[]")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_BUGS = (MmdataError, AssertionError, AttributeError, LookupError, TypeError)


@dataclass(frozen=True)
class Found:
    """A file that a path stands for; etag and mtime_s where the storage tells them."""

    path: str
    size_bytes: int
    etag: str = ""
    mtime_s: int = 0
    relative: str = ""  # to the folder it was found in, by `tree`


def find(path: str, suffixes: tuple[str, ...]) -> list[Found]:
    """The files that `path` stands for, sorted.

    In a folder, those below it whose name ends in one of `suffixes` (small letters, before .gz or .zst); names that
    begin with `.` or `_` are left out, as Spark and img2dataset leave their own notes there. Raises SourceError.
    """
    with unreadable(path):
        paths = [path] if one(path) is not None else expand_braces(path)
        found = {file.path: file for each in paths for file in _find(each, suffixes)}
    return [found[name] for name in sorted(found)]


def input_files(files: list[Found], path: str) -> list[InputFile]:
    """The files with their fingerprints. Raises SourceError where all are empty."""
    if not any(file.size_bytes for file in files):
        what = "is empty (0 bytes)" if len(files) == 1 else f"all {len(files)} files are empty"
        raise SourceError(f"{path}: {what}")
    return [InputFile(file.path, file.size_bytes, fingerprint(file)) for file in files]


def fingerprint(file: Found) -> str:
    """What changes when the file's content does, wherever it lies: its size with the storage's etag or with a sha256.

    The hash is of the whole content up to WHOLE_BYTES; of both ends and the time of change (in s) above that.
    """
    if file.etag:
        return f"{file.size_bytes}-{file.etag}"
    digest = hashlib.sha256()
    with unreadable(file.path), storage.open_input(file.path) as opened:
        if file.size_bytes <= WHOLE_BYTES:
            digest.update(opened.read())
        else:
            digest.update(opened.read(_END_BYTES))
            opened.seek(-_END_BYTES, os.SEEK_END)
            digest.update(opened.read())
            digest.update(str(file.mtime_s).encode())
    return f"{file.size_bytes}-{digest.hexdigest()[:32]}"


def folder_input(path: str, found: list[Found], media: tuple[str, ...]) -> InputFile:
    """A folder as one input; found: its files in order. media: suffixes of the files that are large.

    The fingerprint covers the names and sizes of all files and the content of all but media; up to WHOLE_BYTES in all,
    the content of media too.
    """
    size = sum(file.size_bytes for file in found)
    digest = hashlib.sha256()
    for file in found:
        digest.update(f"{file.relative}\0{file.size_bytes}\0".encode("utf-8", "surrogateescape"))
        if size <= WHOLE_BYTES or not file.relative.lower().endswith(media):
            digest.update(read(file.path))
    return InputFile(path, size, f"{size}-{digest.hexdigest()[:32]}")


def read(path: str) -> bytes:
    """A small file, whole. Raises SourceError."""
    with unreadable(path):
        return storage.read_bytes(path)


def expand_braces(pattern: str) -> Iterator[str]:
    """`a{00..02}` as a00, a01, a02 and `{x,y}` as x, y; numbers keep their width."""
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    if span := _RANGE.fullmatch(match[1]):
        width = len(span[1]) if span[1].startswith("0") else 0
        choices = [f"{number:0{width}d}" for number in range(int(span[1]), int(span[2]) + 1)]
    else:
        choices = match[1].split(",")
    for choice, rest in itertools.product(choices, expand_braces(pattern[match.end() :])):
        yield pattern[: match.start()] + choice + rest


def bare_name(path: str) -> str:
    """The path in small letters without .gz or .zst, for looking at its suffix."""
    name = path.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return name


def tree(folder: str) -> list[Found]:
    """All files below a folder with their names relative to it, sorted; hidden ones left out; none without a folder."""
    if storage.is_remote(folder):
        fs, inner = storage.filesystem(folder)
        root = str(fs.unstrip_protocol(inner)).rstrip("/")
        found = [_remote(fs, name, info) for name, info in fs.find(inner, detail=True).items()]
    else:
        root = str(storage.local_path(folder))
        found = [_local(os.path.join(parent, name)) for parent, _, names in os.walk(root) for name in names]
    found = [replace(file, relative=file.path[len(root) + 1 :]) for file in found]
    return sorted((file for file in found if not _is_hidden(file.relative)), key=lambda file: file.relative)


def is_folder(path: str) -> bool:
    """True where something lies below `path`."""
    if not storage.is_remote(path):
        return storage.local_path(path).is_dir()
    fs, inner = storage.filesystem(path)
    return bool(fs.isdir(inner))


def one(path: str) -> Found | None:
    """The file at exactly this path, or None where there is none or it is a folder."""
    if not storage.is_remote(path):
        local = storage.local_path(path)
        return _local(str(local)) if local.is_file() else None
    fs, inner = storage.filesystem(path)
    fs.invalidate_cache()
    try:
        info = fs.info(inner)
    except FileNotFoundError:
        return None
    return _remote(fs, inner, info, path) if info.get("type") == "file" else None


@contextlib.contextmanager
def unreadable(path: str) -> Iterator[None]:
    """Turn what goes wrong in opening, listing or reading `path` into SourceError; StorageError stays."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file or folder") from error
    except (OSError, EOFError, UnicodeError, pa.ArrowException) as error:
        raise SourceError(f"{path}: cannot be read: {error}") from error
    except ImportError as error:
        raise SourceError(f"{path}: needs a package that is not installed: {error}") from error
    # Each fsspec file system has exceptions of its own packages, which share no base class.
    except Exception as error:
        if not storage.is_remote(path) or isinstance(error, _BUGS):
            raise
        raise SourceError(f"{path}: cannot be read: {error}") from error


def _find(path: str, suffixes: tuple[str, ...]) -> list[Found]:
    if (file := one(path)) is not None:
        return [file]
    if _GLOB.search(path):
        found = _glob(path)
        if not found:
            raise SourceError(f"{path}: no file matches")
        return found
    names = ", ".join(f"*{suffix}" for suffix in suffixes)
    found = [file for file in tree(path) if bare_name(file.path).endswith(suffixes)]
    if not found:
        raise SourceError(f"{path}: " + (f"holds no {names}" if is_folder(path) else "no such file or folder"))
    return found


def _glob(path: str) -> list[Found]:
    if not storage.is_remote(path):
        names = glob.glob(str(storage.local_path(path)), recursive=True)
        return [_local(name) for name in sorted(names) if os.path.isfile(name)]
    fs, inner = storage.filesystem(path)
    found = fs.glob(inner, detail=True).items()
    return [_remote(fs, name, info) for name, info in sorted(found) if info.get("type") == "file"]


def _is_hidden(relative: str) -> bool:
    return any(step.startswith((".", "_")) for step in relative.split("/"))


def _local(path: str) -> Found:
    stat = os.stat(path)
    return Found(path, stat.st_size, mtime_s=int(stat.st_mtime))


def _remote(fs: Any, name: str, info: dict[str, Any], path: str = "") -> Found:
    etag = str(info.get("ETag") or info.get("etag") or info.get("md5Hash") or "").strip('"')
    return Found(path or str(fs.unstrip_protocol(name)), int(info.get("size") or 0), etag)
