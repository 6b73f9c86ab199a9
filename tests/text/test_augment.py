"""augment: drawn by the key alone, never empty, never the opposite."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings

from mmdata.errors import ConfigError
from mmdata.text.augment import TextAugmentation, augment, read_synonyms
from mmdata.text.words import words_of
from tests.text.captions import NASTY

CAPTION = "A little Girl is not climbing the stairs , in a house ."
SYNONYMS = {"girl": ("kid", "young lass"), "stairs": ("steps",)}


def test_the_key_alone_decides() -> None:
    options = TextAugmentation(synonyms=SYNONYMS, synonym_share=0.5, delete_share=0.3)
    made = [augment(CAPTION, f"a-000000000001-x{copy:02d}", options) for copy in range(20)]
    assert made == [augment(CAPTION, f"a-000000000001-x{copy:02d}", options) for copy in range(20)]
    assert len(set(made)) > 10


def test_nothing_asked_for_changes_nothing() -> None:
    assert augment(CAPTION, "k", TextAugmentation()) == CAPTION
    assert augment("一只小狗，在奔跑。", "k", TextAugmentation()) == "一只小狗，在奔跑。"


def test_every_synonym_comes_with_the_case_of_the_word() -> None:
    options = TextAugmentation(synonyms=SYNONYMS, synonym_share=1.0)
    found = Counter(augment(CAPTION, f"k{copy}", options) for copy in range(200))
    assert found.keys() == {
        "A little Kid is not climbing the steps , in a house .",
        "A little Young lass is not climbing the steps , in a house .",
    }
    assert min(found.values()) > 60


def test_words_are_left_out_at_their_share_but_no_negation() -> None:
    options = TextAugmentation(delete_share=0.5)
    made = [augment(CAPTION, f"k{copy}", options) for copy in range(300)]
    assert all("not" in words_of(text) for text in made)
    assert 0.45 < 1 - sum(len(words_of(text)) - 1 for text in made) / 300 / 10 < 0.55


def test_one_word_always_stays() -> None:
    assert augment("dog", "k", TextAugmentation(delete_share=1.0)) == "dog"
    assert augment("black dog", "k", TextAugmentation(delete_share=1.0)) == "dog"


def test_chinese_words_are_exchanged_whole() -> None:
    options = TextAugmentation(synonyms={"小狗": ("幼犬",)}, synonym_share=1.0)
    assert augment("一只小狗在草地上奔跑。", "k", options) == "一只幼犬在草地上奔跑。"


def test_a_table_of_synonyms_is_read_from_lines_or_json(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("Dog\tpup\thound\n\ndog\tcanine\n")
    (tmp_path / "a.json").write_text('{"dog": ["pup", "hound", "canine"]}')
    table = {"dog": ("pup", "hound", "canine")}
    assert read_synonyms(tmp_path / "a.tsv") == read_synonyms(tmp_path / "a.json") == table
    (tmp_path / "b.tsv").write_text("dog\tpup\ncat\n")
    with pytest.raises(ConfigError, match=r"b\.tsv: entry 2: found 'cat' with \[\]"):
        read_synonyms(tmp_path / "b.tsv")
    with pytest.raises(ConfigError, match="cannot be read as a table of synonyms"):
        read_synonyms(tmp_path / "absent.tsv")


@settings(max_examples=100, deadline=None)
@given(NASTY)
def test_any_text_keeps_a_word_and_its_words_come_from_it(text: str) -> None:
    made = augment(text, text, TextAugmentation(delete_share=0.9))
    before, after = words_of(text), words_of(made)
    assert bool(before) == bool(after)
    assert len(after) <= len(before) or any(ord(letter) > 0x2E80 for letter in text)
