"""augment: drawn by the key alone, never empty, never the opposite."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings

from mmdata.augment import CaptionAugment
from mmdata.text.augment import augment
from mmdata.text.words import words_of
from tests.text.captions import NASTY

CAPTION = "A little Girl is not climbing the stairs , in a house ."
SYNONYMS = {"girl": ["kid", "young lass"], "stairs": ["steps"]}


def test_the_key_alone_decides() -> None:
    options = CaptionAugment(synonyms=SYNONYMS, synonym_share=0.5, delete_share=0.3)
    made = [augment(CAPTION, f"a-000000000001-x{copy:02d}", options) for copy in range(20)]
    assert made == [augment(CAPTION, f"a-000000000001-x{copy:02d}", options) for copy in range(20)]
    assert len(set(made)) > 10


def test_nothing_asked_for_changes_nothing() -> None:
    assert augment(CAPTION, "k", CaptionAugment()) == CAPTION
    assert augment("一只小狗，在奔跑。", "k", CaptionAugment()) == "一只小狗，在奔跑。"


def test_every_synonym_comes_with_the_case_of_the_word() -> None:
    options = CaptionAugment(synonyms=SYNONYMS, synonym_share=1.0)
    found = Counter(augment(CAPTION, f"k{copy}", options) for copy in range(200))
    assert found.keys() == {
        "A little Kid is not climbing the steps , in a house .",
        "A little Young lass is not climbing the steps , in a house .",
    }
    assert min(found.values()) > 60


def test_words_are_left_out_at_their_share_but_no_negation() -> None:
    options = CaptionAugment(delete_share=0.5)
    made = [augment(CAPTION, f"k{copy}", options) for copy in range(300)]
    assert all("not" in words_of(text) for text in made)
    assert 0.45 < 1 - sum(len(words_of(text)) - 1 for text in made) / 300 / 10 < 0.55


def test_one_word_always_stays() -> None:
    assert augment("dog", "k", CaptionAugment(delete_share=1.0)) == "dog"
    assert augment("black dog", "k", CaptionAugment(delete_share=1.0)) == "dog"


def test_chinese_words_are_exchanged_whole() -> None:
    options = CaptionAugment(synonyms={"小狗": ["幼犬"]}, synonym_share=1.0)
    assert augment("一只小狗在草地上奔跑。", "k", options) == "一只幼犬在草地上奔跑。"


@settings(max_examples=100, deadline=None)
@given(NASTY)
def test_any_text_keeps_a_word_and_its_words_come_from_it(text: str) -> None:
    made = augment(text, text, CaptionAugment(delete_share=0.9))
    before, after = words_of(text), words_of(made)
    assert bool(before) == bool(after)
    assert len(after) <= len(before) or any(ord(letter) > 0x2E80 for letter in text)
