"""The zoo, and a short way to fetch from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mmdata.config import FetchOptions
from mmdata.fetch.engine import fetch_all
from mmdata.fetch.links import Fetched, Link
from tests.fetch.zoo import Zoo, open_zoo

HOST = "zoo.example"


@pytest.fixture(scope="module")
def zoo() -> Iterator[Zoo]:
    with open_zoo() as opened:
        yield opened


def zoo_options(zoo: Zoo, **changes: Any) -> FetchOptions:
    values: dict[str, Any] = {
        "timeout_s": 3.0,
        "connect_timeout_s": 1.0,
        "first_byte_timeout_s": 1.0,
        "retries": 0,
        "allow_networks": ["127.0.0.2/32"],
        "connect_to": {HOST: f"127.0.0.2:{zoo.port}"},
    }
    return FetchOptions(**{**values, **changes})


@pytest.fixture
def fetch(zoo: Zoo) -> Callable[..., Fetched]:
    """Fetch one path of the zoo (or a whole URL); keywords are FetchOptions."""

    def one(path: str, expected_sha256: str | None = None, blocklist: Any = None, **changes: Any) -> Fetched:
        url = f"http://{HOST}{path}" if path.startswith("/") else path
        options = zoo_options(zoo, **changes)
        (fetched,) = fetch_all([Link("pictures-000000000001", url, expected_sha256)], options, blocklist=blocklist)
        assert fetched.key == "pictures-000000000001"
        assert fetched.reason.value == "ok" or not fetched.data
        return fetched

    return one
