"""VQA accuracy as the official script counts it: answers normalised, then held against all references but one.

After Antol et al. 2015 (arXiv 1505.00468) and vqaEval.py. Both sides are always normalised, as VizWiz' version does;
the first version leaves references as they are where all ten agree, and then fails `Yes` against ten times `yes`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"none": "0", **{word: str(number) for number, word in enumerate(_NUMBERS)}}
_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
# Each with one of its apostrophes left out.
_REPAIRED = {
    full[:place] + full[place + 1 :]: full for full in _CONTRACTIONS.split() for place, c in enumerate(full) if c == "'"
}
_REPAIRED["somebody'd"] = "somebodyd"  # as the script has it
_FEW = 4  # references from which on leaving one out makes sense


def normalised(answer: str) -> str:
    """Small letters, without articles and punctuation, numbers up to ten as digits, contractions with apostrophes."""
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    numeric = _COMMA_IN_NUMBER.search(text) is not None
    cleaned = text
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if beside_space or numeric else " ")
    cleaned = _PERIOD.sub("", cleaned)
    found = (_DIGITS.get(word, word) for word in cleaned.lower().split())
    return " ".join(_REPAIRED.get(word, word) for word in found if word not in _ARTICLES)


def vqa_accuracy(answer: str, references: Sequence[str]) -> float:
    """Mean over references left out of min(1, how many of the others it equals / 3), 0 to 1.

    With fewer than four references, 1 where it equals one of them.
    """
    said, right = normalised(answer), [normalised(text) for text in references]
    if len(right) < _FEW:
        return float(said in right)
    equal = [text == said for text in right]
    return sum(min(1.0, (sum(equal) - own) / 3) for own in equal) / len(equal)
