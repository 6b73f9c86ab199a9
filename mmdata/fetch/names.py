"""Names looked up at chosen name servers (`fetch.name_servers`), in a few threads, with a cache.

Without that option libcurl asks the machine's own resolver. Its wheel has no resolver that takes servers, hence this
one, on dnspython. What it finds is no permission: every socket's address is checked when the socket is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

CACHE_S = 300.0
FAILURE_CACHE_S = 10.0
THREADS = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """Addresses of a name, or why there are none; good until a monotonic time."""

    addresses: tuple[str, ...]
    error: str
    until: float


class NameLookup:
    """Answers by name. `on_answer` is called in another thread after each lookup that `ask` has begun."""

    def __init__(
        self, servers: tuple[tuple[str, int], ...], timeout_s: float, on_answer: Callable[[str], None]
    ) -> None:
        self._servers = servers
        self._timeout_s = timeout_s
        self._on_answer = on_answer
        self._answers: dict[str, Answer] = {}
        self._asked: set[str] = set()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mmdata-names")

    def ask(self, name: str) -> Answer | None:
        """The answer for `name` if it is known; otherwise None, and it is looked up."""
        answer = self._answers.get(name)
        if answer is not None and answer.until > time.monotonic():
            return answer
        if name not in self._asked:
            self._asked.add(name)
            self._threads.submit(self._look_up, name)
        return None

    def close(self) -> None:
        """Begin no more lookups; those under way end by their own deadline."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _look_up(self, name: str) -> None:
        addresses, error = self._query(name)
        keep_s = CACHE_S if addresses else FAILURE_CACHE_S
        self._answers[name] = Answer(addresses, error, time.monotonic() + keep_s)
        self._asked.discard(name)
        self._on_answer(name)

    def _query(self, name: str) -> tuple[tuple[str, ...], str]:
        import dns.exception
        import dns.nameserver
        import dns.resolver

        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = [dns.nameserver.Do53Nameserver(address, port) for address, port in self._servers]
        try:
            found = resolver.resolve_name(name.removesuffix(".") + ".", lifetime=self._timeout_s)
            return tuple(found.addresses()), ""
        except (dns.exception.DNSException, OSError, ValueError) as error:
            return (), f"{type(error).__name__} from fetch.name_servers"
