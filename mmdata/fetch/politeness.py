"""How not to be a burden: requests at once per host, waits that servers ask for, waits between attempts."""

from __future__ import annotations

import heapq
import math
from collections import deque
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 10.0
_T = TypeVar("_T")


def retry_after_s(value: str, now_s: float) -> float | None:
    """Seconds that a Retry-After header asks for: a number or an HTTP date; None where it is neither.

    now_s: the wall clock, seconds since 1970. A date in the past gives 0; a number of any length is taken.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value) if len(value) < 16 else math.inf
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:  # "-0000" and no zone at all: HTTP dates are always GMT
            date = date.replace(tzinfo=timezone.utc)
        return max(0.0, date.timestamp() - now_s)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def backoff_s(attempt: int, draw: float) -> float:
    """Seconds to wait after failed attempt 1, 2, ...: `draw` in [0, 1) of a bound that doubles (full jitter)."""
    return draw * min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(attempt - 1, 32))


class _Host(Generic[_T]):
    __slots__ = ("active", "listed", "not_before", "waiting")

    def __init__(self) -> None:
        self.active = 0
        self.waiting: deque[_T] = deque()
        self.not_before = 0.0
        self.listed = False  # in the ready queue or in the paused heap: once, whatever happens


class HostQueues(Generic[_T]):
    """Things to do, by host: at most `per_host` at once of each, hosts in turn: a slow host holds up only its own.

    Times are whatever clock the caller uses, in seconds.
    """

    def __init__(self, per_host: int) -> None:
        self._per_host = per_host
        self._hosts: dict[str, _Host[_T]] = {}
        self._ready: deque[str] = deque()
        self._paused: list[tuple[float, str]] = []
        self.waiting = 0

    def put(self, name: str, item: _T, *, first: bool = False) -> None:
        """Queue `item` for a host; `first` puts it before what waits already (a redirect, a second attempt)."""
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host()
        if first:
            host.waiting.appendleft(item)
        else:
            host.waiting.append(item)
        self.waiting += 1
        self._list(name, host)

    def take(self, now: float) -> _T | None:
        """The next thing that may begin now, counted as begun, or None."""
        while self._paused and self._paused[0][0] <= now:
            self._ready.append(heapq.heappop(self._paused)[1])
        while self._ready:
            name = self._ready.popleft()
            host = self._hosts[name]
            host.listed = False
            if not host.waiting or host.active >= self._per_host:
                self._forget(name, host)
                continue
            if host.not_before > now:
                self._list(name, host)
                continue
            host.not_before = 0.0
            host.active += 1
            self.waiting -= 1
            item = host.waiting.popleft()
            self._list(name, host)
            return item
        return None

    def done(self, name: str) -> None:
        """One thing of this host has ended."""
        host = self._hosts[name]
        host.active -= 1
        self._list(name, host)
        self._forget(name, host)

    def pause(self, name: str, until: float) -> None:
        """Begin nothing for this host before `until`; call it before `done` of the request that brought the wish."""
        host = self._hosts[name]
        host.not_before = max(host.not_before, until)

    def next_at(self) -> float | None:
        """When the first paused host may go on, or None."""
        return self._paused[0][0] if self._paused else None

    def _list(self, name: str, host: _Host[_T]) -> None:
        if host.listed or not host.waiting or host.active >= self._per_host:
            return
        host.listed = True
        if host.not_before:
            heapq.heappush(self._paused, (host.not_before, name))
        else:
            self._ready.append(name)

    def _forget(self, name: str, host: _Host[_T]) -> None:
        # A paused host is remembered as long as something may still come for it: until its wait is over by a put.
        if not host.active and not host.waiting and not host.listed and not host.not_before:
            del self._hosts[name]
