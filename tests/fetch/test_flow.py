"""Many links at once: none lost, hosts spared, memory bounded, threads ended."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable

import pytest

from mmdata.errors import Reason
from mmdata.fetch.engine import fetch_all
from mmdata.fetch.links import Fetched, Link
from tests.fetch.conftest import HOST, zoo_options
from tests.fetch.zoo import BODY, Zoo, open_zoo

Fetch = Callable[..., Fetched]
BODY_SHA256 = hashlib.sha256(BODY).hexdigest()


def test_an_answer_behind_the_end_of_another_is_never_taken_for_an_answer(zoo: Zoo) -> None:
    links = [Link(str(n), f"http://{HOST}/{'long' if n % 2 else 'ok'}/{n}") for n in range(20)]
    fetched = list(fetch_all(links, zoo_options(zoo, concurrency=1)))
    assert [f.data for f in fetched] == [BODY] * 20


def test_connections_are_used_again(zoo: Zoo) -> None:
    before = zoo.connections
    links = [Link(str(n), f"http://{HOST}/ok/{n}") for n in range(200)]
    assert all(f.reason is Reason.OK for f in fetch_all(links, zoo_options(zoo, concurrency=4)))
    assert zoo.connections - before <= 4


@pytest.mark.parametrize(("per_host", "most"), [(3, 3), (1, 1)])
def test_one_host_never_sees_more_requests_at_once_than_allowed(per_host: int, most: int) -> None:
    with open_zoo() as zoo:
        zoo.barrier = threading.Barrier(most)  # each waits for the others: so the limit is reached as well as kept
        links = [Link(str(n), f"http://{HOST}/busy/{n}") for n in range(most * 8)]
        fetched = list(fetch_all(links, zoo_options(zoo, concurrency=32), per_host=per_host))
        assert all(f.reason is Reason.OK for f in fetched)
        assert zoo.most == most


def test_a_slow_host_does_not_hold_up_the_others(zoo: Zoo) -> None:
    with open_zoo() as slow:
        hosts = {HOST: f"127.0.0.2:{zoo.port}", "slow.example": f"127.0.0.2:{slow.port}"}
        links = [Link(f"slow{n}", f"http://slow.example/stall/{n}") for n in range(6)]
        links += [Link(f"ok{n}", f"http://{HOST}/ok/{n}") for n in range(50)]
        options = zoo_options(zoo, connect_to=hosts, concurrency=4, per_host=2, first_byte_timeout_s=0.3)
        keys = [f.key for f in fetch_all(links, options)]
        assert all(key.startswith("ok") for key in keys[:50])
        assert sorted(keys) == sorted(link.key for link in links)


def test_every_link_gets_exactly_one_result(zoo: Zoo) -> None:
    paths = ["ok", "short", "garbage", "empty", "loop/a", "status/404", "reset/body", "hang_up", "chain/3", "bomb"]
    links = [Link(str(n), f"http://{HOST}/{paths[n % 10]}") for n in range(300)]
    links += [Link(f"bad{n}", url) for n, url in enumerate(["", "x", "http://", "file:///", "http://10.0.0.1/"])]
    fetched = list(fetch_all(links, zoo_options(zoo, concurrency=16)))
    assert sorted(f.key for f in fetched) == sorted(link.key for link in links)


def fetch_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mmdata-")]


def test_a_fetch_closed_early_leaves_no_thread(zoo: Zoo) -> None:
    links = (Link(str(n), f"http://{HOST}/{'stall' if n % 3 else 'ok'}/{n}") for n in range(100_000))
    results = fetch_all(links, zoo_options(zoo, concurrency=8, per_host=8))
    assert next(results).data == BODY
    assert fetch_threads()
    results.close()  # type: ignore[attr-defined]
    assert not fetch_threads()


def test_what_reading_the_links_raises_reaches_the_consumer(zoo: Zoo) -> None:
    def links():  # type: ignore[no-untyped-def]
        yield Link("a", f"http://{HOST}/ok")
        raise RuntimeError("the table broke")

    with pytest.raises(RuntimeError, match="the table broke"):
        list(fetch_all(links(), zoo_options(zoo)))
    assert not fetch_threads()


def test_a_slow_consumer_stops_the_fetch_before_memory_is_full(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmdata.fetch.http.START_BYTES", 5 * len(BODY))
    begun = []

    def links():  # type: ignore[no-untyped-def]
        for n in range(400):
            begun.append(n)
            yield Link(str(n), f"http://{HOST}/ok/slow-consumer-{n}")

    monkeypatch.setattr("mmdata.fetch.http.LOOK_AHEAD", 8)
    results = fetch_all(links(), zoo_options(zoo, concurrency=4))
    next(results)
    time.sleep(0.5)  # time in which an unbounded fetch would have read all links
    assert len(begun) < 40
    assert len(list(results)) == 399


def test_requests_that_fill_the_memory_are_put_off_and_still_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmdata.fetch.http.SHED_BYTES", 3 * len(BODY))
    monkeypatch.setattr("mmdata.fetch.http.START_BYTES", 2 * len(BODY))
    monkeypatch.setattr("mmdata.fetch.http.TICK_S", 0.001)
    with open_zoo() as zoo:
        links = [Link(str(n), f"http://{HOST}/ok/{n}") for n in range(60)]
        fetched = list(fetch_all(links, zoo_options(zoo, concurrency=16, per_host=16)))
        assert [f.attempts for f in fetched] == [1] * 60
        assert all(f.data == BODY for f in fetched)
