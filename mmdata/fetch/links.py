"""A link, what came of it, and the checks on its bytes that do not depend on who fetched them."""

from __future__ import annotations

import hashlib
from collections.abc import Container
from dataclasses import dataclass

from mmdata.errors import Reason
from mmdata.sample import clean_detail


@dataclass(frozen=True, slots=True)
class Link:
    """One thing to fetch; `expected_sha256` is what the table says about its bytes, if it says anything."""

    key: str
    url: str
    expected_sha256: str | None = None


@dataclass(slots=True)
class Fetched:
    """What came of a link.

    data: the body, empty unless ok. num_bytes: body bytes that arrived in the last attempt. attempts: requests chains
    begun for it, 0 where it was refused before any. http_code: of the last response, None where there was none.
    """

    key: str
    data: bytes = b""
    reason: Reason = Reason.OK
    detail: str = ""
    http_code: int | None = None
    attempts: int = 0
    sha256: str | None = None
    num_bytes: int = 0

    def end(self, reason: Reason, detail: str = "") -> Fetched:
        """Set why there are no bytes, and let go of them."""
        self.reason = reason
        self.detail = clean_detail(detail)
        self.data = b""
        return self


def check_bytes(fetched: Fetched, expected_sha256: str | None, blocklist: Container[str]) -> Fetched:
    """`fetched` with its sha256, ended where the hash is not the expected one or is on the blocklist."""
    if fetched.reason is not Reason.OK:
        return fetched
    if not fetched.data:
        return fetched.end(Reason.EMPTY, "no bytes in the body")
    digest = fetched.sha256 = hashlib.sha256(fetched.data).hexdigest()
    # The blocklist first: a listed file is reported as such even where the table's hash is wrong too.
    if digest in blocklist:
        return fetched.end(Reason.HASH_BLOCKLIST, "listed in fetch.hash_blocklist")
    if expected_sha256 and digest != expected_sha256.strip().lower():
        return fetched.end(Reason.HASH_MISMATCH, f"expected sha256 {expected_sha256}")
    return fetched
