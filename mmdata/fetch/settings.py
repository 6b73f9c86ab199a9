"""What both engines take from FetchOptions: checked, and in the form that they need."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network

from mmdata import __version__
from mmdata.config import FetchOptions
from mmdata.errors import ConfigError
from mmdata.fetch.address import AddressRules

BYTES_PER_MB = 1_000_000
EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@dataclass(frozen=True)
class Settings:
    """FetchOptions with its texts parsed.

    rules: for addresses of links. socket_rules: for the sockets that are really made: the same, but with a proxy every
    socket goes to the proxy, which the user has named, so only what is never allowed is refused.
    connect_to: host in small letters -> (address, port).
    """

    options: FetchOptions
    ports: frozenset[int]
    rules: AddressRules
    socket_rules: AddressRules
    max_bytes: int
    user_agent: str
    connect_to: dict[str, tuple[str, int]]
    name_servers: tuple[tuple[str, int], ...]


def settings_of(options: FetchOptions, forbidden_ports: Iterable[int] = ()) -> Settings:
    """Settings for one fetch. Raises ConfigError naming the option that cannot be used."""
    rules = AddressRules.parse(options.allow_networks, forbidden_ports)
    if options.proxy and options.name_servers:
        raise ConfigError(
            "fetch.name_servers: has no effect with fetch.proxy, which looks names up itself; leave one out"
        )
    if any(not 0 < port < 65536 for port in options.ports):
        raise ConfigError(f"fetch.ports: found {options.ports}, allowed are 1 to 65535")
    agent = f"{options.agent}/{__version__}" + (f" (+{options.contact})" if options.contact else "")
    if not (agent.isascii() and agent.isprintable()):
        raise ConfigError(f"fetch.agent, fetch.contact: found {agent!r}, allowed are printable ASCII characters")
    return Settings(
        options=options,
        ports=frozenset(options.ports),
        rules=rules,
        socket_rules=AddressRules(EVERYWHERE, rules.forbidden_ports) if options.proxy else rules,
        max_bytes=int(options.max_mb * BYTES_PER_MB),
        user_agent=agent,
        connect_to={
            host.lower(): _endpoint(text, f"fetch.connect_to.{host}", None) for host, text in options.connect_to.items()
        },
        name_servers=tuple(_endpoint(text, "fetch.name_servers", 53) for text in options.name_servers),
    )


def _endpoint(text: str, where: str, default_port: int | None) -> tuple[str, int]:
    """Host and port of `host:port`, `[ipv6]:port` or, with a default port, of either without it."""
    host, colon, port = text.rpartition(":")
    if text.count(":") > 1 and not text.startswith("["):
        host, colon, port = text, "", ""  # a bare IPv6 address
    elif not colon or text.endswith("]"):
        host, colon, port = text, "", ""
    host = host.removeprefix("[").removesuffix("]")
    if not host or (not colon and default_port is None) or (colon and not (port.isdigit() and 0 < int(port) < 65536)):
        raise ConfigError(
            f"{where}: found {text!r}, allowed is address:port, for instance 127.0.0.1:8080 or [::1]:8080"
        )
    return host, int(port) if colon else int(default_port or 0)


def bracketed(host: str) -> str:
    """`host` as it stands in a URL: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def certificate_files() -> tuple[str | None, str | None]:
    """File and folder of the certificate authorities this machine trusts (SSL_CERT_FILE counts), else certifi's file.

    libcurl's own default is the path of the machine that it was compiled on.
    """
    paths = ssl.get_default_verify_paths()
    if paths.cafile or paths.capath:
        return paths.cafile, None if paths.cafile else paths.capath
    import certifi

    return certifi.where(), None
