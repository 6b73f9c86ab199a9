"""The list of sha256 whose files must not be written, held as 32 bytes a hash."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path

from mmdata.errors import ConfigError

_HASH_BYTES = 32
_HEX = re.compile(r"[0-9a-fA-F]{64}")


class HashList:
    """A set of sha256 for `in` with hexadecimal text; sorted bytes: a Python set needs five times the memory."""

    def __init__(self, digests: Iterable[str] = ()) -> None:
        self._packed = b"".join(sorted({bytes.fromhex(digest) for digest in digests}))

    def __len__(self) -> int:
        return len(self._packed) // _HASH_BYTES

    def __getitem__(self, index: int) -> bytes:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._packed[index * _HASH_BYTES : (index + 1) * _HASH_BYTES]

    def __contains__(self, digest: object) -> bool:
        if not isinstance(digest, str) or not _HEX.fullmatch(digest):
            return False
        wanted = bytes.fromhex(digest)
        index = bisect_left(self, wanted)
        return index < len(self) and self[index] == wanted


def read_hash_list(path: str | Path) -> HashList:
    """The sha256 in a text file, one a line; what follows the hash on a line (a file name) and # comments are ignored.

    Raises ConfigError where the file cannot be read or a line holds no hash: a list of what must never be written
    must not be half read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"fetch.hash_blocklist: {path}: cannot be read: {error}") from None
    digests = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if not _HEX.fullmatch(words[0]):
            raise ConfigError(
                f"fetch.hash_blocklist: {path}: line {number}: found {words[0][:80]!r}, allowed is a sha256"
            )
        digests.append(words[0])
    return HashList(digests)
