"""How far a recognised text is from the written one: word and character error rates after normalisation.

Normalisation. English (language `en`): that of Whisper's authors (Radford et al. 2022, appendix C) as transformers has
it: lower case, numbers as figures, contractions written out, fillers and what stands in brackets left out. Other
languages: NFKC, lower case, punctuation and symbols to blanks. Each Chinese character and kana is a word everywhere, so
is each figure, since of "one two three" the normaliser makes 123, and of 1 2 3 "one 2 3".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

_ALONE = re.compile("([0-9\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")
_ONE = re.compile(r"\bone\b")
_MAX_CHARS = 20_000  # the work grows with the square


def words_of(text: str, language: str) -> list[str]:
    """The words of a text that are compared; language: an ISO 639-1 code, or empty where it is not known."""
    text = unicodedata.normalize("NFKC", text[:_MAX_CHARS])
    text = _ONE.sub("1", _english()(text)) if language.lower().startswith("en") else _plain(text)
    found = _ALONE.sub(r" \1 ", text).split()
    return [word for word in found if any(character.isalnum() for character in word)]


def word_error_rate(written: Sequence[str], recognised: Sequence[str]) -> float:
    """Words to replace, insert and delete over those written; may pass 1. Raises ValueError where none are written."""
    if not written:
        raise ValueError("no words written")
    return edits(written, recognised) / len(written)


def char_error_rate(written: Sequence[str], recognised: Sequence[str]) -> float:
    """The same in characters; blanks do not count."""
    return word_error_rate("".join(written), "".join(recognised))


def edits(left: Sequence[str], right: Sequence[str]) -> int:
    """Levenshtein distance: the fewest replacements, insertions and deletions that make one of the other."""
    codes: dict[str, int] = {}
    left_L, right_R = (np.array([codes.setdefault(item, len(codes)) for item in items]) for items in (left, right))
    steps_R = np.arange(len(right) + 1)
    row_R = steps_R.copy()
    for index, code in enumerate(left_L, 1):
        best_R = np.minimum(row_R[1:] + 1, row_R[:-1] + (right_R != code))
        # Insertions run along the row: each place is the least of all before it and the steps from there.
        row_R = np.minimum.accumulate(np.concatenate([[index], best_R]) - steps_R) + steps_R
    return int(row_R[-1])


def _plain(text: str) -> str:
    kept = [" " if unicodedata.category(character)[0] in "PSZC" else character for character in text.lower()]
    return "".join(kept)


@cache
def _english() -> Any:
    from transformers.models.whisper import english_normalizer

    make: Any = english_normalizer.EnglishTextNormalizer
    return make({})  # British and American spellings stay apart
