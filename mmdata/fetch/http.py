"""The native engine: many requests at once in one thread of their own, while the consumer works in another.

A link is tried up to `1 + retries` times; redirects are followed here, not by libcurl, so that each hop is checked like
a link. Nothing here waits without an end: every request has a deadline, every wait between requests a bound, and only
as many bytes lie about as `START_BYTES` and `SHED_BYTES` allow, whatever servers send and however slow the consumer.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Container, Iterable, Iterator

from mmdata.errors import Reason, SampleError
from mmdata.fetch.links import Fetched, Link, check_bytes
from mmdata.fetch.names import NameLookup
from mmdata.fetch.politeness import HostQueues, backoff_s
from mmdata.fetch.poller import Poller
from mmdata.fetch.responses import decompressed
from mmdata.fetch.settings import Settings, bracketed
from mmdata.fetch.task import WRITE_ERROR, Outcome, Task, checked_target, outcome_of
from mmdata.fetch.transfer import Transfer

LOOK_AHEAD = 4096  # links read from the table before their turn: what lets other hosts pass a slow one
START_BYTES = 128_000_000  # arrived and not yet taken; above it no request begins
SHED_BYTES = 256_000_000  # above it the youngest requests are stopped and begun again later
TICK_S = 0.05  # between two looks at deadlines


class _Arrived:
    """A result with what the consumer's thread still has to do for it: join, decompress, hash."""

    __slots__ = ("chunks", "codings", "fetched", "link")

    def __init__(self, fetched: Fetched, link: Link, chunks: list[bytes], codings: list[str]) -> None:
        self.fetched = fetched
        self.link = link
        self.chunks = chunks
        self.codings = codings


class HttpFetcher:
    """Fetches links in a thread of its own; `results` gives what came of them, in the order of completion.

    The links are read in that thread too, `LOOK_AHEAD` ahead; what reading them raises is raised by `results`.
    """

    def __init__(self, links: Iterable[Link], settings: Settings, per_host: int, blocklist: Container[str]) -> None:
        self._settings = settings
        self._options = settings.options
        self._blocklist = blocklist
        self._links = iter(links)
        self._out: queue.SimpleQueue[list[_Arrived] | BaseException | None] = queue.SimpleQueue()
        self._batch: list[_Arrived] = []
        # Each is written by one thread only, so their difference needs no lock.
        self._bytes_given = 0
        self._bytes_taken = 0
        self._stopped = False
        self._exhausted = False
        self._unfinished = 0
        self._starved = False
        self._hosts: HostQueues[Task] = HostQueues(per_host)
        self._later: list[tuple[float, int, Task]] = []
        self._numbers = itertools.count()
        self._unresolved: dict[str, list[Task]] = {}
        self._answered: deque[str] = deque()
        self._names: NameLookup | None = None
        self._transfers: list[Transfer] = []
        self._idle: list[Transfer] = []
        self._busy: dict[object, Transfer] = {}

    def results(self) -> Iterator[Fetched]:
        """Begin, and give each result once. Closing this ends all requests and the thread."""
        self._poller = Poller(max_connections=2 * self._options.concurrency)
        thread = threading.Thread(target=self._run, name="mmdata-fetch", daemon=True)
        thread.start()
        try:
            while True:
                batch = self._out.get()
                if batch is None:
                    return
                if isinstance(batch, BaseException):
                    raise batch
                batch.reverse()
                while batch:  # popped, so that its bytes are held by the consumer alone
                    arrived = batch.pop()
                    size = arrived.fetched.num_bytes
                    yield self._finished(arrived)
                    self._bytes_taken += size
                    if self._starved and self._bytes_given - self._bytes_taken < START_BYTES // 2:
                        self._poller.wake()
        finally:
            self._stopped = True
            self._poller.wake()
            thread.join()
            self._poller.close()

    def _finished(self, arrived: _Arrived) -> Fetched:
        fetched = arrived.fetched
        if fetched.reason is Reason.OK:
            chunks = arrived.chunks
            fetched.data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
            try:
                fetched.data = decompressed(fetched.data, arrived.codings, self._settings.max_bytes)
            except SampleError as error:
                return fetched.end(error.reason, error.detail)
        return check_bytes(fetched, arrived.link.expected_sha256, self._blocklist)

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            if self._settings.name_servers:
                self._names = NameLookup(self._settings.name_servers, self._options.connect_timeout_s, self._on_answer)
            self._loop()
        except BaseException as error:  # raised again in the consumer's thread: nobody would see it here
            end = error
        finally:
            if self._names:
                self._names.close()
            for curl in self._busy:
                self._poller.remove(curl)
            for transfer in self._transfers:
                transfer.close()
            self._out.put(end)

    def _loop(self) -> None:
        tick_at = time.monotonic() + TICK_S
        self._fill(time.monotonic())
        while not self._stopped and (self._unfinished or not self._exhausted):
            self._hand_over()
            for curl, error, text in self._poller.step(self._wake_at(tick_at)):
                self._ended(self._busy[curl], error, text)
            now = time.monotonic()
            if now >= tick_at:
                tick_at = now + TICK_S
                self._tick(now)
            self._fill(now)
        self._hand_over()

    def _wake_at(self, tick_at: float) -> float:
        if self._busy:
            return tick_at
        waits = [at for at in (self._hosts.next_at(), self._later[0][0] if self._later else None) if at is not None]
        return min(waits, default=time.monotonic() + 1.0)

    def _hand_over(self) -> None:
        if self._batch:
            self._out.put(self._batch)
            self._batch = []

    def _fill(self, now: float) -> None:
        """Begin as many requests as concurrency, hosts and memory allow."""
        while self._answered:
            for waiting in self._unresolved.pop(self._answered.popleft(), ()):
                self._admit(waiting)
        while self._later and self._later[0][0] <= now:
            self._admit(heapq.heappop(self._later)[2], first=True)
        self._starved = self._bytes_given - self._bytes_taken > START_BYTES
        while len(self._busy) < self._options.concurrency and not self._starved:
            task: Task | None = self._hosts.take(now)
            if task is not None:
                self._begin(task, now)
            elif not self._exhausted and self._unfinished < LOOK_AHEAD:
                self._read_link()
            else:
                return

    def _read_link(self) -> None:
        link = next(self._links, None)
        if link is None:
            self._exhausted = True
            return
        self._unfinished += 1
        try:
            target = checked_target(link.url, self._settings)
        except SampleError as error:
            self._give(link, Fetched(link.key).end(error.reason, error.detail))
        else:
            self._admit(Task(link, target, self._options.timeout_s))

    def _admit(self, task: Task, *, first: bool = False) -> None:
        """Queue a task for its host, after a lookup where we do that ourselves."""
        target = task.target
        if self._names and not target.is_literal and target.host not in self._settings.connect_to:
            answer = self._names.ask(target.host)
            if answer is None:
                self._unresolved.setdefault(target.host, []).append(task)
                return
            if not answer.addresses:
                task.attempts += not task.hops
                self._decide(task, Outcome(Reason.DNS, answer.error), Fetched(task.link.key), [], [])
                return
            addresses = ",".join(bracketed(address) for address in answer.addresses)
            task.resolve = f"+{target.host}:{target.port}:{addresses}"
        self._hosts.put(target.host, task, first=first)

    def _on_answer(self, name: str) -> None:
        self._answered.append(name)
        self._poller.wake()

    def _begin(self, task: Task, now: float) -> None:
        if self._idle:
            transfer = self._idle.pop()
        else:
            transfer = Transfer(self._settings)
            self._transfers.append(transfer)
        task.attempts += not task.hops
        transfer.begin(task, task.target.url, task.left_s, task.resolve, now)
        self._busy[transfer.curl] = transfer
        self._poller.add(transfer.curl)

    def _tick(self, now: float) -> None:
        """Stop what is late, and the youngest requests where more has arrived than memory should hold."""
        lying = self._bytes_given - self._bytes_taken
        for transfer in list(self._busy.values()):
            missed = transfer.overdue(now)
            if missed:
                transfer.verdict = missed
                self._ended(transfer, WRITE_ERROR, "")
            else:
                lying += transfer.received
        by_age = sorted(self._busy.values(), key=lambda t: t.started) if lying > SHED_BYTES else []
        while lying > SHED_BYTES and len(by_age) > 1:  # the oldest goes on, so there is always progress
            transfer = by_age.pop()
            lying -= transfer.received
            task = self._release(transfer)
            task.attempts -= not task.hops
            self._hosts.put(task.target.host, task)

    def _release(self, transfer: Transfer) -> Task:
        """Take a transfer out of libcurl, whatever its state, and its task out of it."""
        self._poller.remove(transfer.curl)
        del self._busy[transfer.curl]
        self._idle.append(transfer)
        task: Task = transfer.task
        transfer.task = None
        self._hosts.done(task.target.host)
        return task

    def _ended(self, transfer: Transfer, error: int, text: str) -> None:
        now = time.monotonic()
        outcome = outcome_of(transfer, error, text)
        task: Task = transfer.task
        task.left_s -= now - transfer.started
        if outcome.wait_s is not None and outcome.wait_s <= self._options.max_retry_after_s:
            self._hosts.pause(task.target.host, now + outcome.wait_s)  # the wish is about the host, not this one file
        fetched = Fetched(task.link.key, http_code=transfer.code or None, num_bytes=transfer.received)
        chunks, codings = transfer.chunks, transfer.codings
        self._release(transfer)
        if outcome.location is not None:
            try:
                task.redirect(outcome.location, self._settings)
            except SampleError as refusal:
                outcome = Outcome(refusal.reason, refusal.detail)
            else:
                self._admit(task, first=True)
                return
        self._decide(task, outcome, fetched, chunks, codings)

    def _decide(self, task: Task, outcome: Outcome, fetched: Fetched, chunks: list[bytes], codings: list[str]) -> None:
        """Try again later, or give what there is."""
        wait_s = outcome.wait_s
        patient = wait_s is None or wait_s <= self._options.max_retry_after_s
        if outcome.reason.is_transient and task.attempts <= self._options.retries and patient:
            pause_s = (wait_s or 0.0) + backoff_s(task.attempts, random.random())
            task.restart(self._options.timeout_s)
            heapq.heappush(self._later, (time.monotonic() + pause_s, next(self._numbers), task))
            return
        fetched.attempts = task.attempts
        if outcome.reason is not Reason.OK:
            fetched.end(outcome.reason, outcome.detail)
            chunks = []
        self._give(task.link, fetched, chunks, codings)

    def _give(
        self, link: Link, fetched: Fetched, chunks: list[bytes] | None = None, codings: list[str] | None = None
    ) -> None:
        self._unfinished -= 1
        self._bytes_given += fetched.num_bytes
        self._batch.append(_Arrived(fetched, link, chunks or [], codings or []))
