"""text_stats: each number worked by hand, and shares that are shares whatever the text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from mmdata.shards.ledger import ANNOTATIONS
from mmdata.text.text_stats import TextStats, repetition_share
from tests.text.captions import NASTY, through


def test_a_caption_has_the_numbers_worked_by_hand() -> None:
    columns = through(TextStats(), "THE DOG and the dog run, 12!", language="en").columns
    assert columns["text_chars"] == 28
    assert columns["text_words"] == 7
    assert columns["text_repetition_share"] == pytest.approx(6 / 20, abs=1e-4)  # "the dog" again: 6 of 20 characters
    assert columns["text_caps_share"] == pytest.approx(2 / 6, abs=1e-4)  # THE, DOG; 12 has no case
    assert columns["text_punctuation_share"] == pytest.approx(2 / 22, abs=1e-4)
    assert columns["text_digit_share"] == pytest.approx(2 / 22, abs=1e-4)
    assert columns["text_stop_share"] == pytest.approx(3 / 7, abs=1e-4)


def test_chinese_words_and_stop_words_are_counted() -> None:
    columns = through(TextStats(), "一只小狗在草地上，奔跑。", language="zh").columns
    assert columns["text_words"] == 6  # 一只 小狗 在 草地 上 奔跑
    assert columns["text_stop_share"] == pytest.approx(2 / 6, abs=1e-4)  # 在 上
    assert columns["text_punctuation_share"] == pytest.approx(2 / 12, abs=1e-4)


@pytest.mark.parametrize(
    ("words", "size", "share"),
    [
        ("a b c d", 2, 0),
        ("cat cat cat cat", 1, 3 / 4),
        ("cat cat cat cat", 2, 3 / 4),  # the second to the fourth word end a pair that has been
        ("big dog big dog", 2, 1 / 2),
        ("big dog a big dog", 2, 6 / 13),
        ("x y z x y z", 3, 1 / 2),
        ("x y", 3, 0),
        ("", 1, 0),
    ],
)
def test_repetition_is_the_share_of_characters_in_runs_seen_before(words: str, size: int, share: float) -> None:
    assert repetition_share(words.split(), size) == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize("caption", [None, "", "   "])
def test_an_empty_caption_has_numbers_of_nought(caption: str | None) -> None:
    columns = through(TextStats(), caption).columns
    assert [columns[name] for name in sorted(TextStats.writes) if name != "text_chars"] == [0] * 6


@settings(max_examples=100, deadline=None)
@given(NASTY)
def test_shares_of_any_text_are_between_nought_and_one(text: str) -> None:
    columns = TextStats(ngram_words=1).measure(text)
    assert columns.keys() == TextStats.writes <= ANNOTATIONS.keys()
    assert all(0 <= value <= 1 for name, value in columns.items() if name.endswith("_share"))
    assert columns["text_chars"] == len(text)
