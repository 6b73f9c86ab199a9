"""Words: by spaces and marks, by jieba in Chinese, and no file or message of jieba's anywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings

from mmdata.text.stop_words import ALL, STOP_WORDS, stop_words
from mmdata.text.words import words_of
from tests.text.captions import NASTY


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog's well-known trick , isn't it?", ["A", "dog's", "well-known", "trick", "isn't", "it"]),
        ("snake_case 3D 1.5", ["snake", "case", "3D", "1", "5"]),
        ("一只棕色的小狗在草地上奔跑", ["一只", "棕色", "的", "小狗", "在", "草地", "上", "奔跑"]),
        ("我的iPhone手机。", ["我", "的", "iPhone", "手机"]),
        ("", []),
        ("...!", []),
    ],
)
def test_words_are_cut_at_spaces_marks_and_by_jieba(text: str, words: list[str]) -> None:
    assert list(words_of(text)) == words


@settings(max_examples=100, deadline=None)
@given(NASTY)
def test_words_stand_in_the_text_in_their_order(text: str) -> None:
    place = 0
    for word in words_of(text):
        place = text.index(word, place) + len(word)
        assert word


def test_jieba_writes_no_file_reads_no_cache_and_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "jieba.cache").write_bytes(b"what anyone may put there")
    code = "from mmdata.text.words import words_of; assert words_of('小狗在草地上')[0] == '小狗'"
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning:mmdata", "-c", code],
        env={"TMPDIR": str(tmp_path), "PATH": ""},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["jieba.cache"]


def test_stop_words_are_those_of_the_language_or_of_all() -> None:
    assert "the" in stop_words("en")
    assert "the" not in stop_words("zh")
    assert stop_words("en-GB") is stop_words("en")
    assert stop_words("xx") is stop_words(None) is ALL
    assert all(word == word.lower() and len(words_of(word)) <= 2 for words in STOP_WORDS.values() for word in words)


@pytest.mark.parametrize("word", ["face", "fire", "front", "computer", "man", "人", "小狗"])
def test_what_can_be_seen_is_no_stop_word(word: str) -> None:
    assert word not in ALL
