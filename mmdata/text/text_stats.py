"""Stage text_stats: how long a caption is, and which shares of it are repeated, shouted, marks, digits, stop words."""

from __future__ import annotations

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

_ASCII_MARKS = str.maketrans("", "", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_ASCII_DIGITS = str.maketrans("", "", "0123456789")


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
        dense = "".join(text.split())
        return {
            "text_chars": len(text),
            "text_words": len(words),
            "text_repetition_share": repetition_share(words, self.ngram_words),
            "text_caps_share": _caps_share(words),
            "text_punctuation_share": _share(_num_marks(dense), len(dense)),
            "text_digit_share": _share(_num_digits(dense), len(dense)),
            "text_stop_share": _stop_share(words, stop_words(language)),
        }


def repetition_share(words: Sequence[str], size: int) -> float:
    """Share of the words' characters that lie in an n-gram of `size` words seen before, small and capital alike."""
    folded = [word.lower() for word in words]
    num_grams = len(folded) - size + 1
    if len(set(zip(*(folded[offset:] for offset in range(size)), strict=False))) >= num_grams:
        return 0.0
    seen: set[tuple[str, ...]] = set()
    repeated: set[int] = set()
    for start in range(num_grams):
        gram = tuple(folded[start : start + size])
        if gram in seen:
            repeated.update(range(start, start + size))
        seen.add(gram)
    return _share(sum(len(folded[place]) for place in repeated), sum(map(len, folded)))


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _caps_share(words: Sequence[str]) -> float:
    cased = [word for word in words if len(word) > 1 and word.lower() != word.upper()]
    return _share(sum(map(str.isupper, cased)), len(cased))


def _stop_share(words: Sequence[str], stops: frozenset[str]) -> float:
    return _share(sum(map(stops.__contains__, " ".join(words).lower().replace("\u2019", "'").split(" "))), len(words))


def _num_marks(dense: str) -> int:
    """Characters of the Unicode categories P (punctuation) and S (symbols)."""
    if dense.isascii():
        return len(dense) - len(dense.translate(_ASCII_MARKS))
    return sum(unicodedata.category(letter)[0] in "PS" for letter in dense)


def _num_digits(dense: str) -> int:
    if dense.isascii():
        return len(dense) - len(dense.translate(_ASCII_DIGITS))
    return sum(letter.isdigit() for letter in dense)
