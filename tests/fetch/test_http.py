"""The native engine against the zoo: each behaviour has its reason, and nothing hangs."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest

from mmdata.config import FetchOptions
from mmdata.errors import ConfigError, Reason
from mmdata.fetch.blocklist import HashList
from mmdata.fetch.engine import fetch_all
from mmdata.fetch.links import Fetched, Link
from tests.fetch.conftest import HOST, zoo_options
from tests.fetch.zoo import BODY, Zoo, open_zoo

Fetch = Callable[..., Fetched]
BODY_SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.mark.parametrize(
    "path", ["/ok", "/chunked", "/until_close", "/encoded/gzip", "/encoded/identity,gzip", "/early_hints", "/long"]
)
def test_a_file_comes_whole_however_it_is_framed(fetch: Fetch, path: str) -> None:
    fetched = fetch(path)
    assert (fetched.reason, fetched.data, fetched.http_code) == (Reason.OK, BODY, 200)
    assert (fetched.sha256, fetched.attempts) == (BODY_SHA256, 1)


def test_what_is_no_picture_is_still_fetched(fetch: Fetch) -> None:
    assert fetch("/html").data == b"<html>no picture</html>"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/status/201", Reason.PROTOCOL),
        ("/status/204", Reason.EMPTY),
        ("/status/206", Reason.PROTOCOL),
        ("/status/300", Reason.PROTOCOL),
        ("/status/304", Reason.PROTOCOL),
        ("/status/400", Reason.HTTP_4XX),
        ("/status/401", Reason.HTTP_4XX),
        ("/status/403", Reason.HTTP_4XX),
        ("/status/404", Reason.HTTP_4XX),
        ("/status/410", Reason.GONE),
        ("/status/416", Reason.HTTP_4XX),
        ("/status/429", Reason.RATE_LIMITED),
        ("/status/451", Reason.GONE),
        ("/status/500", Reason.HTTP_5XX),
        ("/status/503", Reason.HTTP_5XX),
        ("/status/599", Reason.HTTP_5XX),
        ("/big_404", Reason.HTTP_4XX),
        ("/empty", Reason.EMPTY),
        ("/nowhere", Reason.PROTOCOL),
        ("/loop/a", Reason.REDIRECT_LOOP),
        ("/chain/6", Reason.REDIRECT_LOOP),
        ("/encoded/br", Reason.ENCODING),
        ("/encoded/gzip,gzip", Reason.ENCODING),
        ("/encoded/deflate", Reason.ENCODING),
        ("/bomb", Reason.BOMB),
        ("/many_headers", Reason.PROTOCOL),
        ("/endless", Reason.TOO_LARGE),
        ("/terabyte", Reason.TOO_LARGE),
        ("/short", Reason.TRUNCATED_BODY),
        ("/cut_chunks", Reason.TRUNCATED_BODY),
        ("/bad_chunks", Reason.PROTOCOL),
        ("/garbage", Reason.PROTOCOL),
        ("/hang_up", Reason.RESET),
        ("/reset/head", Reason.RESET),
        ("/reset/body", Reason.RESET),
    ],
)
def test_every_way_to_fail_has_its_reason(fetch: Fetch, path: str, reason: Reason) -> None:
    fetched = fetch(path, max_mb=5)
    assert (fetched.reason, fetched.attempts) == (reason, 1), fetched.detail
    assert fetched.detail


@pytest.mark.parametrize(
    ("path", "options", "reason"),
    [
        ("/stall", {"first_byte_timeout_s": 0.2}, Reason.TIMEOUT),
        ("/stall", {"timeout_s": 0.2}, Reason.TIMEOUT),
        ("/stall_in_headers", {"slow_grace_s": 0.2}, Reason.TOO_SLOW),
        ("/stall_in_body", {"slow_grace_s": 0.2}, Reason.TOO_SLOW),
        ("/stall_in_body", {"timeout_s": 0.3, "min_bytes_per_s": 0}, Reason.TIMEOUT),
        ("/drip", {"slow_grace_s": 0.2}, Reason.TOO_SLOW),
        ("/drip", {"timeout_s": 0.3, "min_bytes_per_s": 1}, Reason.TIMEOUT),
    ],
)
def test_a_slow_fetch_is_ended_by_the_deadline_that_it_misses(
    fetch: Fetch, path: str, options: dict[str, float], reason: Reason
) -> None:
    begun = time.monotonic()
    fetched = fetch(path, **{"timeout_s": 1.0, "first_byte_timeout_s": 0.6, **options})
    assert fetched.reason is reason, fetched.detail
    assert time.monotonic() - begun < 2.0


def test_a_file_at_the_cap_is_taken_and_one_byte_more_is_not(fetch: Fetch) -> None:
    for path in ("/ok", "/chunked", "/until_close", "/encoded/gzip"):
        assert fetch(path, max_mb=len(BODY) / 1e6).reason is Reason.OK
        assert fetch(path, max_mb=(len(BODY) - 1) / 1e6).reason in (Reason.TOO_LARGE, Reason.BOMB)


def test_redirects_are_followed_up_to_the_limit(fetch: Fetch) -> None:
    assert fetch("/chain/5").data == BODY
    assert fetch("/chain/0", max_redirects=0).data == BODY
    assert fetch("/chain/1", max_redirects=0).reason is Reason.REDIRECT_LOOP
    assert fetch("/bomb_redirect").data == BODY
    for code in (301, 302, 303, 307, 308):
        assert fetch(f"/to/{code}//ok").data == BODY


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{port}/ok",
        "http://2130706433:{port}/ok",
        "http://0x7f.1:{port}/ok",
        "http://localhost:{port}/ok",
        "http://[::ffff:127.0.0.1]:{port}/ok",
        "//127.0.0.1:{port}/ok",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/ok",
        "file:///etc/passwd",
        "ftp://zoo.example/ok",
        "http://zoo.example:8265/api/jobs/",
        "http://user@zoo.example/ok",
        "http://127.0.0.1:{port}\\@zoo.example/ok",
    ],
)
def test_a_redirect_to_what_may_not_be_fetched_is_blocked(fetch: Fetch, location: str) -> None:
    with open_zoo(address="127.0.0.1") as canary:
        fetched = fetch("/to/302/" + quote(location.format(port=canary.port), safe=""), ports=[80, canary.port])
        assert fetched.reason is Reason.REDIRECT, fetched.detail
        assert canary.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://127.1:{port}/",
        "http://0.0.0.0:{port}/",
        "http://mapped.example:{port}/",
        "http://127.0.0.1.:{port}/",
        "http://[::ffff:7f00:1]:{port}/",
    ],
)
def test_this_machine_is_not_connected_to_unless_it_is_allowed(zoo: Zoo, url: str) -> None:
    with open_zoo(address="127.0.0.1") as canary:
        mapped = {"mapped.example": f"127.0.0.1:{canary.port}"}
        options = zoo_options(zoo, connect_to=mapped, ports=[canary.port])
        (fetched,) = fetch_all([Link("a", url.format(port=canary.port))], options)
        assert fetched.reason is Reason.ADDRESS, fetched.detail
        assert canary.connections == 0


def test_this_machine_is_not_connected_to_by_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        with open_zoo(address="::1") as canary:
            options = FetchOptions(
                connect_to={"six.example": f"[::1]:{canary.port}"}, ports=[80, canary.port], retries=0
            )
            links = [Link("a", "http://six.example/ok"), Link("b", f"http://[::1]:{canary.port}/ok")]
            assert [f.reason for f in fetch_all(links, options)] == [Reason.ADDRESS] * 2
            assert canary.connections == 0
    except OSError:
        pytest.skip("no IPv6 here")


def test_a_forbidden_port_is_not_connected_to_even_where_its_network_is_allowed(zoo: Zoo) -> None:
    with open_zoo() as ray:
        options = zoo_options(zoo, connect_to={HOST: f"127.0.0.2:{ray.port}"})
        (fetched,) = fetch_all([Link("a", f"http://{HOST}/ok")], options, forbidden_ports={ray.port})
        assert (fetched.reason, ray.connections) == (Reason.ADDRESS, 0)


def test_a_name_is_looked_up_by_the_name_servers_asked_for_and_its_address_is_checked(zoo: Zoo) -> None:
    from tests.fetch.name_server import NameServer

    answers = {"public.example": "127.0.0.2", "inside.example": "127.0.0.1"}
    with open_zoo(address="127.0.0.1") as canary, NameServer(answers) as server:
        links = [Link(name, f"http://{name}.example:{zoo.port}/ok") for name in ("public", "inside", "unknown")]
        options = zoo_options(zoo, connect_to={}, ports=[zoo.port], name_servers=[f"127.0.0.1:{server.port}"])
        found = {f.key: f for f in fetch_all(links, options)}
        assert found["public"].data == BODY
        assert found["inside"].reason is Reason.ADDRESS
        assert found["unknown"].reason is Reason.DNS
        assert canary.connections == 0


def test_an_unknown_name_fails_with_fetch_dns(fetch: Fetch) -> None:
    assert fetch("http://nowhere.invalid/").reason is Reason.DNS


def test_a_closed_port_fails_with_fetch_connect(fetch: Fetch) -> None:
    with open_zoo() as gone:
        port = gone.port
    assert fetch(f"http://127.0.0.2:{port}/", ports=[port]).reason is Reason.CONNECT


def test_the_environment_sets_no_proxy_and_the_option_does(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_zoo() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.2:{proxy.port}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.2:{proxy.port}")
        assert fetch("/ok").data == BODY
        assert proxy.connections == 0
        monkeypatch.setenv("NO_PROXY", "*")
        assert fetch("/ok", proxy=f"http://127.0.0.2:{proxy.port}", connect_to={}).reason is not Reason.OK
        assert proxy.connections == 1


def test_requests_say_honestly_who_asks_and_keep_the_host(zoo: Zoo, fetch: Fetch) -> None:
    fetch("/ok", agent="surveyor", contact="https://example.org/bot")
    head = zoo.requests[-1].lower()
    assert "user-agent: surveyor/" in head
    assert "(+https://example.org/bot)" in head
    assert f"host: {HOST}\r\n" in head
    assert "accept-encoding: identity" in head


def test_transient_failures_are_tried_again_and_others_are_not(
    zoo: Zoo, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmdata.fetch.politeness.FIRST_BACKOFF_S", 0.01)
    fetched = fetch("/flaky/2", retries=2)
    assert (fetched.reason, fetched.attempts) == (Reason.OK, 3)
    for path, attempts in (("/status/500", 3), ("/hang_up", 3), ("/short", 3), ("/status/404", 1), ("/garbage", 1)):
        assert fetch(path, retries=2).attempts == attempts, path


def test_a_wait_that_the_server_asks_for_is_waited_and_a_long_one_is_given_up(fetch: Fetch) -> None:
    begun = time.monotonic()
    fetched = fetch("/retry_after/1", retries=1)
    assert (fetched.reason, fetched.attempts) == (Reason.OK, 2)
    assert time.monotonic() - begun >= 1
    for value in ("3600", "1" + "0" * 300, "Wed, 21 Oct 2065 07:28:00 GMT"):
        fetched = fetch("/retry_after/" + quote(value), retries=2)
        assert (fetched.reason, fetched.attempts) == (Reason.RATE_LIMITED, 1)


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


def test_bytes_with_another_hash_than_the_table_says_are_refused(fetch: Fetch) -> None:
    assert fetch("/ok", expected_sha256=BODY_SHA256.upper()).reason is Reason.OK
    fetched = fetch("/ok", expected_sha256="0" * 64)
    assert (fetched.reason, fetched.sha256) == (Reason.HASH_MISMATCH, BODY_SHA256)


def test_bytes_on_the_blocklist_are_not_given(fetch: Fetch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert fetch("/ok", blocklist=HashList([BODY_SHA256])).reason is Reason.HASH_BLOCKLIST
    path = tmp_path / "blocked.txt"
    path.write_text(f"# taken down\n{'0' * 64}\n{BODY_SHA256}  a.jpg\n")
    assert fetch("/ok", hash_blocklist=str(path)).reason is Reason.HASH_BLOCKLIST
    path.write_text("not a hash\n")
    with pytest.raises(ConfigError, match="line 1"):
        fetch("/ok", hash_blocklist=str(path))


@pytest.mark.parametrize(
    "changes",
    [
        {"allow_networks": ["10.0.0.0/40"]},
        {"connect_to": {"a": "nowhere"}},
        {"ports": [0]},
        {"agent": "evil\r\nX-Header: 1"},
        {"proxy": "http://p:1", "name_servers": ["1.1.1.1"]},
    ],
)
def test_options_that_cannot_be_used_are_refused_before_any_work(zoo: Zoo, changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"fetch\."):
        fetch_all([], zoo_options(zoo, **changes))


def test_an_opt_out_header_is_honoured_and_recorded(zoo: Zoo, fetch: Fetch) -> None:
    fetched = fetch("/robots/googlebot:noindex|noai")
    assert (fetched.reason, fetched.detail) == (Reason.OPTOUT_HEADER, "X-Robots-Tag: noai")
    assert fetch("/robots/googlebot:noindex|all").reason is Reason.OK
    assert fetch("/robots/surveyor:noai", agent="surveyor").reason is Reason.OPTOUT_HEADER
    assert fetch("/robots/noai", opt_out=False).data == BODY
