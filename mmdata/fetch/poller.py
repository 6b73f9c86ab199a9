"""libcurl's multi handle driven by events: sockets by epoll (poll elsewhere), one timer.

`curl_multi_perform` looks at every handle at every step and `select` ends at descriptor 1024; with events a step costs
only what has happened.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pycurl

CLOSE_S = 0.5
_IN, _OUT, _BAD = 1, 4, 8 | 16  # POLLIN, POLLOUT, POLLERR | POLLHUP: the same numbers for epoll and poll
_WANTED = {pycurl.POLL_IN: _IN, pycurl.POLL_OUT: _OUT, pycurl.POLL_INOUT: _IN | _OUT}


class Poller:
    """A multi handle that is waited for together with a wake-up call from other threads."""

    def __init__(self, max_connections: int) -> None:
        self._epoll: Any = select.epoll() if hasattr(select, "epoll") else None
        self._poll: Any = self._epoll or select.poll()
        self._known: set[int] = set()
        self._timer_at: float | None = None
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._poll.register(self._wake_in.fileno(), _IN)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, max_connections)

    def wake(self) -> None:
        """End the wait of `step` now; for other threads."""
        with contextlib.suppress(OSError):  # full: it will wake up anyway; closed: nobody waits
            self._wake_out.send(b"w")

    def add(self, curl: Any) -> None:
        """Begin the request that `curl` is prepared for."""
        self._multi.add_handle(curl)

    def remove(self, curl: Any) -> None:
        """Take a handle out, ended or not; a connection in the middle of a response is closed."""
        self._multi.remove_handle(curl)

    def step(self, until: float) -> Iterator[tuple[Any, int, str]]:
        """Wait for events until the monotonic time `until`; what has ended: handle, libcurl's error, its text."""
        wait_s = max(0.0, (until if self._timer_at is None else min(until, self._timer_at)) - time.monotonic())
        acted = False
        multi = self._multi
        for descriptor, events in self._poll.poll(wait_s if self._epoll else wait_s * 1000):
            if descriptor == self._wake_in.fileno():
                with contextlib.suppress(BlockingIOError):
                    self._wake_in.recv(4096)
                continue
            mask = (pycurl.CSELECT_IN if events & _IN else 0) | (pycurl.CSELECT_OUT if events & _OUT else 0)
            if events & _BAD:
                mask |= pycurl.CSELECT_ERR
            multi.socket_action(descriptor, mask)
            acted = True
        if self._timer_at is not None and self._timer_at <= time.monotonic():
            self._timer_at = None
            multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            acted = True
        if not acted:
            return
        queued = 1
        while queued:
            queued, good, bad = multi.info_read()
            for curl in good:
                yield curl, 0, ""
            yield from bad

    def close(self) -> None:
        """Close the multi handle and all sockets; every handle must have been removed.

        libcurl waits for the machine's resolver where it still looks up a name that nobody wants any more: for up to
        some ten seconds, whatever the deadlines. That wait is left to a thread of its own.
        """
        closer = threading.Thread(target=self._multi.close, name="mmdata-fetch-close", daemon=True)
        closer.start()
        closer.join(CLOSE_S)
        if self._epoll:
            self._epoll.close()
        self._wake_in.close()
        self._wake_out.close()

    def _on_socket(self, what: int, descriptor: int, multi: Any, data: Any) -> None:
        if what == pycurl.POLL_REMOVE:
            self._known.discard(descriptor)
            with contextlib.suppress(OSError, KeyError, ValueError):  # closed already, by libcurl or by us
                self._poll.unregister(descriptor)
        elif descriptor in self._known:
            self._poll.modify(descriptor, _WANTED.get(what, 0))
        else:
            self._known.add(descriptor)
            self._poll.register(descriptor, _WANTED.get(what, 0))

    def _on_timer(self, timeout_ms: int) -> None:
        self._timer_at = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000
