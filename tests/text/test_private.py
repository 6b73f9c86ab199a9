"""Personal data in captions: every address is found, dates and sizes are not taken for phone numbers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.text.clean_text import CleanText
from mmdata.text.private import is_phone, replace

TOKENS = {"emails": "<E>", "links": "<L>", "handles": "<H>", "phones": "<P>"}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to joe.o'x+tag@ex-ample.co.uk, now", "write to <E>, now"),
        ("joe@[127.0.0.1] or bücher@bücher.example", "<E> or <E>"),
        ("joe [at] example [dot] com, ann (AT) example.com", "<E>, <E>"),
        ("邮箱joe@example.com。", "邮箱<E>。"),
        ("联系用户@例子.公司 谢谢", "<E> 谢谢"),
        ("见http://a.com/x?y=1&z=2图片", "见<L>图片"),
        ("(see https://en.wikipedia.org/wiki/A_(b)). End", "(see <L>). End"),
        ("www.x.com! or shop.example.de/cart?id=3, ok", "<L>! or <L>, ok"),
        ("photo.jpg and e.g. this, v1.2.3", "photo.jpg and e.g. this, v1.2.3"),
        ("by @joe_x and @a.b. 5 @ 3", "by <H> and <H>. 5 @ 3"),
        ("call +1 (555) 123-4567 or 555-123-4567", "call <P> or <P>"),
        ("电话13812345678，或 010-12345678", "电话<P>，或 <P>"),
        ("Tel: +49 30 901820, 020 7946 0958", "Tel: <P>, <P>"),
        ("tel. 0044 20 7946 0958", "tel. <P>"),
    ],
)
def test_personal_data_is_masked_and_the_sentence_stays(text: str, masked: str) -> None:
    assert replace(text, TOKENS) == masked  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "from 1990-2000", "on 2021-05-03", "03-05-2021", "1920 x 1080 px", "12345678", "1,234,567,890 people",
        "3.14159265358979", "ISBN 978-3-16-148410-0", "1 2 3 4 5 6", "10000000", "12:30:45 2020-01-01", "192.168.0.1",
        "part AB-1234567-X", "lot 4711 0815 2",
    ],
)  # fmt: skip
def test_numbers_that_are_no_phone_numbers_stay(text: str) -> None:
    assert replace(text, {"phones": "<P>"}) == text


def test_a_phone_number_has_a_country_code_or_a_national_form() -> None:
    assert is_phone("+86 138 1234 5678")
    assert is_phone("(555) 1234567") is False or is_phone("(555) 123-4567")
    assert not is_phone("1234567")
    assert not is_phone("20210503")


# RFC 5322 addresses as hypothesis makes them, and an independent reading of what is left.
PLAINLY_AN_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=8), st.emails()), min_size=1, max_size=3),
    st.sampled_from([" ", ", ", "。", "\n", "<", " ("]),
    st.sampled_from(["<email>", "", "EMAIL"]),
)
def test_masking_leaves_no_address(pieces: list[tuple[str, str]], between: str, token: str) -> None:
    text = "".join(f"{before}{between}{address}{between}" for before, address in pieces)
    masked = CleanText(mask={"emails": token}, max_chars=10_000).clean(text)
    assert PLAINLY_AN_ADDRESS.search(masked) is None
    assert not any(address in masked for _, address in pieces)
    assert replace(masked, {"emails": token}) == masked
