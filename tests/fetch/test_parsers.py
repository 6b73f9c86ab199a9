"""Headers from strangers: opt-outs, waits, codings, status lines. Nothing in them may raise what is not a reason."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.errors import Reason, SampleError
from mmdata.fetch.img2dataset import reason_of_text
from mmdata.fetch.opt_out import OPT_OUTS, header_values, opt_out
from mmdata.fetch.politeness import MAX_BACKOFF_S, HostQueues, backoff_s, retry_after_s
from mmdata.fetch.responses import content_encodings, decompressed, reason_of_error, reason_of_status, status_code

NOW_S = 1_700_000_000.0


@pytest.mark.parametrize(
    ("values", "opted_out"),
    [
        (["noai"], True),
        (["NoImageAI"], True),
        (["noindex, nofollow"], True),
        (["nofollow,noml"], True),
        (["none"], True),
        (["all"], False),
        (["nofollow, noarchive"], False),
        ([""], False),
        ([], False),
        (["nofollow", "noimageindex"], True),
        (["mmdata: noai"], True),
        (["MMData/2.0: noai"], True),
        (["*: noai"], True),
        (["googlebot: noai"], False),
        (["googlebot: nofollow, noai"], False),
        (["googlebot: noai, mmdata: noindex"], True),
        (["googlebot: noai", "noai"], True),
        (["noai, googlebot: nofollow"], True),
        (["unavailable_after: 25 Jun 2030 15:00:00 GMT, noai"], True),
        (["unavailable_after: Tuesday, 25-Jun-30 15:00:00 GMT, noai"], True),
        (["unavailable_after: 2030-06-25T15:00:00Z, noai"], True),
        (["googlebot: unavailable_after: 25 Jun 2030 15:00:00 GMT, noai"], False),
        (["unavailable_after: 25 Jun 2030 15:00:00 GMT"], False),
        (["max-snippet: 20, max-image-preview: large, noindex"], True),
        (["max-image-preview: none"], False),
        (["noaim, xnoai"], False),
        ([" :noai"], False),
    ],
)
def test_an_opt_out_is_for_everybody_or_for_us(values: list[str], opted_out: bool) -> None:
    assert (opt_out(values, "mmdata") is not None) is opted_out


def test_the_opt_out_is_quoted_as_evidence() -> None:
    assert opt_out(["nofollow", " noai, nosnippet "], "mmdata") == "noai, nosnippet"


@given(st.lists(st.text()), st.text())
def test_any_robots_header_is_read(values: list[str], agent: str) -> None:
    found = opt_out(values, agent)
    assert found is None or any(word in found.lower() for word in OPT_OUTS)


@given(st.sampled_from(sorted(OPT_OUTS)), st.lists(st.sampled_from(["nofollow", "max-snippet: 3", "x"]), max_size=3))
def test_an_unscoped_opt_out_counts_among_any_other_directives(directive: str, others: list[str]) -> None:
    assert opt_out([", ".join([*others, directive])], "mmdata") is not None


def test_only_headers_of_the_last_response_count() -> None:
    lines = [
        b"HTTP/1.1 103 Early\r\n",
        b"X-Robots-Tag: noai\r\n",
        b"\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"x-robots-tag : a\r\n",
    ]
    assert header_values(lines, "X-Robots-Tag") == ["a"]
    assert status_code(lines) == 200


@given(st.lists(st.binary()))
def test_any_header_lines_are_read(lines: list[bytes]) -> None:
    assert status_code(lines) >= 0
    assert all(isinstance(value, str) for value in header_values(lines, "X"))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("1000000000", 1e9),
        ("9" * 5000, float("inf")),
        ("Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
        ("Tuesday, 14-Nov-23 22:13:30 GMT", 10.0),
        ("Tue, 14 Nov 2000 22:13:30 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("\u0663", None),
        ("Tue, 99 Nov 2023 22:13:30 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after_s(value, NOW_S) == seconds


@given(
    st.one_of(
        st.text(), st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,6} [A-Z][a-z]{2} [0-9]{1,9} [0-9:]{1,9} GMT", fullmatch=True)
    )
)
def test_any_retry_after_is_read(value: str) -> None:
    seconds = retry_after_s(value, NOW_S)
    assert seconds is None or seconds >= 0


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_backoff_is_bounded(attempt: int, draw: float) -> None:
    assert 0 <= backoff_s(attempt, draw) <= MAX_BACKOFF_S


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "take", "done", "pause"])), max_size=60))
def test_host_queues_lose_nothing_and_keep_their_limit(steps: list[tuple[str, str]]) -> None:
    queues: HostQueues[str] = HostQueues(2)
    active: list[str] = []
    put = taken = 0
    for now, (host, step) in enumerate(steps):
        if step == "put":
            queues.put(host, host)
            put += 1
        elif step == "take" and (item := queues.take(now)) is not None:
            active.append(item)
            taken += 1
            assert active.count(item) <= 2
        elif step in ("done", "pause") and host in active:
            if step == "pause":
                queues.pause(host, now + 3)
            active.remove(host)
            queues.done(host)
    for now in range(100, 100 + 2 * put):
        while (item := queues.take(now)) is not None:
            queues.done(item)
            taken += 1
        for item in active:
            queues.done(item)
        active = []
    assert (taken, queues.waiting) == (put, 0)


def test_a_paused_host_waits_and_the_others_do_not() -> None:
    queues: HostQueues[str] = HostQueues(1)
    for host in "aab":
        queues.put(host, host)
    assert queues.take(0.0) == "a"
    queues.pause("a", 5.0)
    queues.done("a")
    assert queues.take(1.0) == "b"
    assert queues.take(1.0) is None
    assert queues.next_at() == 5.0
    assert queues.take(5.0) == "a"


@pytest.mark.parametrize("body", [b"", b"x", bytes(60_000), bytes(range(256)) * 200])
@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate"])
def test_a_coded_body_is_decoded(body: bytes, coding: str) -> None:
    coded = zlib.compress(body) if coding == "deflate" else gzip.compress(body, mtime=0)
    assert decompressed(coded, [coding], 10**6) == body


def test_a_raw_deflate_body_and_several_gzip_members_are_decoded() -> None:
    raw = zlib.compressobj(wbits=-15)
    assert decompressed(raw.compress(b"abc" * 50) + raw.flush(), ["deflate"], 10**6) == b"abc" * 50
    assert decompressed(gzip.compress(b"ab", mtime=0) + gzip.compress(b"c", mtime=0), ["gzip"], 10**6) == b"abc"


@pytest.mark.parametrize(
    ("data", "codings", "reason"),
    [
        (gzip.compress(bytes(10**7), mtime=0), ["gzip"], Reason.BOMB),
        (gzip.compress(b"", mtime=0) * 1000, ["gzip"], Reason.BOMB),
        (gzip.compress(bytes(range(256)) * 1000), ["gzip"], Reason.BOMB),
        (gzip.compress(b"abc", mtime=0)[:-1], ["gzip"], Reason.ENCODING),
        (gzip.compress(b"abc", mtime=0) + b"tail", ["gzip"], Reason.ENCODING),
        (b"plain", ["gzip"], Reason.ENCODING),
        (b"", ["gzip"], Reason.ENCODING),
        (b"x", ["br"], Reason.ENCODING),
        (gzip.compress(gzip.compress(b"abc", mtime=0), mtime=0), ["gzip", "gzip"], Reason.ENCODING),
    ],
)
def test_a_coded_body_that_is_a_bomb_or_broken_is_refused(data: bytes, codings: list[str], reason: Reason) -> None:
    with pytest.raises(SampleError) as caught:
        decompressed(data, codings, 100_000)
    assert caught.value.reason is reason


@given(st.binary(), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_under_a_coding_give_bytes_or_a_reason(data: bytes, coding: str) -> None:
    reason = Reason.ENCODING
    try:
        assert isinstance(decompressed(data, [coding], 10**6), bytes)
    except SampleError as error:
        reason = error.reason
    assert reason in (Reason.ENCODING, Reason.BOMB)


def test_identity_is_no_coding() -> None:
    assert content_encodings(["identity, ", "GZip"]) == ["gzip"]


@given(st.integers(0, 999))
def test_every_status_code_has_a_reason(code: int) -> None:
    assert reason_of_status(code).group == "fetch"


@given(st.integers(1, 110), st.text())
def test_every_libcurl_error_has_a_reason(number: int, text: str) -> None:
    reason, detail = reason_of_error(number, text)
    assert reason is not Reason.OK
    assert detail


@pytest.mark.parametrize(
    ("text", "reason", "code"),
    [
        ("HTTP Error 404: Not Found", Reason.HTTP_4XX, 404),
        ("HTTP Error 302: Found", Reason.REDIRECT, 302),
        ("<urlopen error [Errno -2] Name or service not known>", Reason.DNS, None),
        ("<urlopen error [Errno 111] Connection refused>", Reason.CONNECT, None),
        ("<urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] x>", Reason.TLS, None),
        ("The read operation timed out", Reason.TIMEOUT, None),
        ("IncompleteRead(5 bytes read, 3 more expected)", Reason.TRUNCATED_BODY, None),
        ("Remote end closed connection without response", Reason.RESET, None),
        ("Use of image disallowed by X-Robots-Tag directive", Reason.OPTOUT_HEADER, None),
        ("what is this", Reason.PROTOCOL, None),
    ],
)
def test_an_error_text_of_img2dataset_has_a_reason(text: str, reason: Reason, code: int | None) -> None:
    assert reason_of_text(text) == (reason, code)
