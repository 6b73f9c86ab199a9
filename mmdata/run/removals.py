"""What a run must not hold: the lists that were recorded in `removals/` of its folder, and which rows they name.

A list without purge stays readable (`000000.txt`) and is a rule of every later selection. Of a purge only hashes stay
(`000000.json`), so that the record itself does not hold what was to go. Both are heeded where rows are fetched or read.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from mmdata.errors import ConfigError, Reason
from mmdata.sample import Sample, root_key, sample_key
from mmdata.select.lists import KINDS, read_removal_list, removal_entry
from mmdata.select.remove import Remove
from mmdata.shards import storage
from mmdata.shards.folders import RunFolder

Entry = tuple[str, str]  # kind and entry: ("domain", "media.example")
_COPY = re.compile(r"-x\d+$")
_PLAIN = re.compile(r"https?://([a-z0-9-]+(?:\.[a-z0-9-]+)+)(?:[/?][^#\s]*)?")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Purge:
    """A recorded purge. hashes: of its entries, by kind. versions: numbers of the dataset versions that have to go."""

    path: str
    hashes: Mapping[str, Sequence[str]]
    versions: Sequence[int]
    done: bool

    def write(self, done: bool) -> None:
        """Record it, whole."""
        tree = {"hashes": self.hashes, "versions": list(self.versions), "done": done}
        storage.write_whole(self.path, json.dumps(tree, indent=1, sort_keys=True).encode())


@dataclass
class Removals:
    """Which rows are listed. hashes: by kind, of every entry; of any run without a list it is empty, and false."""

    hashes: dict[str, set[str]] = field(default_factory=dict)
    _hosts: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, run: RunFolder, purged_only: bool = False) -> Removals:
        """Everything that was recorded in a run."""
        removals = cls()
        for purge in purges(run):
            for kind, hashes in purge.hashes.items():
                removals.hashes.setdefault(kind, set()).update(hashes)
        for path in () if purged_only else lists(run):
            removals.add(read_entries(path))
        return removals

    def __bool__(self) -> bool:
        return bool(self.hashes)

    def add(self, entries: Iterable[Entry]) -> None:
        for kind, entry in entries:
            self.hashes.setdefault(kind, set()).add(entry_hash(kind, entry))

    def has(self, kind: str, entry: str | None) -> bool:
        return bool(entry) and kind in self.hashes and entry_hash(kind, str(entry)) in self.hashes[kind]

    def has_url(self, url: str | None) -> bool:
        """True for a listed URL, and for one whose host is a listed domain or below one."""
        if not url or not self.hashes.keys() & {"url", "domain"}:
            return False
        if plain := _PLAIN.fullmatch(url):  # as most are: parsing takes ten times as long
            return self.has("url", url) or self._has_host(plain[1])
        return self.has("url", url) or self.has("url", plain_url(url)) or self._has_host(host_of(url))

    def _has_host(self, host: str) -> bool:
        known = self._hosts.get(host)
        if known is None:
            labels = host.split(".")
            above = (".".join(labels[place:]) for place in range(len(labels)))
            known = self._hosts[host] = any(self.has("domain", domain) for domain in above)
        return known

    def has_row(self, key: str, row: Mapping[str, Any]) -> bool:
        """True for a listed row of an input, by its key, link, hash, or one of its media."""
        return (
            self.has("key", key)
            or self.has_url(row["url"])
            or self.has("sha256", row["expected_sha256"])
            or any(
                self.has_url(medium.get("url")) or self.has("sha256", medium.get("sha256"))
                for medium in (orjson.loads(row["media_list"]) if row["media_list"] else ())
            )
        )

    def end(self, sample: Sample) -> None:
        """End a sample that is listed by what was not known before: the key of a child, the hash of a picture."""
        phash = sample.columns.get("phash")
        if self.has("key", sample.key) or (phash is not None and self.has("phash", f"{phash:016x}")):
            sample.end(Reason.REMOVED, "listed")

    def input_roots(self, rows: pa.Table, source: str) -> set[str]:
        """Keys of the listed rows of a shard of the plan; those that were removed before too."""
        names = ["number", "url", "expected_sha256", "media_list", "row_error"]
        found = set()
        for row in rows.select(names).to_pylist():
            key = sample_key(source, row["number"])
            if row["row_error"] == Reason.REMOVED.value or self.has_row(key, row):
                found.add(key)
        return found

    def ledger_mask(self, table: pa.Table, roots: Collection[str] = ()) -> NDArray[np.bool_]:
        """The listed rows of a ledger, and all that was cut from them. roots: keys of input rows known to be listed."""
        keys = table["key"].to_pylist()
        families = [root_key(key) for key in keys]
        listed = {root for root in set(families) if root in roots or self.has("key", root)}
        for family, url, digest in zip(
            families, table["url"].to_pylist(), table["raw_sha256"].to_pylist(), strict=True
        ):
            if family not in listed and (self.has_url(url) or self.has("sha256", digest)):
                listed.add(family)
        mask = np.array([family in listed for family in families], bool)
        if self.hashes.get("key"):
            mask |= np.array([self.has("key", key) for key in keys], bool)
        if self.hashes.get("phash") and "phash" in table.column_names:
            values = table["phash"].to_pylist()
            mask |= np.array([value is not None and self.has("phash", f"{value:016x}") for value in values], bool)
        return mask


def read_entries(path: str) -> list[Entry]:
    """The entries of a list: one a line, `#` before a comment. Raises ConfigError naming file, line and entry."""
    try:
        text = storage.read_bytes(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    entries: dict[Entry, None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*", "", line).strip()  # a URL may hold a '#', but no blank before it
        if line:
            kind, entry = removal_entry(line, f"{path}: line {number}")
            entries[kind, _COPY.sub("", entry) if kind == "key" else entry] = None
            if kind == "url":
                entries[kind, plain_url(entry)] = None
    return list(entries)


def entry_hash(kind: str, entry: str) -> str:
    """What stays of an entry that was purged."""
    return hashlib.sha256(f"{kind}:{entry}".encode("utf-8", "surrogatepass")).hexdigest()


@functools.lru_cache(maxsize=4096)
def plain_url(url: str) -> str:
    """One form for URLs that mean the same: scheme and host in small letters, no user, usual port or fragment."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        port = "" if parts.port in (None, _PORTS.get(parts.scheme)) else f":{parts.port}"
    except ValueError:
        return url
    if not parts.hostname:
        return url
    host = host_of(url)
    return parts._replace(netloc=f"[{host}]{port}" if ":" in host else host + port, fragment="").geturl()


def host_of(url: str) -> str:
    """The host of a URL in small letters and ASCII, empty where it has none."""
    try:
        host = (urlsplit(url.strip()).hostname or "").rstrip(".")
        return host if host.isascii() else host.encode("idna").decode()
    except (ValueError, UnicodeError):
        return ""


def folder_of(run: RunFolder) -> str:
    return storage.join(run.root, "removals")


def lists(run: RunFolder) -> list[str]:
    """Paths of the recorded lists that are readable, in their order."""
    return _recorded(run, ".txt")


def rules_of(run: RunFolder) -> list[Remove]:
    """The first rules of every selection of a run: one for each readable list."""
    read_removal_list.cache_clear()  # another process may have written a list since
    return [Remove(list=path) for path in lists(run)]


def purges(run: RunFolder) -> list[Purge]:
    """The recorded purges, in their order."""
    return [
        Purge(path, tree["hashes"], tree["versions"], tree["done"])
        for path in _recorded(run, ".json")
        for tree in [json.loads(storage.read_bytes(path))]
    ]


def record_list(run: RunFolder, entries: Sequence[Entry]) -> None:
    """Record a list, unless one that says the same is there."""
    text = "".join(f"{kind}:{entry}\n" for kind, entry in sorted(entries))
    if text and all(storage.read_bytes(path).decode() != text for path in lists(run)):
        storage.write_whole(_next(run, ".txt"), text.encode())


def record_purge(run: RunFolder, entries: Sequence[Entry], versions: Sequence[int]) -> None:
    """Record that a list is to be purged, unless that is so already, done or not."""
    hashes = {kind: sorted(entry_hash(k, e) for k, e in entries if k == kind) for kind in KINDS}
    hashes = {kind: found for kind, found in hashes.items() if found}
    if all(purge.hashes != hashes for purge in purges(run)):
        Purge(_next(run, ".json"), hashes, versions, False).write(done=False)


def forget_listed(run: RunFolder) -> None:
    """Take what purges name out of the readable lists; what is left of one is recorded anew."""
    purged = Removals.of(run, purged_only=True)
    for path in lists(run):
        entries = read_entries(path)
        left = [e for e in entries if not (purged.has(*e) or (e[0] == "url" and purged.has_url(e[1])))]
        left = [e for e in left if not (e[0] == "domain" and purged.has_url(f"http://{e[1]}/"))]
        if len(left) < len(entries):
            record_list(run, left)
            storage.remove(path)


def _recorded(run: RunFolder, suffix: str) -> list[str]:
    folder = folder_of(run)
    return [storage.join(folder, name) for name in storage.list_names(folder) if _is_record(name, suffix)]


def _is_record(name: str, suffix: str) -> bool:
    return name.endswith(suffix) and name[: -len(suffix)].isdigit()


def _next(run: RunFolder, suffix: str) -> str:
    numbers = [int(name[:6]) for name in storage.list_names(folder_of(run)) if name[:6].isdigit()]
    return storage.join(folder_of(run), f"{max(numbers, default=-1) + 1:06d}{suffix}")
