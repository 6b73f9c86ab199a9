"""What the native engine never connects to, however it is asked."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from urllib.parse import quote

import pytest

from mmdata.config import FetchOptions
from mmdata.errors import ConfigError, Reason
from mmdata.fetch.engine import fetch_all
from mmdata.fetch.links import Fetched, Link
from tests.fetch.conftest import HOST, zoo_options
from tests.fetch.zoo import BODY, Zoo, open_zoo

Fetch = Callable[..., Fetched]
BODY_SHA256 = hashlib.sha256(BODY).hexdigest()


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


def test_the_environment_sets_no_proxy_and_the_option_does(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_zoo() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.2:{proxy.port}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.2:{proxy.port}")
        assert fetch("/ok").data == BODY
        assert proxy.connections == 0
        monkeypatch.setenv("NO_PROXY", "*")
        assert fetch("/ok", proxy=f"http://127.0.0.2:{proxy.port}", connect_to={}).reason is not Reason.OK
        assert proxy.connections == 1


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
