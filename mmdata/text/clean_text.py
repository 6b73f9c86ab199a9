"""Stage clean_text: captions as text, without mojibake, markup, control characters or, if wanted, personal data.

Cleaning is repeated until it changes nothing more ("&amp;lt;b&amp;gt;" is three layers), so it is idempotent by
construction; most captions are printable ASCII, on which only white space and masks can change anything.
"""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import annotated_types as at

from mmdata.errors import Reason, SampleError
from mmdata.options import operational, semantic
from mmdata.sample import Sample
from mmdata.shards.ledger import MODALITIES
from mmdata.stage import Resources, one_by_one
from mmdata.text import private

WITH_CAPTIONS = frozenset({"image_text", "video_text", "audio_text"})  # where no caption is the same as an empty one
MAX_PASSES = 24

# Printable ASCII without & and <: no repair, no entity, no tag can be in it.
_PLAIN = re.compile(r"[ -%'-;=-~]*")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_DEEP_AMPERSAND = re.compile(r"&(?:(?:amp|AMP|#0{0,4}38|#[xX]0{0,4}26);)+")
_INLINE = "a|abbr|acronym|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|ins|kbd|mark|nobr|q|s|samp|small|span|strike"
_INLINE += "|strong|sub|sup|time|tt|u|var|wbr"
_BLOCK = "address|article|aside|audio|blockquote|body|br|button|canvas|caption|center|col|colgroup|dd|details|div|dl|dt"
_BLOCK += "|embed|fieldset|figcaption|figure|footer|form|frame|h[1-6]|head|header|hr|html|iframe|img|input|label|legend"
_BLOCK += "|li|link|main|map|meta|nav|noscript|object|ol|option|p|param|picture|pre|script|section|select|source|style"
_BLOCK += "|summary|svg|table|tbody|td|textarea|tfoot|th|thead|title|tr|track|ul|video"
_ATTRIBUTES = r"""(?:[\s/](?:[^<>"']|"[^"<]*"|'[^'<]*'|["'](?=[^"'<>]*>))*)?"""
_TAG = (
    r"(?:(?P<gap><!--(?:(?!-->|<!--)[\s\S])*-->|<!doctype[^<>]*>|<\?xml[^<>]*>|<!\[CDATA\[|\]\]>"
    r"|<(?P<code>script|style)\b[^<>]*>(?:(?!</?(?P=code))[\s\S])*</(?P=code)\s*>"
    rf"|</?(?:{_BLOCK}){_ATTRIBUTES}>)|</?(?:{_INLINE}){_ATTRIBUTES}>)"
)
# Control and format characters, but not joiners (emoji, Persian, Indic) and not the tags that make a flag of regions.
_CONTROL = re.compile(
    "(\U0001f3f4[\U000e0020-\U000e007f]{2,7})|"
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)


@dataclass(kw_only=True)
class CleanText:
    """caption: cleaned. caption_original: as it came, with keep_original. Empty afterwards: filtered.caption.

    Masks look like `mask: {emails: "<email>", phones: "<phone>", links: "", handles: "@user"}`; "" removes.
    """

    name: ClassVar[str] = "clean_text"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset(MODALITIES)
    reads: ClassVar[frozenset[str]] = frozenset({"caption"})
    writes: ClassVar[frozenset[str]] = frozenset({"caption", "caption_original"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    repair: bool = semantic(True)  # ftfy: mojibake, C1 controls, ligatures, lone surrogates
    straight_quotes: bool = semantic(False)  # ftfy: curly quotes to ' and "
    fold_width: bool = semantic(False)  # ftfy: full-width letters and marks to plain ones; Chinese commas too
    unicode_form: Literal["nfc", "nfkc", "no"] = semantic("nfc")
    strip_html: bool = semantic(True)  # entities to characters, then HTML's own tags away; "a <3 b" and <email> stay
    keep_lines: bool = semantic(False)  # line breaks stay; runs of them become one
    lower_case: bool = semantic(False)
    mask: dict[private.Kind, str] = semantic(factory=dict)
    keep_original: bool = semantic(False)
    empty: Literal["drop", "keep"] = semantic("drop")
    # Longer ones are dropped before any work, so that one page pasted as a caption does not take a decoder's time.
    max_chars: Annotated[int, at.Ge(1)] = semantic(100_000)
    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    def __post_init__(self) -> None:
        for kind, token in self.mask.items():
            if (cleaned := self.clean(token)) != token:
                raise ValueError(f"mask.{kind}: found {token!r}, which cleaning itself would turn into {cleaned!r}")

    def setup(self) -> None:
        self.clean("caf\xc3\xa9")  # loads ftfy and its tables

    def process(self, samples: list[Sample]) -> list[Sample]:
        return one_by_one(samples, self._process_one)

    def _process_one(self, sample: Sample) -> None:
        given = sample.columns.get("caption")
        if given is None and sample.columns.get("modality", "image_text") not in WITH_CAPTIONS:
            return
        given = given or ""
        if len(given) > self.max_chars:
            sample.columns["caption"] = None
            raise SampleError(Reason.CAPTION, f"{len(given)} characters, allowed {self.max_chars}")
        cleaned = self.clean(given)
        if self.keep_original:
            sample.columns["caption_original"] = _SURROGATES.sub("\ufffd", given)
        sample.columns["caption"] = cleaned
        if not cleaned and self.empty == "drop":
            raise SampleError(Reason.CAPTION, "empty after cleaning" if given else "empty")

    def clean(self, text: str) -> str:
        """The cleaned text; cleaning it again gives the same. Raises SampleError where it would go on for ever."""
        text = self._spaced(text)
        for _ in range(MAX_PASSES):
            changed = self._changed(text)
            if changed == text:
                return text
            text = self._spaced(changed)
        raise SampleError(Reason.CAPTION, f"cleaning has not settled after {MAX_PASSES} passes")

    def _changed(self, text: str) -> str:
        """One pass of all that can change more than white space."""
        if not _PLAIN.fullmatch(text):
            if self.repair:
                text = _fixed(text, self.straight_quotes, self.fold_width)
            if _SURROGATES.search(text):
                text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            text = _CONTROL.sub(r"\1", text)
            if self.strip_html:
                text = _without_html(text, tuple(self.mask.values()))
        if self.lower_case:
            text = text.lower()
        if self.unicode_form != "no" and not text.isascii():
            text = unicodedata.normalize("NFC" if self.unicode_form == "nfc" else "NFKC", text)
        return private.replace(text, self.mask) if self.mask else text

    def _spaced(self, text: str) -> str:
        """One blank for each run of white space (or one line break, with keep_lines), none at the ends."""
        if self.keep_lines and "\n" in text:
            lines = (" ".join(line.split()) for line in text.splitlines())
            return "\n".join(line for line in lines if line)
        return " ".join(text.split())


def _fixed(text: str, straight_quotes: bool, fold_width: bool) -> str:
    """`text` through ftfy (R. Speer), which leaves entities, line breaks and composition to the stage."""
    import ftfy

    return ftfy.fix_text(text, _config(straight_quotes, fold_width))


@functools.cache
def _config(straight_quotes: bool, fold_width: bool) -> Any:
    import ftfy

    return ftfy.TextFixerConfig(
        unescape_html=False,
        uncurl_quotes=straight_quotes,
        fix_character_width=fold_width,
        fix_line_breaks=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )


def _without_html(text: str, tokens: tuple[str, ...]) -> str:
    """Entities that end in a semicolon as characters (all layers of &amp;), HTML's own tags away, but not `tokens`."""
    if "&" in text:
        text = _ENTITY.sub(lambda match: html.unescape(match[0]), _DEEP_AMPERSAND.sub("&", text))
    if "<" in text:
        text = _tags(tokens).sub(lambda match: " " if match["gap"] else "", text)
    return text


@functools.cache
def _tags(tokens: tuple[str, ...]) -> re.Pattern[str]:
    kept = "|".join(re.escape(token) for token in tokens if token.startswith("<"))
    return re.compile(f"(?!{kept}){_TAG}" if kept else _TAG, re.IGNORECASE)
