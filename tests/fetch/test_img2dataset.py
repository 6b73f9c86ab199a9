"""The engine img2dataset gives the same bytes, and reasons, as its docstring says."""

from __future__ import annotations

import hashlib

import pytest

from mmdata.errors import ConfigError, Reason
from mmdata.fetch.engine import fetch_all
from mmdata.fetch.links import Link
from tests.fetch.conftest import HOST, zoo_options
from tests.fetch.zoo import BODY, Zoo, open_zoo

pytest.importorskip("img2dataset")


@pytest.mark.slow
def test_img2dataset_gives_raw_bytes_and_a_reason_for_every_link(zoo: Zoo) -> None:
    expected = {
        "ok": Reason.OK,
        "html": Reason.OK,
        "status/404": Reason.HTTP_4XX,
        "status/206": Reason.PROTOCOL,
        "status/503": Reason.HTTP_5XX,
        "empty": Reason.EMPTY,
        "short": Reason.TRUNCATED_BODY,
        "hang_up": Reason.RESET,
        "robots/noai": Reason.OPTOUT_HEADER,
        "to/302/%2Fok": Reason.REDIRECT,
        "endless": Reason.TOO_LARGE,
        "terabyte": Reason.TOO_LARGE,
        "stall": Reason.TIMEOUT,
    }
    with open_zoo(address="127.0.0.1") as canary:
        links = [Link(path, f"http://{HOST}/{path}") for path in expected]
        links += [
            Link("hash", f"http://{HOST}/ok/hash", "0" * 64),
            Link("canary", "http://canary.example/ok"),
            Link("localhost", f"http://localhost:{canary.port}/ok"),
            Link("scheme", "file:///etc/passwd"),
        ]
        options = zoo_options(
            zoo,
            engine="img2dataset",
            timeout_s=1,
            max_mb=1,
            ports=[80, canary.port],
            connect_to={HOST: f"127.0.0.2:{zoo.port}", "canary.example": f"127.0.0.1:{canary.port}"},
        )
        found = {fetched.key: fetched for fetched in fetch_all(links, options)}
        assert canary.connections == 0
    assert {key: found[key].reason for key in expected} == expected
    assert (found["ok"].data, found["ok"].sha256) == (BODY, hashlib.sha256(BODY).hexdigest())
    assert found["hash"].reason is Reason.HASH_MISMATCH
    assert {found[key].reason for key in ("canary", "localhost")} == {Reason.ADDRESS}
    assert found["scheme"].reason is Reason.SCHEME
    assert len(found) == len(links)
    heads = [head.lower() for head in zoo.requests if "/ok" in head.split("\r\n")[0]]
    assert all("user-agent: mmdata/" in head for head in heads)


def test_img2dataset_cannot_take_name_servers(zoo: Zoo) -> None:
    with pytest.raises(ConfigError, match=r"fetch\.name_servers"):
        fetch_all([], zoo_options(zoo, engine="img2dataset", name_servers=["1.1.1.1"]))
