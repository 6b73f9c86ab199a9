"""Stage text_stats: how long a caption is, and which shares of it are repeated, shouted, marks, digits, stop words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import annotated_types as at

from mmdata.options import operational, semantic
from mmdata.sample import Sample
from mmdata.shards.ledger import MODALITIES
from mmdata.stage import Resources
from mmdata.text.stop_words import stop_words
from mmdata.text.words import words_of

_ASCII_MARKS = b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_ASCII_DIGITS = b"0123456789"
_CAPITALS = re.compile(r"[A-Z][A-Z0-9'\-]|[0-9'\-][A-Z]")  # in every ASCII word of two and more that is in capitals


@dataclass(kw_only=True)
class TextStats:
    """Lengths and shares of the caption; selection decides on them. An empty caption has lengths and shares of 0.

    text_chars, text_words: counts; words of Chinese are jieba's. All shares are in [0, 1].
    text_repetition_share: of the words' characters, those in a run of `ngram_words` words that has occurred before,
    each character counted once (the duplicate n-gram share of Rae et al. 2021, "Gopher", table A1).
    text_caps_share: of the words of two and more characters whose letters have a case, those in capitals.
    text_punctuation_share, text_digit_share: of the characters, white space not counted. text_stop_share: of the words,
    in the list of the caption's language (of all lists where that is not known).
    """

    name: ClassVar[str] = "text_stats"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset(MODALITIES)
    reads: ClassVar[frozenset[str]] = frozenset({"caption"})
    writes: ClassVar[frozenset[str]] = frozenset(
        {
            "text_chars",
            "text_words",
            "text_repetition_share",
            "text_caps_share",
            "text_punctuation_share",
            "text_digit_share",
            "text_stop_share",
        }
    )
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    ngram_words: Annotated[int, at.Ge(1), at.Le(10)] = semantic(2)
    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    def setup(self) -> None: ...

    def process(self, samples: list[Sample]) -> list[Sample]:
        for sample in samples:
            caption = sample.columns.get("caption") or ""
            sample.columns |= self.measure(caption, sample.columns.get("language"))
        return samples

    def measure(self, text: str, language: str | None = None) -> dict[str, Any]:
        """The columns of one caption."""
        words = words_of(text)
        folded = " ".join(words).lower().replace("\u2019", "'").split(" ") if words else []
        dense = "".join(text.split())
        num_marks, num_digits = _marks_and_digits(dense)
        has_capitals = not text.isascii() or _CAPITALS.search(text) is not None
        return {
            "text_chars": len(text),
            "text_words": len(words),
            "text_repetition_share": repetition_share(folded, self.ngram_words),
            "text_caps_share": _caps_share(words) if has_capitals else 0.0,
            "text_punctuation_share": _share(num_marks, len(dense)),
            "text_digit_share": _share(num_digits, len(dense)),
            "text_stop_share": _share(sum(map(stop_words(language).__contains__, folded)), len(words)),
        }


def repetition_share(words: Sequence[str], size: int) -> float:
    """Share of the words' characters that lie in an n-gram of `size` words seen before."""
    num_words = len(words)
    if size > 1 and len(set(words)) == num_words:
        return 0.0
    grams = list(zip(*(words[offset:] for offset in range(size)), strict=False))
    if len(set(grams)) == len(grams):
        return 0.0
    seen: set[tuple[str, ...]] = set()
    repeated: set[int] = set()
    for start, gram in enumerate(grams):
        if gram in seen:
            repeated.update(range(start, start + size))
        seen.add(gram)
    return _share(sum(len(words[place]) for place in repeated), sum(map(len, words)))


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _caps_share(words: Sequence[str]) -> float:
    cased = [word for word in words if len(word) > 1 and word.lower() != word.upper()]
    return _share(sum(map(str.isupper, cased)), len(cased))


def _marks_and_digits(dense: str) -> tuple[int, int]:
    """Characters of the Unicode categories P (punctuation) and S (symbols), and digits."""
    if dense.isascii():
        data = dense.encode()
        return len(data) - len(data.translate(None, _ASCII_MARKS)), len(data) - len(data.translate(None, _ASCII_DIGITS))
    categories = [unicodedata.category(letter)[0] for letter in dense]
    return categories.count("P") + categories.count("S"), sum(map(str.isdigit, dense))
