"""Words of a caption: by spaces and marks, and by jieba where Chinese is written without spaces.

jieba would print, keep a cache file in the temporary folder and load (`marshal`) whatever lies there under that name;
its dictionary is read here directly instead, on the first Chinese caption. Japanese kana come as runs of one script,
since jieba knows no Japanese; so do other scripts without spaces.
"""

from __future__ import annotations

import functools
import re
from typing import Any

HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\uff66-\uff9d"

_HAN = re.compile(f"[{HAN}]")
_KANA = re.compile(f"[{KANA}]")
_RUN = re.compile(rf"[{HAN}]+|[{KANA}]+|[^\W_{HAN}{KANA}]+(?:['\u2019\-][^\W_{HAN}{KANA}]+)*")


@functools.lru_cache(maxsize=64)
def words_of(text: str) -> tuple[str, ...]:
    """The words of `text` in order, as written, without marks; parts of "don't" and "well-known" stay together."""
    if text.isascii() or not _HAN.search(text):
        return tuple(_RUN.findall(text))
    words: list[str] = []
    for run in _RUN.findall(text):
        if _HAN.match(run):
            words += segmenter().cut(run)
        else:
            words.append(run)
    return tuple(words)


def has_han(text: str) -> bool:
    """True where Chinese characters (kanji too) occur."""
    return _HAN.search(text) is not None


def has_kana(text: str) -> bool:
    """True where hiragana or katakana occur: Japanese."""
    return _KANA.search(text) is not None


@functools.cache
def segmenter() -> Any:
    """jieba's tokenizer with its own dictionary, set up without a message and without a file."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in its source, and pkg_resources
        import jieba

    tokenizer = jieba.Tokenizer()
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer
