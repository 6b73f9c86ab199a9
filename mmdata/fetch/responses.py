"""What a response means: reasons for libcurl's error numbers and HTTP status codes, and bounded decompression."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

from mmdata.errors import Reason, SampleError

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_RATIO = 100  # decompressed over compressed; honest media stay below 20
MAX_MEMBERS = 16  # gzip files one after the other in a body
_FREE_BYTES = 65536  # no ratio is checked up to here: a tiny file may well compress by a thousand

# https://curl.se/libcurl/c/libcurl-errors.html; numbers, since pycurl lacks names for the newer ones.
_REASONS = {
    1: Reason.PROTOCOL,  # HTTP/0.9: no status line
    3: Reason.BAD_URL,
    5: Reason.CONNECT,  # the proxy's name
    6: Reason.DNS,
    7: Reason.CONNECT,
    8: Reason.PROTOCOL,
    18: Reason.TRUNCATED_BODY,
    28: Reason.TIMEOUT,
    45: Reason.CONNECT,
    52: Reason.RESET,  # closed without a byte
    55: Reason.RESET,
    56: Reason.RESET,
    61: Reason.ENCODING,
    63: Reason.TOO_LARGE,
    97: Reason.CONNECT,
    100: Reason.PROTOCOL,
    **dict.fromkeys((35, 51, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91, 98), Reason.TLS),
}
# One number for a connection that broke and for headers or chunks that are none: only the text tells.
_NOT_HTTP = ("header", "chunk", "hex", "status line", "http/", "content-length", "invalid")


def reason_of_error(number: int, text: str) -> tuple[Reason, str]:
    """The reason and detail for a libcurl error."""
    reason = _REASONS.get(number, Reason.INTERNAL)
    if number == 56 and any(word in text.lower() for word in _NOT_HTTP):
        reason = Reason.PROTOCOL
    return reason, f"{text or 'no text'} (libcurl error {number})"


def status_code(lines: Sequence[bytes]) -> int:
    """The status code of the last response among raw header `lines`, 0 where there is none.

    Read here, since libcurl does not tell while it calls back.
    """
    for line in reversed(lines):
        if line.startswith(b"HTTP/"):
            words = line.split(None, 2)
            return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return 0


def reason_of_status(code: int) -> Reason:
    """The reason for an HTTP status code other than 200 and followed redirects."""
    if code in (204, 205):
        return Reason.EMPTY
    if code in (410, 451):
        return Reason.GONE
    if code == 429:
        return Reason.RATE_LIMITED
    if 400 <= code < 500:
        return Reason.HTTP_4XX
    if 500 <= code < 600:
        return Reason.HTTP_5XX
    return Reason.PROTOCOL  # 206 unasked is part of a file, 304 answers a question we did not ask


def content_encodings(values: Iterable[str]) -> list[str]:
    """The codings of a body in the order they were applied, in small letters, without `identity`."""
    codings = (coding.strip().lower() for value in values for coding in value.split(","))
    return [coding for coding in codings if coding not in ("", "identity")]


def decompressed(data: bytes, codings: list[str], max_bytes: int) -> bytes:
    """The body under at most one gzip or deflate coding, which we did not ask for.

    Raises SampleError: fetch.bomb above `max_bytes` or a ratio of 100, fetch.encoding for other or nested codings and
    for data that is damaged, cut off, or has something behind it.
    """
    if not codings:
        return data
    if len(codings) > 1 or codings[0] not in ("gzip", "x-gzip", "deflate"):
        raise SampleError(Reason.ENCODING, f"Content-Encoding: {', '.join(codings)}")
    limit = min(max_bytes, max(_FREE_BYTES, MAX_RATIO * len(data)))
    raw_deflate = codings[0] == "deflate" and data[:1] and (data[0] & 15 != 8 or int.from_bytes(data[:2], "big") % 31)
    wbits = -15 if raw_deflate else 47  # 47: a zlib or a gzip header, whichever is there
    parts: list[bytes] = []
    size = 0
    for _ in range(MAX_MEMBERS):
        member = zlib.decompressobj(wbits)
        try:
            parts.append(member.decompress(data, limit - size + 1))
        except zlib.error as error:
            raise SampleError(Reason.ENCODING, f"Content-Encoding {codings[0]}: {error}") from None
        size += len(parts[-1])
        if size > limit:
            raise SampleError(Reason.BOMB, f"more than {limit} bytes out of {len(data)}")
        if not member.eof:
            raise SampleError(Reason.ENCODING, f"Content-Encoding {codings[0]}: ends early")
        data = member.unused_data
        if not data:
            return b"".join(parts)
    raise SampleError(Reason.BOMB, f"more than {MAX_MEMBERS} gzip members")
