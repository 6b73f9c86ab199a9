"""What stands beside the media: how words are counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mmdata.emit.records import _WORD, text_tokens


@given(st.text(st.characters(max_codepoint=127)))
def test_words_of_plain_text_are_counted_as_those_of_any_other(text: str) -> None:
    assert text_tokens(text) == len(_WORD.findall(text))


def test_every_chinese_sign_is_a_word() -> None:
    assert text_tokens("two dogs\x1f\u4e24\u53ea\u72d7 run") == 6
