"""Sample keys, and how a sample ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.errors import Reason, Status
from mmdata.sample import DETAIL_CHARS, Sample, child_key, clean_detail, is_source_name, root_key, sample_key

SOURCE_NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)
NUMBERS = st.integers(0, 10**12 - 1)


def test_a_key_is_the_source_and_twelve_digits() -> None:
    assert sample_key("pictures", 42) == "pictures-000000000042"
    assert child_key("pictures-000000000042", 7) == "pictures-000000000042_0007"


@given(SOURCE_NAMES, NUMBERS, st.integers(0, 20_000), st.integers(1, 999))
def test_the_root_of_children_and_copies_is_the_input_row(source: str, number: int, index: int, copy: int) -> None:
    key = sample_key(source, number)
    child = child_key(key, index)
    assert root_key(key) == key
    assert root_key(child) == key
    assert root_key(f"{key}-x{copy:02d}") == key
    assert root_key(f"{child}-x{copy:02d}") == key


@given(SOURCE_NAMES, NUMBERS)
def test_no_key_has_a_dot(source: str, number: int) -> None:
    assert is_source_name(source)
    assert "." not in child_key(sample_key(source, number), 1)


@given(SOURCE_NAMES, NUMBERS, NUMBERS)
def test_keys_of_a_source_sort_as_their_rows(source: str, one: int, two: int) -> None:
    assert (sample_key(source, one) < sample_key(source, two)) == (one < two)


@pytest.mark.parametrize("name", ["", "Pictures", "web_images", "a.b", "a b", "bücher", "a/b", "a\n"])
def test_a_name_that_would_break_keys_is_no_source_name(name: str) -> None:
    assert not is_source_name(name)


def test_an_ended_sample_lets_go_of_its_bytes_and_keeps_its_columns() -> None:
    sample = Sample("a-000000000001", {"jpg": b"123"}, {"url": "http://x.example"})
    sample.end(Reason.TOO_SMALL, "12 x 9")
    assert (sample.status, sample.reason, sample.detail) == (Status.DROPPED, Reason.TOO_SMALL, "12 x 9")
    assert sample.parts == {}
    assert sample.columns == {"url": "http://x.example"}
    assert not sample.is_ok


def test_the_first_reason_stays() -> None:
    sample = Sample("a-000000000001")
    sample.end(Reason.TIMEOUT, "first")
    sample.end(Reason.CORRUPT, "second")
    assert (sample.reason, sample.detail) == (Reason.TIMEOUT, "first")


def test_the_picture_part_is_known_by_its_extension() -> None:
    assert Sample("a", {"raw": b"", "png": b""}).image_part == "png"
    assert Sample("a", {"raw": b""}).image_part is None


@given(st.text(st.characters(), max_size=400))
def test_a_detail_is_one_short_printable_line(text: str) -> None:
    detail = clean_detail(text)
    assert len(detail) <= DETAIL_CHARS
    assert not any(ord(char) < 32 or 0xD800 <= ord(char) < 0xE000 for char in detail)
    detail.encode("utf-8")


def test_a_detail_keeps_what_it_says() -> None:
    assert clean_detail(" cut\r\nat \x1b[31mbyte\ud800 7 ") == "cut at  [31mbyte  7"
