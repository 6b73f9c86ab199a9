"""TLS: certificates are checked, and what is wrong with one is fetch.tls."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmdata.errors import Reason
from mmdata.fetch.engine import fetch_all
from mmdata.fetch.links import Fetched, Link
from tests.fetch.conftest import zoo_options
from tests.fetch.zoo import BODY, Zoo, open_zoo

x509 = pytest.importorskip("cryptography.x509")


def certificate(folder: Path, host: str, days: int) -> tuple[Path, Path]:
    """A self-signed certificate for `host` that ends in `days`, and its key, as PEM files."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.timezone.utc)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=10))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, private


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Zoo]:
    host, days, trusted = request.param
    pem, private = certificate(tmp_path, host, days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with open_zoo(context) as zoo:
        yield zoo


def fetch_one(zoo: Zoo, url: str) -> Fetched:
    options = zoo_options(zoo, connect_to={"tls.example": f"127.0.0.2:{zoo.port}"})
    (fetched,) = fetch_all([Link("a", url)], options)
    return fetched


@pytest.mark.parametrize("tls", [("tls.example", 10, True)], indirect=True)
def test_a_trusted_certificate_of_the_host_is_accepted(tls: Zoo) -> None:
    assert fetch_one(tls, "https://tls.example/ok").data == BODY


@pytest.mark.parametrize(
    "tls", [("tls.example", 10, False), ("tls.example", -1, True), ("other.example", 10, True)], indirect=True
)
def test_a_certificate_that_is_untrusted_expired_or_for_another_host_fails_with_fetch_tls(tls: Zoo) -> None:
    fetched = fetch_one(tls, "https://tls.example/ok")
    assert fetched.reason is Reason.TLS, fetched.detail
    assert not tls.hits


@pytest.mark.parametrize("tls", [("tls.example", 10, True)], indirect=True)
def test_a_redirect_from_https_to_http_is_blocked(tls: Zoo) -> None:
    fetched = fetch_one(tls, "https://tls.example/to/302/http%3A%2F%2Ftls.example%2Fok")
    assert (fetched.reason, fetched.detail) == (Reason.REDIRECT, "from https to http")


def test_a_server_that_speaks_no_tls_fails_with_fetch_tls(zoo: Zoo) -> None:
    assert fetch_one(zoo, "https://tls.example/ok").reason is Reason.TLS


def test_a_handshake_that_does_not_come_is_ended_by_the_connect_deadline() -> None:
    with open_zoo() as zoo:
        zoo.silent = True
        options = zoo_options(zoo, connect_to={"tls.example": f"127.0.0.2:{zoo.port}"}, connect_timeout_s=0.2)
        (fetched,) = fetch_all([Link("a", "https://tls.example/ok")], options)
        assert (fetched.reason, fetched.detail) == (Reason.TIMEOUT, "no TLS within 0.2 s")
