"""Stage caption_rules: captions that say nothing of their medium: file names, boilerplate, links, stop words only."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import annotated_types as at

from mmdata.errors import ConfigError, Reason
from mmdata.options import build, operational, semantic
from mmdata.sample import Sample
from mmdata.shards.ledger import MODALITIES
from mmdata.stage import Resources
from mmdata.text import private
from mmdata.text.boilerplate import is_empty_phrase, is_file_name
from mmdata.text.clean_text import WITH_CAPTIONS
from mmdata.text.stop_words import stop_words
from mmdata.text.words import words_of

Rule = Literal["too_short", "too_long", "file_name", "link_only", "boilerplate", "stop_words_only", "block_list"]

_EDGES = " \t\r\n.,;:!?-_*|/\\()[]{}<>\"'#~\u00b7\u2026\u3002\uff0c\uff01\uff1f\u3001\uff1a\uff1b"


@dataclass(kw_only=True)
class CaptionRules:
    """Every rule that a caption breaks, named in `detail` (drop, filtered.caption) or in caption_flags (flag).

    caption_flags: names with a blank between, in the order of the rules; empty where none is broken. Captions of words
    that a list (`path`) names, one word or phrase a line, break block_list; words must match whole, case does not
    matter. Rules are matched against the whole caption, without marks at its ends.
    """

    name: ClassVar[str] = "caption_rules"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset(MODALITIES)
    reads: ClassVar[frozenset[str]] = frozenset({"caption"})
    writes: ClassVar[frozenset[str]] = frozenset({"caption_flags"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    action: Literal["drop", "flag"] = semantic("drop")
    rules: list[Rule] = semantic(
        factory=lambda: [
            "too_short",
            "too_long",
            "file_name",
            "link_only",
            "boilerplate",
            "stop_words_only",
            "block_list",
        ]
    )
    min_chars: Annotated[int, at.Ge(0)] = semantic(3)  # two Chinese characters count as three of an alphabet
    max_chars: Annotated[int, at.Ge(1)] = semantic(2000)
    min_words: Annotated[int, at.Ge(0)] = semantic(1)
    max_words: Annotated[int, at.Ge(1)] = semantic(400)
    path: str = semantic("")  # the block list
    path_sha256: str = semantic("")  # of its bytes: found when the pipeline is read, refused where it is another
    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    _blocked: re.Pattern[str] | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def parse(cls, options: Mapping[str, Any], where: str) -> CaptionRules:
        """The stage from a pipeline file, with the hash of its list. Raises ConfigError where that cannot be read."""
        stage = build(cls, options, where)
        if not stage.path:
            return stage
        try:
            found = hashlib.sha256(Path(stage.path).read_bytes()).hexdigest()
        except OSError as error:
            raise ConfigError(f"{where}.path: {stage.path}: cannot be read: {error.strerror}") from None
        if stage.path_sha256 not in ("", found):
            raise ConfigError(f"{where}.path_sha256: found {found} of {stage.path}, allowed is {stage.path_sha256}")
        return dataclasses.replace(stage, path_sha256=found)

    def setup(self) -> None:
        if self.path:
            text = Path(self.path).read_text(encoding="utf-8-sig", errors="replace")
            self._blocked = block_pattern(text.splitlines())

    def process(self, samples: list[Sample]) -> list[Sample]:
        for sample in samples:
            caption = sample.columns.get("caption")
            if caption is None and sample.columns.get("modality", "image_text") not in WITH_CAPTIONS:
                continue
            broken = " ".join(self.broken(caption or "", sample.columns.get("language")))
            if self.action == "flag":
                sample.columns["caption_flags"] = broken
            elif broken:
                sample.end(Reason.CAPTION, broken)
        return samples

    def broken(self, caption: str, language: str | None = None) -> Iterator[Rule]:
        """The rules that a caption breaks, in the order of `rules`."""
        bare = caption.strip(_EDGES)
        for rule in self.rules:
            if _CHECKS[rule](self, caption, bare, language):
                yield rule

    def _is_short(self, caption: str, bare: str, language: str | None) -> bool:
        wide = sum(letter >= "\u2e80" for letter in bare) if not bare.isascii() else 0
        return len(bare) + wide // 2 < self.min_chars or len(words_of(caption)) < self.min_words

    def _is_long(self, caption: str, bare: str, language: str | None) -> bool:
        return len(caption) > self.max_chars or len(words_of(caption)) > self.max_words

    def _has_blocked(self, caption: str, bare: str, language: str | None) -> bool:
        return self._blocked is not None and self._blocked.search(caption.casefold()) is not None


def _is_link(stage: CaptionRules, caption: str, bare: str, language: str | None) -> bool:
    return "." in bare and not private.replace(caption, {"links": "", "emails": ""}).strip(_EDGES)


def _is_stop_words(stage: CaptionRules, caption: str, bare: str, language: str | None) -> bool:
    words = words_of(caption)
    stops = stop_words(language)
    return all(word.lower().replace("\u2019", "'") in stops for word in words) and bool(words)


_CHECKS: dict[Rule, Callable[[CaptionRules, str, str, str | None], bool]] = {
    "too_short": CaptionRules._is_short,
    "too_long": CaptionRules._is_long,
    "file_name": lambda stage, caption, bare, language: is_file_name(bare),
    "link_only": _is_link,
    "boilerplate": lambda stage, caption, bare, language: is_empty_phrase(bare),
    "stop_words_only": _is_stop_words,
    "block_list": CaptionRules._has_blocked,
}


def block_pattern(lines: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern for case-folded texts that finds the words and phrases of a list; `#` begins a comment line.

    Words of alphabets must stand alone; Chinese, Japanese and Korean ones may stand within others.
    """
    phrases = sorted({" ".join(line.casefold().split()) for line in lines if not line.lstrip().startswith("#")} - {""})
    if not phrases:
        return None
    alternatives = (re.escape(phrase).replace(r"\ ", r"\s+") for phrase in sorted(phrases, key=len, reverse=True))
    return re.compile("|".join(_whole(phrase) for phrase in alternatives))


def _whole(pattern: str) -> str:
    first, last = pattern[0], pattern[-1]
    before = r"(?<!\w)" if first < "\u2e80" else ""
    return f"{before}{pattern}" + (r"(?!\w)" if last < "\u2e80" else "")
