"""The native engine against the zoo: each behaviour has its reason, and nothing hangs."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable

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


@pytest.mark.parametrize("path", ["/ok", "/chunked", "/until_close", "/encoded/gzip", "/early_hints", "/long", "/encoded/identity,%20gzip"])
def test_a_file_comes_whole_however_it_is_framed(fetch: Fetch, path: str) -> None:
    fetched = fetch(path.replace("%20", ""))
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
        ("/stall_in_headers", {"slow_grace_s": 0.2}, Reason.TIMEOUT),
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
        "http://127.0.0.1/ok",
        "http://[::1]/",
        "http://2130706433/",
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost/",
        "file:///etc/passwd",
        "ftp://zoo.example/ok",
        "http://zoo.example:8265/api/jobs/",
        "http://user@zoo.example/ok",
        "//10.0.0.1/ok",
    ],
)
def test_a_redirect_to_what_may_not_be_fetched_is_blocked(zoo: Zoo, location: str) -> None:
    with open_zoo() as canary:
        # The canary answers on 127.0.0.1 wherever the redirect points to a port that the URL cannot name.
        options = zoo_options(zoo, allow_networks=[f"127.0.0.1/32"], ports=[80, canary.port])
        options = zoo_options(zoo) if "127" not in location and "2130" not in location else options
        links = [Link("a", f"http://{HOST}/to/302/{location}")]
        if "127.0.0.1/ok" in location or "2130706433" in location or "localhost" in location:
            location = location.replace("127.0.0.1", f"127.0.0.1:{canary.port}").replace("2130706433", f"2130706433:{canary.port}")
            links = [Link("a", f"http://{HOST}/to/302/{location}")]
            options = zoo_options(zoo)  # the canary's port is not in fetch.ports
        (fetched,) = fetch_all(links, options)
        if "localhost" in location:
            assert fetched.reason in (Reason.CONNECT, Reason.REDIRECT)
        else:
            assert fetched.reason is Reason.REDIRECT, fetched.detail
        assert canary.connections == 0
