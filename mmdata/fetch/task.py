"""A link on its way through attempts and redirects, and what the end of one of its requests means."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import pycurl

from mmdata.errors import Reason, SampleError
from mmdata.fetch.address import Target, check_url
from mmdata.fetch.links import Link
from mmdata.fetch.politeness import retry_after_s
from mmdata.fetch.responses import REDIRECTS, reason_of_error, reason_of_status
from mmdata.fetch.settings import Settings
from mmdata.fetch.transfer import Transfer

_ABSOLUTE = re.compile(rb"\s*[A-Za-z][A-Za-z0-9+.-]*:")
WRITE_ERROR, TOO_LARGE_ERROR, TIMEOUT_ERROR, PARTIAL_ERROR = 23, 63, 28, 18


def checked_target(url: str, settings: Settings) -> Target:
    """The target of `url`. Raises SampleError (blocked.*) where it is no URL that may be fetched."""
    target = check_url(url, settings.ports)
    # Early and in words; and the only check of the address where a proxy connects. A mapped host is never looked up.
    if target.is_literal and target.host not in settings.connect_to:
        why = settings.rules.refusal(target.host.removesuffix("."), target.port)
        if why:
            raise SampleError(Reason.ADDRESS, why)
    return target


class Task:
    """Where a link points now, how often it was tried, and how much of the time of this attempt is left."""

    __slots__ = ("attempts", "first", "hops", "left_s", "link", "resolve", "seen", "target")

    def __init__(self, link: Link, target: Target, timeout_s: float) -> None:
        self.link = link
        self.first = target
        self.attempts = 0
        self.resolve: str | None = None
        self.restart(timeout_s)

    def restart(self, timeout_s: float) -> None:
        """Back to the link's own URL, with all the time of an attempt."""
        self.target = self.first
        self.left_s = timeout_s
        self.hops = 0
        self.seen: tuple[str, ...] = ()

    def redirect(self, location: str, settings: Settings) -> None:
        """Point to where a response sends us. Raises SampleError where that is not allowed, or no time is left."""
        if not location:
            raise SampleError(Reason.PROTOCOL, "redirect without Location")
        try:
            target = checked_target(location, settings)
        except SampleError as error:
            raise SampleError(Reason.REDIRECT, f"{error.reason.value}: {error.detail}") from None
        if self.target.scheme == "https" and target.scheme == "http":
            raise SampleError(Reason.REDIRECT, "from https to http")
        self.seen += (self.target.url,)
        if target.url in self.seen:
            raise SampleError(Reason.REDIRECT_LOOP, "redirected to where it has been")
        self.hops += 1
        if self.hops > settings.options.max_redirects:
            raise SampleError(Reason.REDIRECT_LOOP, f"more than {settings.options.max_redirects} redirects")
        if self.left_s <= 0:
            raise SampleError(Reason.TIMEOUT, f"not done within {settings.options.timeout_s:g} s")
        self.target = target
        self.resolve = None


@dataclass(slots=True)
class Outcome:
    """What one request came to. location: where it sends us, for a redirect. wait_s: what Retry-After asks for."""

    reason: Reason
    detail: str
    location: str | None = None
    wait_s: float | None = None


def outcome_of(transfer: Transfer, error: int, text: str) -> Outcome:
    """The outcome of a transfer that libcurl has ended with `error` (0: none) or that was stopped with a verdict."""
    transfer.look()
    code = transfer.code
    if transfer.refused:
        reason = Reason.REDIRECT if transfer.task.hops else Reason.ADDRESS
        return Outcome(reason, transfer.refused)
    # The status counts even where we did not read, or did not get, all of the body that came with it.
    if code > 200 and (error in (0, WRITE_ERROR, TOO_LARGE_ERROR, PARTIAL_ERROR) or code not in REDIRECTS):
        if code in REDIRECTS:
            return Outcome(Reason.PROTOCOL, f"HTTP status {code}", location=_location(transfer))
        outcome = Outcome(reason_of_status(code), f"HTTP status {code}")
        if code in (429, 503):
            waits = (retry_after_s(value, time.time()) for value in transfer.header("Retry-After"))
            outcome.wait_s = next((wait for wait in waits if wait is not None), None)
        return outcome
    if transfer.verdict:
        return Outcome(*transfer.verdict)
    if error == TIMEOUT_ERROR:
        return Outcome(*transfer.phase())
    if error:
        return Outcome(*reason_of_error(error, text))
    if not transfer.received:
        return Outcome(Reason.EMPTY, "no bytes in the body")
    return Outcome(Reason.OK, "")


def _location(transfer: Transfer) -> str:
    given = next(iter(transfer.header("Location")), "").encode("latin-1")
    if not _ABSOLUTE.match(given):
        # Made absolute by libcurl's own parser, which drops user names; so it is asked for relative ones only.
        given = transfer.curl.getinfo_raw(pycurl.REDIRECT_URL) or b""
    try:
        return given.decode("utf-8")
    except UnicodeDecodeError:
        return given.decode("latin-1")
