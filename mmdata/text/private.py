"""What names or reaches a person in a text: e-mail addresses, links, handles, phone numbers; found and replaced.

Every pattern starts where a run of its characters starts and has no two ways to read the same characters, so the time
is linear in the text whatever a stranger writes. What counts as a phone number is decided on its digits and groups:
years, dates, sizes and prices stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

Kind = Literal["emails", "links", "handles", "phones"]

# Chinese, Japanese and Korean stand next to an address without a space, so they end it.
_CJK = r"\u3000-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef"
_WORD = r"A-Za-z0-9_\u00aa-\u1fff"
_LOCAL = rf"{_WORD}.!#$%&'*+/=?^`{{|}}~\-"
_LABEL = rf"(?:[{_WORD}\-]+|[\u3041-\u30ff\u3400-\u9fff\uac00-\ud7af]+)"
_DOMAIN = rf"(?:\[[0-9A-Fa-f.:]+\]|{_LABEL}(?:\.{_LABEL})+)"
# Endings that hardly occur in prose or as a file's name; of other hosts only http://... and www. are seen.
_TLD = "com|net|org|edu|gov|info|io|co|ai|app|dev|cn|jp|de|fr|it|es|nl|eu|uk|us|ca|au|br|in|ru|kr|tv|me|ly|be|shop"

_EMAIL = re.compile(rf"(?:(?<![{_LOCAL}])[{_LOCAL}]+|(?<![{_CJK}])[{_CJK}]+)[@\uff20]{_DOMAIN}")
_SPELT_EMAIL = re.compile(
    rf"(?<![{_LOCAL}])[{_LOCAL}]+\s?[\[(]\s?at\s?[\])]\s?"
    rf"[{_WORD}\-]+(?:(?:\.|\s?[\[(]\s?dot\s?[\])]\s?)[{_WORD}\-]+)+",
    re.IGNORECASE,
)
_LINK = re.compile(
    rf"(?<![{_WORD}])(?:(?:https?|ftps?)://|www\.(?=\w))[^\s<>\"{_CJK}]+"
    rf"|(?<![{_WORD}.\-@])(?:[a-z0-9](?:[a-z0-9\-]*[a-z0-9])?\.)+(?:{_TLD})(?![{_WORD}\-]|\.\w)"
    rf"(?:[/?#:][^\s<>\"{_CJK}]*)?",
    re.IGNORECASE,
)
_MAY_BE_LINK = re.compile(r"[^\s.]\.[^\s.]|://")
_LINK_TAIL = ".,;:!?'*"  # belongs to the sentence, not to the link
_HANDLE = re.compile(rf"(?<![{_WORD}@.\-/])@[A-Za-z0-9_](?:[{_WORD}.\-]*[{_WORD}])?")
_PHONE = re.compile(
    rf"(?<![{_WORD}.,+\-/:])(?:\+|\(\+?)?\d(?:[ .\-()/\u00a0\u2010-\u2015]{{0,2}}\d){{6,16}}(?![{_WORD}\-]|[.,]\d)"
)
_GROUPS = re.compile(r"\d+")
_CHINESE_MOBILE = re.compile(r"1[3-9]\d{9}")


def replace(text: str, tokens: Mapping[Kind, str]) -> str:
    """`text` with every e-mail address, link, handle and phone number replaced by the token of its kind.

    tokens: by kind; kinds that are not named stay. An empty token removes.
    """
    for kind, (may_occur, find) in _FINDERS.items():
        if kind in tokens and may_occur(text):
            text = find(text, tokens[kind])
    return text


def _emails(text: str, token: str) -> str:
    text = _EMAIL.sub(lambda _: token, text)
    return _SPELT_EMAIL.sub(lambda _: token, text) if "(" in text or "[" in text else text


def _links(text: str, token: str) -> str:
    return _LINK.sub(lambda match: token + _tail(match[0]), text)


def _tail(link: str) -> str:
    """What at the end of a match is the sentence's: points, and brackets that the link does not open."""
    end = len(link)
    opened = {")": link.count("(") - link.count(")"), "]": link.count("[") - link.count("]")}
    while end and (link[end - 1] in _LINK_TAIL or opened.get(link[end - 1], 0) < 0):
        if link[end - 1] in opened:
            opened[link[end - 1]] += 1
        end -= 1
    return link[end:]


def _handles(text: str, token: str) -> str:
    return _HANDLE.sub(lambda _: token, text)


def _phones(text: str, token: str) -> str:
    return _PHONE.sub(lambda match: token if is_phone(match[0]) else match[0], text)


def is_phone(text: str) -> bool:
    """True for digits in groups that are written as phone numbers are: with a country code, or in a national form."""
    groups = _GROUPS.findall(text)
    digits = "".join(groups)
    if text.startswith(("+", "(+")) or digits.startswith("00"):
        return 8 <= len(digits) <= 17
    sizes = [len(group) for group in groups]
    is_north_american = sizes[-2:] == [3, 4] and (len(digits) == 10 or (len(digits) == 11 and digits[0] == "1"))
    if (is_north_american and len(groups) > 1) or (sizes == [10] and text.startswith("(")):
        return True
    if _CHINESE_MOBILE.fullmatch(digits) and sizes in ([11], [3, 4, 4]):
        return True
    return digits.startswith("0") and 9 <= len(digits) <= 12 and "/" not in text and len(groups) <= 5


def _has_digits(text: str) -> bool:
    return sum(map(text.count, "0123456789")) >= 7 or not text.isascii()


_FINDERS: dict[Kind, tuple[Callable[[str], bool], Callable[[str, str], str]]] = {
    "emails": (lambda text: "@" in text or "\uff20" in text or "(" in text or "[" in text, _emails),
    "links": (lambda text: _MAY_BE_LINK.search(text) is not None, _links),
    "handles": (lambda text: "@" in text, _handles),
    "phones": (_has_digits, _phones),
}
