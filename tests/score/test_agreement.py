"""Error rates are edits over what is written, after a normalisation that keeps words and drops how they are spelt."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.score.agreement import char_error_rate, edits, word_error_rate, words_of

WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=12)


def slow_edits(left: list[str], right: list[str]) -> int:
    """The textbook's table."""
    row = list(range(len(right) + 1))
    for i, one in enumerate(left, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(right, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (one != other))
    return row[-1]


@settings(max_examples=300, deadline=None)
@given(left=WORDS, right=WORDS)
def test_edits_are_those_of_the_textbook(left, right):
    assert edits(left, right) == slow_edits(left, right) == edits(right, left)


@pytest.mark.parametrize(
    ("written", "heard", "language", "word_rate", "char_rate"),
    [
        ("Hello, World!", "hello world", "en", 0, 0),
        ("I'm twenty-one years old.", "i am 21 years old", "en", 0, 0),
        ("seven", "7.", "en", 0, 0),
        ("seven", "7.", "de", 1, 1),
        ("rain falls on roofs", "rain fell roofs", "en", 0.5, None),
        ("one two three", "1 2 3.", "en", 0, 0),
        ("a b", "", "en", 1, 1),
        ("zero", "it is zero", "", 2, 1),
        ("Straße,  GROSS", "straße gross", "de", 0, 0),
        ("一 下 子", "一下子", "zh", 0, 0),
        ("一下子", "一子", "zh", 1 / 3, 1 / 3),
        ("ＡＢＣ①", "abc1", "zh", 0, 0),
        ("把 OK 说了", "把ok说 了。", "zh", 0, 0),
    ],
)
def test_rates_of_known_pairs(written, heard, language, word_rate, char_rate):
    left, right = words_of(written, language), words_of(heard, language)
    assert word_error_rate(left, right) == pytest.approx(word_rate)
    if char_rate is not None:
        assert char_error_rate(left, right) == pytest.approx(char_rate)


@pytest.mark.parametrize("text", ["", " ", "...", "?!", "\u3002\uff01"])
def test_punctuation_alone_is_no_word(text):
    assert words_of(text, "zh") == []
    with pytest.raises(ValueError, match="no words"):
        word_error_rate(words_of(text, "zh"), ["a"])


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60), language=st.sampled_from(["", "en", "zh"]))
def test_any_text_becomes_words_and_agrees_with_itself(text, language):
    words = words_of(text, language)
    assert all(word and not word.isspace() for word in words)
    assert edits(words, words) == 0
