"""Stage language: in which language a caption is written, offline, by py3langid; scripts decide where they can.

py3langid knows 97 languages and is a naive Bayes classifier over byte n-grams (Lui and Baldwin 2012). On a few words it
guesses, so a language that only one script writes is taken from the script: kana are Japanese, hangul is Korean, and
Chinese characters alone are Chinese or Japanese, whichever of these two the classifier prefers by far.
"""

from __future__ import annotations

import copy
import functools
import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import annotated_types as at

from mmdata.options import operational, semantic
from mmdata.sample import Sample
from mmdata.shards.ledger import MODALITIES
from mmdata.stage import Resources
from mmdata.text.words import HAN, KANA

UNKNOWN = "und"  # ISO 639: undetermined
# Some that the model knows for certain; whether it knows another, it is asked.
_COMMON = (
    "ar bg bn ca cs da de el en es et fa fi fr he hi hr hu id is it ja ka ko lt lv mk ms nl no pl pt ro ru sk sl sq "
    "sr sv sw ta te th tl tr uk ur vi zh"
)
COMMON = frozenset(_COMMON.split())

_LETTERS = re.compile(r"[^\W\d_]")
_HAN = re.compile(f"[{HAN}]")
_KANA = re.compile(f"[{KANA}]")
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")
_SCRIPT_SHARE = (
    0.5  # of the letters; Latin names in a Chinese caption have more letters than the characters around them
)
_JAPANESE_KANJI_SHARE = 0.9  # probability from which Chinese characters without kana are taken for Japanese


@dataclass(kw_only=True)
class Language:
    """language: ISO 639-1 code, or `und` for a caption of fewer than min_letters letters or below min_confidence.

    language_confidence: in [0, 1], the classifier's probability of that language, 1 where the script decides, 0 for
    `und` without a guess; none where the source's own language was kept.
    """

    name: ClassVar[str] = "language"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset(MODALITIES)
    reads: ClassVar[frozenset[str]] = frozenset({"caption"})
    writes: ClassVar[frozenset[str]] = frozenset({"language", "language_confidence"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    overwrite: bool = semantic(False)  # false: a language that the source gives is kept
    languages: list[str] = semantic(factory=list)  # the only ones that may come out, besides `und`; all when empty
    min_letters: Annotated[int, at.Ge(1)] = semantic(4)  # of alphabets; two Chinese characters, kana or hangul do
    min_confidence: Annotated[float, at.Ge(0), at.Le(1)] = semantic(0.0)
    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    def __post_init__(self) -> None:
        # The model takes half a second to load, which every command would wait for that only checks the options.
        if set(self.languages) - COMMON:
            unknown = sorted(set(self.languages) - set(_identifier(()).labels))
            if unknown:
                raise ValueError(f"languages: found {', '.join(unknown)}, which py3langid does not know")

    def setup(self) -> None:
        self.identify("a picture of a street")

    def process(self, samples: list[Sample]) -> list[Sample]:
        for sample in samples:
            caption = sample.columns.get("caption")
            if not caption or (sample.columns.get("language") and not self.overwrite):
                continue
            sample.columns["language"], sample.columns["language_confidence"] = self.identify(caption)
        return samples

    def identify(self, text: str) -> tuple[str, float]:
        """(code, confidence) of a text; (`und`, confidence of the best guess) where that is too little."""
        num_letters = len(_LETTERS.findall(text))
        by_script = None if text.isascii() else self._by_script(text, num_letters)
        if by_script is not None:
            language, confidence = by_script
        elif num_letters < self.min_letters:
            return UNKNOWN, 0.0
        else:
            language, confidence = _identifier(tuple(self.languages)).classify(text)
        is_sure = confidence >= self.min_confidence and (not self.languages or language in self.languages)
        return language if is_sure else UNKNOWN, round(confidence, 4)

    def _by_script(self, text: str, num_letters: int) -> tuple[str, float] | None:
        num_han, num_kana, num_hangul = (len(script.findall(text)) for script in (_HAN, _KANA, _HANGUL))
        if num_han + num_kana + num_hangul < max(1, _SCRIPT_SHARE * num_letters):
            return None
        if num_hangul > num_han + num_kana:
            return "ko", 1.0
        if num_kana:
            return "ja", 1.0
        language, confidence = _identifier(("ja", "zh")).classify(text)
        if language == "ja" and (confidence < _JAPANESE_KANJI_SHARE or "ja" not in (self.languages or ["ja"])):
            return "zh", 1.0 - confidence
        return language, confidence


@functools.cache
def _identifier(languages: tuple[str, ...]) -> Any:
    """py3langid with probabilities, restricted to `languages` unless there are none; all share one model."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    if not languages:
        return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier = copy.copy(_identifier(()))
    identifier.set_languages(languages)
    return identifier
