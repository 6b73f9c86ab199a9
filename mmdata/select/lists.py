"""Lists in text files, one entry a line, that rules read: concepts, and what is to be removed."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from mmdata.errors import ConfigError
from mmdata.shards import storage

KINDS = ("key", "url", "domain", "sha256", "phash")
_KEY = re.compile(r"[a-z0-9-]+-\d{12}(_\d{4,})?(-x\d+)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PHASH = re.compile(r"[0-9a-f]{16}")
_DOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)


@dataclass(frozen=True)
class RemovalList:
    """What is to be removed. keys take their children along. phash: 64-bit perceptual hashes."""

    key: tuple[str, ...] = ()
    url: tuple[str, ...] = ()
    domain: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()
    phash: tuple[int, ...] = ()


def read_lines(path: str) -> list[str]:
    """Lines that are not blank. Raises ConfigError where the file cannot be read as text."""
    try:
        text = storage.read_bytes(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    return [line for line in (line.strip() for line in text.splitlines()) if line]


@functools.lru_cache(maxsize=8)
def read_removal_list(path: str) -> RemovalList:
    """The entries of a file: `kind:entry`, or an entry whose kind shows (keys, URLs, domains, sha256); `#` comments.

    Raises ConfigError naming the first line that is none of these.
    """
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for line in read_lines(path):
        if not line.startswith("#"):
            kind, entry = removal_entry(line, path)
            found[kind].append(entry)
    texts = {kind: tuple(dict.fromkeys(found[kind])) for kind in KINDS if kind != "phash"}
    return RemovalList(**texts, phash=tuple(dict.fromkeys(int(entry, 16) for entry in found["phash"])))


def removal_entry(line: str, where: str) -> tuple[str, str]:
    """Kind and entry of one line."""
    kind, colon, rest = line.partition(":")
    if colon and kind in KINDS and not rest.startswith("//"):
        entry = rest.strip()
    else:
        kind, entry = _kind_of(line), line
    entry = entry if kind in ("url", "key") else entry.lower().rstrip(".")
    pattern = {"key": _KEY, "url": _URL, "domain": _DOMAIN, "sha256": _SHA256, "phash": _PHASH}.get(kind)
    if pattern is None or not pattern.fullmatch(entry):
        raise ConfigError(
            f"{where}: found {line[:120]!r}, allowed are keys, URLs, domains, sha256, and key:, url:, domain:, sha256: "
            "or phash: (16 hex digits) before one"
        )
    return kind, entry


def _kind_of(entry: str) -> str:
    if _KEY.fullmatch(entry):
        return "key"
    if _SHA256.fullmatch(entry.lower()):
        return "sha256"
    if _URL.fullmatch(entry):
        return "url"
    return "domain" if _DOMAIN.fullmatch(entry.lower().rstrip(".")) else ""
