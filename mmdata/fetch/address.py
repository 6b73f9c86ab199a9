"""What may be connected to: which URLs, which addresses. No input or output happens here.

URLs are read by libcurl's own parser (CurlUrl), and what it read is what libcurl is given: no second parser can
disagree. Names are not judged, since they may resolve to something else a moment later; the address of every socket is,
at the moment it is made (`AddressRules.refusal`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from mmdata.errors import ConfigError, Reason, SampleError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL_CHARS = 8192
MAX_HOST_CHARS = 253
MAX_LABEL_CHARS = 63

# Never, whatever `allow_networks` says: this machine's metadata services (they hand out credentials), link-local,
# addresses that mean "here", and those that mean more than one machine.
NEVER = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",
        "169.254.0.0/16",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
        "224.0.0.0/4",
        "255.255.255.255/32",
        "::/128",
        "fe80::/10",
        "fd00:ec2::/32",
        "fd20:ce::/32",
        "ff00::/8",
    )
)
# Not public, whatever the Python version's `is_global` says of them.
NOT_PUBLIC = tuple(
    ip_network(network)
    for network in (
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
        "::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fec0::/10",
    )
)
_V4_MAPPED = ip_network("::ffff:0:0/96")
_V4_COMPATIBLE = ip_network("::/96")
_V4_TRANSLATED = ip_network("::ffff:0:0:0/96")
_NAT64 = ip_network("64:ff9b::/96")
_NAT64_LOCAL = ip_network("64:ff9b:1::/48")
_V4_IN_LAST_32_BITS = (_V4_MAPPED, _V4_COMPATIBLE, _V4_TRANSLATED, _NAT64, _NAT64_LOCAL)
_ISATAP = (0x00005EFE, 0x02005EFE)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SHAPE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//[^/\\])?")
_NUMERIC = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Target:
    """A checked URL: `url` as libcurl is given it, `host` in small letters without brackets, and the port it means."""

    url: str
    scheme: str
    host: str
    port: int

    @property
    def is_literal(self) -> bool:
        """True where the host is an address, not a name."""
        return ":" in self.host or self.host[-1].isdigit()


def check_url(url: str, ports: Container[int]) -> Target:
    """The target that `url` means. Raises SampleError (blocked.bad_url, .scheme, .port) where it may not be fetched.

    Space around it is cut off; spaces and non-ASCII in path and query are percent-encoded; a non-ASCII host becomes
    its ASCII form (IDNA); numbers that mean an IPv4 address (2130706433, 0x7f.1, 0177.0.0.1) become that address.
    """
    import pycurl

    text = url.strip(" \t\r\n\f")
    if len(text) > MAX_URL_CHARS:
        raise SampleError(Reason.BAD_URL, f"URL of {len(text)} characters, allowed are {MAX_URL_CHARS}")
    if _CONTROL.search(text):
        raise SampleError(Reason.BAD_URL, "control character in URL")
    shape = _SHAPE.match(text)
    if shape is None:
        raise SampleError(Reason.BAD_URL, "no URL")
    scheme = shape[1].lower()
    if scheme not in ("http", "https"):
        raise SampleError(Reason.SCHEME, f"scheme {scheme[:20]}, allowed are http and https")
    if shape[2] is None:
        raise SampleError(Reason.BAD_URL, "no host after //")
    parsed = pycurl.CurlUrl()
    try:
        flags = pycurl.U_DISALLOW_USER | pycurl.U_URLENCODE
        # Bytes, since a lone surrogate cannot be encoded otherwise; libcurl percent-encodes them.
        parsed.setpart(pycurl.UPART_URL, text.encode("utf-8", "surrogatepass"), flags)
        host = parsed.host
        if not host.isascii():
            # Read anew, since the ASCII form of fullwidth digits is an address, which libcurl then normalises.
            parsed.host = _ascii_name(host)
            parsed.setpart(pycurl.UPART_URL, parsed.url, flags)
            host = parsed.host
        parsed.fragment = None
        port = int(parsed.getpart(pycurl.UPART_PORT, pycurl.U_DEFAULT_PORT))
        checked = parsed.url
        zone = parsed.zoneid
    except (pycurl.error, UnicodeError) as error:
        raise SampleError(Reason.BAD_URL, str(error.args[-1])) from None
    host = host.lower()
    if zone is not None or not checked.isascii():
        raise SampleError(Reason.BAD_URL, "no address with a zone, nor a host outside ASCII")
    if host.startswith("["):
        host = host[1:-1]
    else:
        _check_name(host)
    if port not in ports:
        raise SampleError(Reason.PORT, f"port {port} is not in fetch.ports")
    return Target(checked, scheme, host, port)


def _ascii_name(host: str) -> str:
    """The IDNA form of a host name; the libcurl of pycurl's wheel does not do that. Raises UnicodeError."""
    import idna

    return idna.encode(host, uts46=True).decode("ascii")


def _check_name(host: str) -> None:
    labels = host.removesuffix(".").split(".")
    if len(host) > MAX_HOST_CHARS or any(
        len(label) > MAX_LABEL_CHARS or not _LABEL.fullmatch(label) for label in labels
    ):
        raise SampleError(Reason.BAD_URL, "no host name")
    # libcurl has turned what it could into four numbers; other readers may see an address in the rest (0x1ffffffff).
    if _NUMERIC.fullmatch(labels[-1]):
        try:
            IPv4Address(host)
        except ValueError:
            raise SampleError(Reason.BAD_URL, "host ends in a number, but is no IPv4 address") from None


@dataclass(frozen=True)
class AddressRules:
    """Which endpoints a socket may be made to: public addresses and `networks`, and no port of `forbidden_ports`."""

    networks: tuple[Network, ...] = ()
    forbidden_ports: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, networks: Iterable[str], forbidden_ports: Iterable[int] = ()) -> AddressRules:
        """Rules from `fetch.allow_networks`. Raises ConfigError naming an entry that is no network."""
        parsed: list[Network] = []
        for text in networks:
            try:
                parsed.append(ip_network(text))
            except ValueError as error:
                raise ConfigError(
                    f"fetch.allow_networks: found {text!r}: {error}; allowed is e.g. 10.0.0.0/8"
                ) from None
        return cls(tuple(parsed), frozenset(forbidden_ports))

    def refusal(self, address: str, port: int) -> str:
        """Why no socket may be made to this endpoint, or "" where it may."""
        if port in self.forbidden_ports:
            return f"port {port} belongs to this machine's own services"
        return _refusal(address, self.networks)


@functools.lru_cache(maxsize=4096)
def _refusal(text: str, networks: tuple[Network, ...]) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        return f"{text} is no address"
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return f"{text} has a zone"
    unwrapped = list(_embedded(address))
    for each in (address, *unwrapped):
        if any(each in network for network in NEVER):
            return f"{text} is link-local, multicast, unspecified or a metadata service"
    if any(address in network for network in networks):
        return ""
    # Mapped and NAT64 addresses are their IPv4 address; any other must be public itself as well as what is in it.
    judged = unwrapped if address in _V4_MAPPED or address in _NAT64 else [address, *unwrapped]
    for each in judged:
        if not _is_public(each) and not any(each in network for network in networks):
            return f"{text} is not public, nor in fetch.allow_networks"
    return ""


def _is_public(address: Address) -> bool:
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in NOT_PUBLIC)
    )


def _embedded(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that a gateway would take out of this one: mapped, NAT64, 6to4, Teredo, ISATAP, old forms."""
    if isinstance(address, IPv4Address):
        return
    low = IPv4Address(int(address) & 0xFFFFFFFF)
    is_isatap = (int(address) >> 32) & 0xFFFFFFFF in _ISATAP
    if is_isatap or (int(address) > 1 and any(address in network for network in _V4_IN_LAST_32_BITS)):
        yield low
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
