"""What an error of yt-dlp means: a reason of the closed list, the HTTP status if there was one, and its words.

Sites say in prose why they show nothing, and yt-dlp passes that on; so words come first, then kinds of errors, then
status codes. What no rule knows is `fetch.site_unavailable` where yt-dlp expected such an answer, and `fetch.protocol`
where it did not (the site has changed, or yt-dlp has a bug).
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from http.client import RemoteDisconnected

from mmdata.errors import Reason
from mmdata.fetch.responses import reason_of_status

# In this order: "Private video. Sign in if ..." is private, "Sign in to confirm you're not a bot" is a rate limit.
_WORDS = tuple(
    (re.compile(pattern, re.IGNORECASE), reason)
    for pattern, reason in (
        (r"rate.?limit|too many requests|not a bot|captcha|temporarily blocked", Reason.SITE_RATE_LIMITED),
        (r"geo.?restrict|available (?:in|from) your (?:country|location|region)|in your country", Reason.SITE_GEO),
        (r"private (?:video|channel|playlist|track|clip)|(?:is|set to|are) private", Reason.SITE_PRIVATE),
        (
            r"sign in|log in|log.?in required|registered users|--cookies|--username|members?.only"
            r"|channel's members|confirm your age|age.?restricted|authenticat|subscri(?:be|ption)|premium|purchase"
            r"|requires payment",
            Reason.SITE_LOGIN,
        ),
        (
            r"requested format is not available|no video formats|\bdrm\b|ffmpeg|use --list-formats|only images",
            Reason.SITE_FORMAT,
        ),
        (
            r"unavailable|not available|no longer|removed|deleted|does(?:n't| not) exist|not found|terminated"
            r"|unsupported url|no media|not (?:currently )?live|premieres|will begin|offline|copyright|playlist",
            Reason.SITE_UNAVAILABLE,
        ),
    )
)
# While a film comes, yt-dlp keeps an error's words only.
_DOWNLOAD = "[download] Got error"
_DOWNLOAD_WORDS = tuple(
    (re.compile(pattern, re.IGNORECASE), reason)
    for pattern, reason in (
        (r"timed out", Reason.TIMEOUT),
        (r"certificate|ssl", Reason.TLS),
        (r"name or service not known|name resolution|no address associated|failed to resolve", Reason.DNS),
        (r"more expected|incomplete ?read", Reason.TRUNCATED_BODY),
        (r"reset by peer|remote end closed|broken pipe", Reason.RESET),
        (r"refused|unreachable|no route", Reason.CONNECT),
    )
)
_STATUS_REASONS = {
    401: Reason.SITE_LOGIN,
    404: Reason.SITE_UNAVAILABLE,
    410: Reason.SITE_UNAVAILABLE,
    429: Reason.SITE_RATE_LIMITED,
    451: Reason.SITE_GEO,
}
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_ADVICE = re.compile(r"; please report this issue.*|\. Confirm you are on the latest.*", re.DOTALL)


class AddressRefused(OSError):
    """A socket to an address that may not be connected to was about to be made."""


class TooLarge(Exception):
    """More bytes than fetch.max_mb."""


def reason_of(error: BaseException) -> tuple[Reason, str, int | None]:
    """(reason, detail, HTTP status or None) of whatever yt-dlp raised for one link."""
    from yt_dlp.networking.exceptions import HTTPError

    chain = list(_chain(error))
    detail = _ADVICE.sub("", _ANSI.sub("", str(error))).removeprefix("ERROR: ").strip()
    status = next((each.status for each in chain if isinstance(each, HTTPError)), None)
    for each in chain:
        if isinstance(each, AddressRefused):
            return Reason.ADDRESS, str(each), None
        if isinstance(each, TooLarge):
            return Reason.TOO_LARGE, str(each), None
    network = next((reason for each in chain if (reason := _network_reason(each)) is not None), None)
    if network is not None:  # before the words: a message names the URL and the host, whatever they are called
        return network, detail, None
    for pattern, reason in _DOWNLOAD_WORDS if _DOWNLOAD in detail else _WORDS:
        if pattern.search(detail):
            return reason, detail, status
    return _reason_of_kind(chain, status), detail, status


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised for, as Python and as yt-dlp keep it."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop(0)
        if each is None or id(each) in seen or not isinstance(each, BaseException):
            continue
        seen.add(id(each))
        yield each
        exc_info = getattr(each, "exc_info", None)
        inner = exc_info[1] if isinstance(exc_info, tuple) and len(exc_info) == 3 else None
        waiting += [
            inner,
            getattr(each, "cause", None),
            getattr(each, "reason", None),
            each.__cause__,
            each.__context__,
        ]


def _network_reason(error: BaseException) -> Reason | None:
    from yt_dlp.networking.exceptions import IncompleteRead, ProxyError, SSLError
    from yt_dlp.utils import ContentTooShortError

    if isinstance(error, (IncompleteRead, ContentTooShortError)):
        return Reason.TRUNCATED_BODY
    if isinstance(error, (SSLError, ssl.SSLError)):
        return Reason.TLS
    if isinstance(error, socket.gaierror):
        return Reason.DNS
    if isinstance(error, TimeoutError):
        return Reason.TIMEOUT
    if isinstance(error, (ConnectionResetError, BrokenPipeError, RemoteDisconnected)):
        return Reason.RESET
    if isinstance(error, (ConnectionError, ProxyError)):
        return Reason.CONNECT
    return None


def _reason_of_kind(chain: list[BaseException], status: int | None) -> Reason:
    from yt_dlp.networking.exceptions import TransportError
    from yt_dlp.utils import ExtractorError, GeoRestrictedError, UnsupportedError, UserNotLive

    if any(isinstance(each, GeoRestrictedError) for each in chain):
        return Reason.SITE_GEO
    if any(isinstance(each, (UnsupportedError, UserNotLive)) for each in chain):
        return Reason.SITE_UNAVAILABLE
    if status is not None:
        return _STATUS_REASONS.get(status) or reason_of_status(status)
    if any(isinstance(each, TransportError) for each in chain):
        return Reason.CONNECT
    expected = any(isinstance(each, ExtractorError) and each.expected for each in chain)
    return Reason.SITE_UNAVAILABLE if expected else Reason.PROTOCOL
