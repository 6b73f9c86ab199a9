"""Files on a disk or any fsspec URL: read, list, create if absent, publish; nothing is ever half there.

A local path uses the operating system's own calls (link, rename, fsync); everything else goes through fsspec. Errors of
the storage itself become StorageError, so that a full disk ends with its own exit code wherever it is met.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mmdata.errors import DamageError, StorageError

_COPY_BYTES = 1 << 20
_STORAGE_ERRNOS = {
    errno.ENOSPC: "storage is full",
    errno.EDQUOT: "the storage quota is used up",
    errno.EFBIG: "a file grew over the limit of this system",
    errno.EACCES: "storage denies access",
    errno.EPERM: "storage denies access",
    errno.EROFS: "storage is read-only",
}


def is_remote(path: str) -> bool:
    """True for an fsspec URL such as `s3://bucket/run`; `file://` counts as local."""
    return "://" in path and not path.startswith("file://")


def local_path(path: str) -> Path:
    """A local path as Path, without `file://`."""
    return Path(path.removeprefix("file://"))


def join(folder: str, *names: str) -> str:
    """`folder/name/...`, for local paths and URLs alike."""
    return "/".join([folder.rstrip("/"), *names])


def filesystem(path: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path within it."""
    import fsspec

    fs, inner = fsspec.core.url_to_fs(path)
    return fs, inner


@contextlib.contextmanager
def storage_errors(path: str) -> Iterator[None]:
    """Turn errors of the storage into StorageError that names the file and what to do."""
    try:
        yield
    except (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError):
        raise
    except OSError as error:
        what = _STORAGE_ERRNOS.get(error.errno or 0)
        if what is None and not is_remote(path):
            raise
        raise StorageError(
            f"{path}: {what or error}; free space or fix access, then run the same command again"
        ) from error


def read_bytes(path: str) -> bytes:
    """The whole file. Raises FileNotFoundError where there is none."""
    with storage_errors(path):
        if not is_remote(path):
            return local_path(path).read_bytes()
        fs, inner = filesystem(path)
        data: bytes = fs.cat_file(inner)
        return data


@contextlib.contextmanager
def open_input(path: str) -> Iterator[BinaryIO]:
    """The file opened for reading, with seek."""
    with storage_errors(path):
        if not is_remote(path):
            with local_path(path).open("rb") as file:
                yield file
        else:
            fs, inner = filesystem(path)
            with fs.open(inner, "rb") as file:
                yield file


def exists(path: str) -> bool:
    if not is_remote(path):
        return local_path(path).exists()
    fs, inner = filesystem(path)
    return bool(fs.exists(inner))


def size_bytes(path: str) -> int | None:
    """Size of the file, or None where there is none."""
    try:
        if not is_remote(path):
            return local_path(path).stat().st_size
        fs, inner = filesystem(path)
        return int(fs.info(inner)["size"])
    except FileNotFoundError:
        return None


def list_names(folder: str) -> list[str]:
    """Names in a folder, sorted; none where there is no folder."""
    with storage_errors(folder):
        try:
            if not is_remote(folder):
                return sorted(os.listdir(local_path(folder)))
            fs, inner = filesystem(folder)
            fs.invalidate_cache(inner)
            return sorted(name.rstrip("/").rpartition("/")[2] for name in fs.ls(inner, detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []


def list_files(folder: str) -> list[str]:
    """Paths of all files below a folder, relative to it, sorted."""
    if not is_remote(folder):
        root = local_path(folder)
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    fs, inner = filesystem(folder)
    fs.invalidate_cache()
    return sorted(name[len(inner) :].lstrip("/") for name in fs.find(inner))


def remove(path: str) -> None:
    """Remove a file or a folder; nothing happens where there is none."""
    with storage_errors(path), contextlib.suppress(FileNotFoundError):
        if is_remote(path):
            fs, inner = filesystem(path)
            fs.rm(inner, recursive=True)
        elif local_path(path).is_dir():
            shutil.rmtree(local_path(path))
        else:
            local_path(path).unlink()


def create_if_absent(path: str, data: bytes) -> bool:
    """Write the file whole unless it exists; True where this call made it. Two callers never both win."""
    with storage_errors(path):
        if is_remote(path):
            fs, inner = filesystem(path)
            try:
                fs.pipe_file(inner, data, mode="create")
            except FileExistsError:
                return False
            return True
        target = local_path(path)
        temporary = _write_temporary(target, data)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        _sync_folder(target.parent)
        return True


def write_whole(path: str, data: bytes) -> None:
    """Write the file whole, in place of what is there: readers see the old or the new bytes, never a mixture."""
    with storage_errors(path):
        if is_remote(path):
            fs, inner = filesystem(path)
            fs.pipe_file(inner, data)
            return
        target = local_path(path)
        os.replace(_write_temporary(target, data), target)
        _sync_folder(target.parent)


def upload(file: Path, path: str) -> None:
    """Put a finished local file at `path`, private to one attempt; a local file moves without a copy where it can."""
    with storage_errors(path):
        if is_remote(path):
            fs, inner = filesystem(path)
            fs.put_file(str(file), inner)
            file.unlink()
            return
        target = local_path(path)
        if target != file:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(file, target)


def publish(attempt: str, path: str, sha256: str) -> None:
    """Give the attempt's file its final name; doing it again changes nothing.

    Raises DamageError where another file with other bytes has that name, FileNotFoundError where neither is there.
    """
    with storage_errors(path):
        if is_remote(path):
            fs, source = filesystem(attempt)
            _, target = filesystem(path)
            if not fs.exists(target):
                fs.copy(source, target)
                return
        else:
            local_path(path).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(local_path(attempt), local_path(path))
                _sync_folder(local_path(path).parent)
                return
            except FileExistsError:
                pass
            except FileNotFoundError:
                if not exists(path):
                    raise
        found = sha256_of(path)
        if found != sha256:
            raise DamageError(f"{path}: sha256 is {found[:12]}, but its commit record says {sha256[:12]}")


def sha256_of(path: str) -> str:
    """Hex sha256 of a file."""
    digest = hashlib.sha256()
    with open_input(path) as file:
        while block := file.read(_COPY_BYTES):
            digest.update(block)
    return digest.hexdigest()


def local_copy(path: str, scratch: Path) -> Path:
    """The file as a local path: itself where it is local, else a copy in `scratch`."""
    if not is_remote(path):
        return local_path(path)
    target = scratch / f"{uuid.uuid4().hex}-{path.rpartition('/')[2]}"
    with storage_errors(path):
        fs, inner = filesystem(path)
        fs.get_file(inner, str(target))
    return target


def free_bytes(path: str) -> int | None:
    """Free space where `path` is or will be; None where that cannot be told (object stores)."""
    if is_remote(path):
        return None
    folder = local_path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def fsync_file(file: BinaryIO) -> None:
    """Make what was written to an open file durable."""
    file.flush()
    os.fsync(file.fileno())


def _write_temporary(target: Path, data: bytes) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex[:12]}"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            fsync_file(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
