"""Which URLs and addresses may be fetched: the table of everything that has fooled somebody."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmdata.config import FetchOptions
from mmdata.errors import ConfigError, Reason, SampleError
from mmdata.fetch.address import AddressRules, check_url
from mmdata.fetch.settings import settings_of
from mmdata.fetch.task import checked_target

SETTINGS = settings_of(FetchOptions())


def verdict(url: str) -> str:
    try:
        return checked_target(url, SETTINGS).url
    except SampleError as error:
        return error.reason.value


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        # what may be fetched, as it will be asked for
        ("http://example.com", "http://example.com/"),
        ("HTTPS://Example.COM:443/a", "https://Example.COM:443/a"),
        (" http://example.com/a \n", "http://example.com/a"),
        ("http://example.com/a b.jpg", "http://example.com/a%20b.jpg"),
        ("http://example.com/\u732b.jpg?q=\u00e9#part", "http://example.com/%E7%8C%AB.jpg?q=%C3%A9"),
        ("http://m\u00fcnchen.de/", "http://xn--mnchen-3ya.de/"),
        ("http://example.com?x=1", "http://example.com/?x=1"),
        ("http://example.com./a", "http://example.com./a"),
        ("http://example.com/../../a/./b", "http://example.com/a/b"),
        ("http://under_score.example.com/", "http://under_score.example.com/"),
        ("http://example.com/a@b:c", "http://example.com/a@b:c"),
        ("http://8.8.8.8/", "http://8.8.8.8/"),
        ("http://[2606:4700:4700::1111]/", "http://[2606:4700:4700::1111]/"),
        ("http://%65xample.com/", "http://example.com/"),
        # not http
        ("ftp://example.com/", "blocked.scheme"),
        ("file:///etc/passwd", "blocked.scheme"),
        ("gopher://127.0.0.1:6379/_x", "blocked.scheme"),
        ("data:image/png;base64,AAAA", "blocked.scheme"),
        ("javascript:alert(1)", "blocked.scheme"),
        ("s3://bucket/key", "blocked.scheme"),
        # other ports
        ("http://example.com:22/", "blocked.port"),
        ("http://example.com:8265/api/jobs/", "blocked.port"),
        ("https://example.com:0/", "blocked.port"),
        # no URL, or one that two readers read in two ways
        ("", "blocked.bad_url"),
        ("example.com/a.jpg", "blocked.bad_url"),
        ("//example.com/a.jpg", "blocked.bad_url"),
        ("http:/example.com/", "blocked.bad_url"),
        ("http:///example.com/", "blocked.bad_url"),
        ("http:\\\\example.com\\a", "blocked.bad_url"),
        ("http://127.0.0.1\\@example.com/", "blocked.bad_url"),
        ("http://127.0.0.1:80\\@example.com/", "blocked.bad_url"),
        ("http://user@example.com/", "blocked.bad_url"),
        ("http://user:word@example.com/", "blocked.bad_url"),
        ("http://@example.com/", "blocked.bad_url"),
        ("http://example.com@127.0.0.1/", "blocked.bad_url"),
        ("http://exa mple.com/", "blocked.bad_url"),
        ("http://exam\tple.com/", "blocked.bad_url"),
        ("http://example.com/a\r\nHost: evil", "blocked.bad_url"),
        ("http://example.com/\x00.jpg", "blocked.bad_url"),
        ("http://example.com:65536/", "blocked.bad_url"),
        ("http://example.com:80a/", "blocked.bad_url"),
        ("http://example..com/", "blocked.bad_url"),
        ("http://./", "blocked.bad_url"),
        ("http://%/", "blocked.bad_url"),
        ("http://[::1", "blocked.bad_url"),
        ("http://[fe80::1%25eth0]/", "blocked.bad_url"),
        ("http://[v1.x]/", "blocked.bad_url"),
        ("http://256.1.1.1/", "blocked.bad_url"),
        ("http://1.2.3.4.5/", "blocked.bad_url"),
        ("http://0x1ffffffff/", "blocked.bad_url"),
        ("http://example.0x7f/", "blocked.bad_url"),
        ("http://" + "a" * 64 + ".com/", "blocked.bad_url"),
        ("http://example.com/" + "a" * 9000, "blocked.bad_url"),
        # this machine and its neighbours, in many spellings
        ("http://127.0.0.1/", "blocked.address"),
        ("http://127.0.0.1./", "blocked.address"),
        ("http://127.1/", "blocked.address"),
        ("http://2130706433/", "blocked.address"),
        ("http://0x7f.1/", "blocked.address"),
        ("http://0x7f000001/", "blocked.address"),
        ("http://0177.0.0.1/", "blocked.address"),
        ("http://%31%32%37.0.0.1/", "blocked.address"),
        ("http://\uff11\uff12\uff17.0.0.1/", "blocked.address"),
        ("http://127\u30020\u30020\u30021/", "blocked.address"),
        ("http://0/", "blocked.address"),
        ("http://0.0.0.0/", "blocked.address"),
        ("http://10.0.0.1/", "blocked.address"),
        ("http://172.16.0.1/", "blocked.address"),
        ("http://192.168.1.1/", "blocked.address"),
        ("http://100.64.0.1/", "blocked.address"),
        ("http://169.254.169.254/latest/meta-data/", "blocked.address"),
        ("http://192.0.0.8/", "blocked.address"),
        ("http://198.18.0.1/", "blocked.address"),
        ("http://224.0.0.1/", "blocked.address"),
        ("http://240.0.0.1/", "blocked.address"),
        ("http://255.255.255.255/", "blocked.address"),
        ("http://[::]/", "blocked.address"),
        ("http://[::1]/", "blocked.address"),
        ("http://[::127.0.0.1]/", "blocked.address"),
        ("http://[::ffff:127.0.0.1]/", "blocked.address"),
        ("http://[::ffff:7f00:1]/", "blocked.address"),
        ("http://[::ffff:0:127.0.0.1]/", "blocked.address"),
        ("http://[64:ff9b::7f00:1]/", "blocked.address"),
        ("http://[64:ff9b:1::a00:1]/", "blocked.address"),
        ("http://[2002:7f00:1::]/", "blocked.address"),
        ("http://[2001:0:808:808::80ff:fffe]/", "blocked.address"),
        ("http://[2606:4700::5efe:127.0.0.1]/", "blocked.address"),
        ("http://[fc00::1]/", "blocked.address"),
        ("http://[fd00:ec2::254]/", "blocked.address"),
        ("http://[fe80::1]/", "blocked.address"),
        ("http://[fec0::1]/", "blocked.address"),
        ("http://[ff02::1]/", "blocked.address"),
        ("http://[2001:db8::1]/", "blocked.address"),
    ],
)
def test_a_url_is_asked_for_as_written_or_refused_with_its_reason(url: str, expected: str) -> None:
    assert verdict(url) == expected


@pytest.mark.parametrize(
    ("address", "networks", "allowed"),
    [
        ("8.8.8.8", [], True),
        ("64:ff9b::808:808", [], True),
        ("::ffff:8.8.8.8", [], True),
        ("2002:808:808::", [], True),
        ("127.0.0.1", ["127.0.0.0/8"], True),
        ("::ffff:127.0.0.1", ["127.0.0.0/8"], True),
        ("64:ff9b::7f00:1", ["127.0.0.0/8"], True),
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("10.1.2.3", ["10.2.0.0/16"], False),
        ("fd12::1", ["fc00::/7"], True),
        ("::1", ["127.0.0.0/8"], False),
        # never, whatever is allowed
        ("169.254.169.254", ["0.0.0.0/0"], False),
        ("::ffff:169.254.169.254", ["::/0", "0.0.0.0/0"], False),
        ("64:ff9b::a9fe:a9fe", ["::/0", "0.0.0.0/0"], False),
        ("2002:a9fe:a9fe::", ["::/0"], False),
        ("fe80::1", ["::/0"], False),
        ("fd00:ec2::254", ["::/0"], False),
        ("100.100.100.200", ["100.64.0.0/10"], False),
        ("168.63.129.16", [], False),
        ("0.0.0.0", ["0.0.0.0/0"], False),
        ("::", ["::/0"], False),
        ("224.0.0.1", ["0.0.0.0/0"], False),
        ("ff02::1", ["::/0"], False),
        ("fe80::1%eth0", ["::/0"], False),
        ("no address", ["::/0"], False),
    ],
)
def test_an_address_is_public_or_allowed_and_never_link_local(address: str, networks: list[str], allowed: bool) -> None:
    assert (AddressRules.parse(networks).refusal(address, 80) == "") is allowed


def test_a_forbidden_port_is_forbidden_on_every_address() -> None:
    rules = AddressRules.parse(["127.0.0.0/8"], [8265])
    assert rules.refusal("127.0.0.1", 8265)
    assert rules.refusal("8.8.8.8", 8265)
    assert not rules.refusal("127.0.0.1", 8266)


def test_a_network_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"fetch\.allow_networks: found '10\.0\.0\.1/8'"):
        AddressRules.parse(["10.0.0.1/8"])


@given(st.one_of(st.text(), st.from_regex(r"https?://[^\s]{0,40}", fullmatch=True)))
@example("http://[::1]%00/")
@example("http://\ud800/")
def test_any_text_gives_a_target_or_a_blocked_reason(url: str) -> None:
    try:
        target = checked_target(url, SETTINGS)
    except SampleError as error:
        group = error.reason.group
    else:
        group = "blocked"
        assert target.port in (80, 443)
        assert target.url.isascii()
        assert "@" not in target.url.split("/")[2]
        assert check_url(target.url, {80, 443}) == target
    assert group == "blocked"


@given(
    st.ip_addresses(v=4, network="127.0.0.0/8"),
    st.sampled_from(["{a}", "{n}", "0x{n:x}", "0{n:o}", "[::ffff:{a}]", "{a}."]),
)
def test_no_spelling_of_a_loopback_address_is_allowed(address, form: str) -> None:  # type: ignore[no-untyped-def]
    assert verdict("http://" + form.format(a=address, n=int(address)) + "/") == Reason.ADDRESS.value


@given(st.ip_addresses())
def test_an_allowed_address_is_global(address) -> None:  # type: ignore[no-untyped-def]
    if not AddressRules().refusal(str(address), 80):
        mapped = getattr(address, "ipv4_mapped", None)
        assert (mapped or address).is_global
        assert not address.is_multicast
