"""The native engine against the zoo: each behaviour has its reason, and nothing hangs."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest

from mmdata.errors import ConfigError, Reason
from mmdata.fetch.blocklist import HashList
from mmdata.fetch.links import Fetched
from tests.fetch.conftest import HOST
from tests.fetch.zoo import BODY, Zoo

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


def test_an_unknown_name_fails_with_fetch_dns(fetch: Fetch) -> None:
    assert fetch("http://nowhere.invalid/").reason is Reason.DNS


def test_a_closed_port_fails_with_fetch_connect(fetch: Fetch) -> None:
    with socket.socket() as held:  # bound and not listening: nobody else can take the port meanwhile
        held.bind(("127.0.0.2", 0))
        port = held.getsockname()[1]
        assert fetch(f"http://127.0.0.2:{port}/", ports=[port]).reason is Reason.CONNECT


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


def test_an_opt_out_header_is_honoured_and_recorded(zoo: Zoo, fetch: Fetch) -> None:
    fetched = fetch("/robots/googlebot:noindex|noai")
    assert (fetched.reason, fetched.detail) == (Reason.OPTOUT_HEADER, "X-Robots-Tag: noai")
    assert fetch("/robots/googlebot:noindex|all").reason is Reason.OK
    assert fetch("/robots/surveyor:noai", agent="surveyor").reason is Reason.OPTOUT_HEADER
    assert fetch("/robots/noai", opt_out=False).data == BODY
