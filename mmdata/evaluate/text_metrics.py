"""Metrics of texts against references, as small pure functions: BLEU, ROUGE-L, CIDEr-D, exact match, error rates.

Words are runs of letters and digits in small letters, Chinese and Japanese characters one by one: not PTB tokenised, so
CIDEr-D and ROUGE-L differ a little from those of pycocoevalcap, which needs Java for that.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

_APART = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # scripts written without spaces
_NGRAMS = 4
_SIGMA = 6.0

Vector = dict[tuple[str, ...], float]


def words(text: str) -> list[str]:
    """Words of a text, in small letters, without punctuation; the same however its accents are written."""
    small = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return _word().findall(small)


@functools.cache
def _word() -> re.Pattern[str]:
    """A letter or digit with what follows: Python's \\w lacks the vowel signs and accents that belong to letters."""
    marks = re.escape("".join(filter(lambda sign: unicodedata.category(sign)[0] == "M", map(chr, range(0xE01F0)))))
    run = rf"[^\W_{_APART}](?:[^\W_{_APART}]|[{marks}])*"
    return re.compile(rf"[{_APART}][{marks}]*|{run}(?:['\u2019]{run})*")


def bleu(answers: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU of a corpus by sacrebleu, small letters, 0 to 100; Chinese is cut into characters, all else by `13a`.

    0 where no answer has four words.
    """
    import sacrebleu

    if not answers:
        return 0.0
    most = max(len(of) for of in references)
    columns: Any = [[of[number] if number < len(of) else None for of in references] for number in range(most)]
    cut = "zh" if any(re.search(f"[{_APART}]", text) for of in references for text in of) else "13a"
    return float(sacrebleu.corpus_bleu(answers, columns, lowercase=True, tokenize=cut).score)


class _Words:
    """What rouge-score takes for a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """F1 of the longest common subsequence of words (rouge-score), with the nearest reference, 0 to 1."""
    from rouge_score.rouge_scorer import RougeScorer

    return float(RougeScorer(["rougeL"], tokenizer=_Words()).score_multi(references, answer)["rougeL"].fmeasure)


def cider_d(answers: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D of each answer, 0 to 10 (Vedantam, Zitnick, Parikh 2015, arXiv 1411.5726); papers print it times 10.

    Mean over n = 1..4 and references of clipped tf-idf cosines, times a Gaussian (sigma 6) of the difference in length,
    counted in bigrams as the authors' script does. An n-gram weighs log(items / items whose references have it), so
    with one item all scores are 0. A pair without n-grams of a length scores 0 there.
    """
    counted = [[_counts(text) for text in of] for of in references]
    frequency = Counter(ngram for of in counted for ngram in set().union(*of))
    log_items = math.log(max(1, len(references)))

    def weighted(counts: Counter[tuple[str, ...]]) -> list[Vector]:
        vectors: list[Vector] = [{} for _ in range(_NGRAMS)]
        for ngram, count in counts.items():
            vectors[len(ngram) - 1][ngram] = count * (log_items - math.log(max(1, frequency[ngram])))
        return vectors

    scores = []
    for answer, of in zip(answers, counted, strict=True):
        counts = _counts(answer)
        mine = weighted(counts)
        found = [_similarity(mine, weighted(right), _bigrams(counts) - _bigrams(right)) for right in of]
        scores.append(10 * float(np.mean(found)) if found else 0.0)
    return scores


def _counts(text: str) -> Counter[tuple[str, ...]]:
    found = words(text)
    return Counter(
        tuple(found[start : start + n]) for n in range(1, _NGRAMS + 1) for start in range(len(found) - n + 1)
    )


def _bigrams(counts: Counter[tuple[str, ...]]) -> int:
    return sum(count for ngram, count in counts.items() if len(ngram) == 2)


def _similarity(mine: list[Vector], right: list[Vector], longer: int) -> float:
    total = 0.0
    for a, b in zip(mine, right, strict=True):
        norm = math.sqrt(sum(x * x for x in a.values())) * math.sqrt(sum(x * x for x in b.values()))
        if norm:
            total += sum(min(x, b[ngram]) * b[ngram] for ngram, x in a.items() if ngram in b) / norm
    return total * math.exp(-(longer**2) / (2 * _SIGMA**2)) / _NGRAMS


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 where the answer has the same words as one of the references, else 0."""
    return float(any(words(answer) == words(text) for text in references))


def word_errors(answer: str, reference: str) -> tuple[int, int]:
    """Words to insert, delete or replace, and words of the reference: their sums over a corpus give its WER."""
    return edits(words(answer), words(reference)), len(words(reference))


def character_errors(answer: str, reference: str) -> tuple[int, int]:
    """The same in characters, without spaces and punctuation."""
    said, right = "".join(words(answer)), "".join(words(reference))
    return edits(said, right), len(right)


def edits(said: Sequence[str], right: Sequence[str]) -> int:
    """Levenshtein's distance of two sequences."""
    row = list(range(len(right) + 1))
    for number, a in enumerate(said, 1):
        above, row = row, [number]
        for place, b in enumerate(right):
            row.append(min(above[place + 1] + 1, row[place] + 1, above[place] + (a != b)))
    return row[-1]
