"""One request at a time on one libcurl handle that is used again and again, and the deadlines that libcurl lacks.

What runs for every piece of data is kept to a list append: header lines are collected as they are and looked at once,
when the body begins. Options are set once per handle; a request sets its URL and its time.
"""

from __future__ import annotations

import socket
from typing import Any

import pycurl

from mmdata.errors import Reason
from mmdata.fetch.opt_out import header_values, opt_out
from mmdata.fetch.responses import content_encodings, status_code
from mmdata.fetch.settings import Settings, bracketed, certificate_files

BUFFER_BYTES = 262_144
MAX_DISCARDED_BYTES = 65_536  # of a body that nobody wants: read to the end, so that its connection can be used again
DNS_CACHE_S = 300


class _Lent(socket.socket):
    """pycurl duplicates the socket that it is given and drops the original: here that closes it without a warning."""

    def __del__(self) -> None:
        self.close()


class Transfer:
    """A libcurl handle with the state of the request that it carries now."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.curl = curl = pycurl.Curl()
        self.task: Any = None
        self.headers: list[bytes] = []
        self.chunks: list[bytes] = []
        options = settings.options
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.USERAGENT, settings.user_agent),
            (pycurl.HTTPHEADER, ["Accept-Encoding: identity"]),
            (pycurl.MAXFILESIZE_LARGE, settings.max_bytes),  # the length said and, since libcurl 8.4, the bytes come
            (pycurl.CONNECTTIMEOUT_MS, max(1, int(options.connect_timeout_s * 1000))),
            (pycurl.BUFFERSIZE, BUFFER_BYTES),
            (pycurl.DNS_CACHE_TIMEOUT, DNS_CACHE_S),
            (pycurl.OPENSOCKETFUNCTION, self._open_socket),
            (pycurl.WRITEFUNCTION, self._write),
            # Both are set even where they are empty: otherwise libcurl takes them from the environment.
            (pycurl.PROXY, options.proxy),
            (pycurl.NOPROXY, "" if options.proxy else "*"),
        ):
            curl.setopt(option, value)
        if settings.connect_to:
            targets = [f"{h}::{bracketed(a)}:{p}" for h, (a, p) in settings.connect_to.items()]
            curl.setopt(pycurl.CONNECT_TO, targets)
        file, folder = certificate_files()
        if file:
            curl.setopt(pycurl.CAINFO, file)
        if folder:
            curl.setopt(pycurl.CAPATH, folder)
        self._clear()

    def _clear(self) -> None:
        # New lists, not emptied ones: the old chunks have been handed on.
        self.headers = []
        self.chunks = []
        self.received = 0
        self.verdict: tuple[Reason, str] | None = None  # why we ended the transfer, where it was us
        self.refused = ""
        self.code = 0
        self.codings: list[str] = []
        self._looked = False

    def begin(self, task: Any, url: str, left_s: float, resolve: str | None, now: float) -> None:
        """Prepare the handle for a request that must end within `left_s`; the caller adds it to its multi handle."""
        self._clear()
        self.task = task
        self.started = now
        self.deadline = now + left_s
        self._window_at = 0.0
        self._window_bytes = 0
        curl = self.curl
        # Bound to this request's list, so that libcurl calls list.append itself.
        curl.setopt(pycurl.HEADERFUNCTION, self.headers.append)
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int(left_s * 1000)))
        if self._settings.name_servers:
            curl.setopt(pycurl.RESOLVE, [resolve] if resolve else [])

    def overdue(self, now: float) -> tuple[Reason, str] | None:
        """The deadline that this request has missed at `now`, of those that libcurl does not watch itself."""
        options = self._settings.options
        if now > self.deadline + 0.05:
            return Reason.TIMEOUT, f"not done within {options.timeout_s:g} s"
        if not self.headers:
            if now - self.started > options.first_byte_timeout_s:
                return Reason.TIMEOUT, f"no answer within {options.first_byte_timeout_s:g} s"
            return None
        if not self._window_at:
            self._window_at = now
            return None
        elapsed = now - self._window_at
        if elapsed >= options.slow_grace_s:
            if self.received - self._window_bytes < options.min_bytes_per_s * elapsed:
                return Reason.TOO_SLOW, f"below {options.min_bytes_per_s} bytes/s for {options.slow_grace_s:g} s"
            self._window_at = now
            self._window_bytes = self.received
        return None

    def look(self) -> bool:
        """Read status and headers once; False where the body is not to be read (`verdict` says why)."""
        if self._looked:
            return self.verdict is None
        self._looked = True
        self.code = status_code(self.headers)
        if self.code != 200:
            return True
        head = b"".join(self.headers).lower()
        if self._settings.options.opt_out and b"x-robots-tag" in head:
            value = opt_out(self.header("X-Robots-Tag"), self._settings.options.agent)
            if value is not None:
                self.verdict = Reason.OPTOUT_HEADER, f"X-Robots-Tag: {value}"
        if b"content-encoding" in head:
            self.codings = content_encodings(self.header("Content-Encoding"))
        return self.verdict is None

    def header(self, name: str) -> list[str]:
        """Values of a header of the last response."""
        return header_values(self.headers, name)

    def phase(self) -> tuple[Reason, str]:
        """What a request that libcurl ended for its time was waiting for."""
        curl = self.curl
        options = self._settings.options
        if self.headers or curl.getinfo(pycurl.TOTAL_TIME) > self.deadline - self.started - 0.01:
            return Reason.TIMEOUT, f"not done within {options.timeout_s:g} s"
        if curl.getinfo(pycurl.CONNECT_TIME) > 0:
            return Reason.TIMEOUT, f"no TLS within {options.connect_timeout_s:g} s"
        if curl.getinfo(pycurl.NAMELOOKUP_TIME) > 0:
            return Reason.CONNECT, f"not connected within {options.connect_timeout_s:g} s"
        return Reason.DNS, f"name not found within {options.connect_timeout_s:g} s"

    def close(self) -> None:
        """Give the handle back; the callbacks hold this object, so the circle is cut here."""
        self.task = None
        self.curl.close()

    def _write(self, chunk: bytes) -> int | None:
        if not self._looked and not self.look():
            return -1
        self.received += len(chunk)
        if self.code == 200:
            self.chunks.append(chunk)
        elif self.received > MAX_DISCARDED_BYTES:
            return -1
        return None

    def _open_socket(self, purpose: int, address: Any) -> Any:
        # Every connection libcurl makes comes through here, with the address that it has resolved to.
        if address.family in (socket.AF_INET, socket.AF_INET6):
            host, port = address.addr[0], address.addr[1]
            why = self._settings.socket_rules.refusal(_text(host), port)
        else:
            why = "no internet address"
        if why:
            self.refused = why
            return pycurl.SOCKET_BAD
        return _Lent(address.family, address.socktype, address.protocol)


def _text(host: str | bytes) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes) else host
