"""Patterns of captions that describe nothing: names of files, and what sites and programs write where nobody did.

Each is matched against a whole caption, without the marks at its ends. They are many small patterns, one a line, so
that one can be read, doubted and tested by itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_EXTENSION = "jpe?g|png|gif|webp|bmp|tiff?|heic|svg|psd|raw|cr2|nef|pdf|mp[34]|m4[av]|mov|avi|mkv|webm|wav|flac|ogg|txt"
_MEDIUM = "image|picture|photo(?:graph)?|pic|thumbnail|logo|icon|banner|avatar|video|clip|audio|graphic|illustration"
_CAMERA = "img|image|dscn?|dscf|pict?|p|pxl|mvi|vid|gopr|dji|sam|scan|screenshot|photo|untitled"

_FILE_NAMES = (
    rf"[^\s/]+(?: [^\s/]+){{0,3}}\.(?:{_EXTENSION})",
    rf"(?:{_CAMERA})[ _\-]?[\d _\-.()]{{3,}}",  # IMG_1234, DSC01234, PXL_20210101_123456789
    r"(?:whatsapp (?:image|video|audio)|screen ?shot|snapchat|fb_img|received)[ _\-]?[\d _\-.:()at]*(?:[ap]m)?",
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    r"(?=[a-z]*\d)(?=\d*[a-z])[0-9a-f]{16,}",
    r"[\d _\-.()]{5,}",
)
_EMPTY_PHRASES = (
    # Guesses of sites: "Image may contain: one person, outdoor".
    rf"(?:this |the )?(?:{_MEDIUM})s? (?:may|might|could) (?:also )?(?:contain|be|include|show).*",
    # Absences.
    rf"no (?:automatic )?(?:alt(?:ernative)?[ \-]?text|description|caption|title|{_MEDIUM})"
    r"(?: (?:available|provided|found|yet))*",
    rf"(?:(?:an?|the|this|my) )?(?:{_MEDIUM})s?"
    r"(?: (?:not (?:available|found)|unavailable|coming soon|loading|removed|placeholder|\d+))?",
    r"untitled(?: (?:document|design|\d+))?",
    r"placeholder|default|null|none|nan|n/?a|undefined|unknown|test|alt(?: ?text)?|caption|title|description|share",
    r"lorem ipsum.*|advert(?:isement)?|loading|featured (?:image|post)|profile (?:picture|photo)",
    # Buttons.
    r"(?:click|tap|hover)(?: (?:here|on|over|to|the|this|image|picture|photo))*"
    r"(?: (?:enlarge|zoom|expand|view|download|see|play)(?: .{0,30})?)?",
    r"(?:read|see|view|learn|show|load) (?:more|all|details|larger|full (?:size|image)).{0,20}",
    # Shops and credits.
    r"(?:stock|royalty[ \-]free) (?:image|photo|picture|vector|illustration|footage)s?",
    r"(?:(?:image|photo|picture) )?(?:credit|source)s?(?:: ?.{0,30})?",
    # Chinese.
    r"图片|图像|照片|图|无标题|加载中|暂无(?:图片|描述|说明)?|图片来源.{0,20}",
    r"点击(?:查看|放大|下载)(?:大图|图片|原图)?",
)


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE | re.DOTALL)


_FILE_NAME = _any_of(_FILE_NAMES)
_EMPTY_PHRASE = _any_of(_EMPTY_PHRASES)
_FILE_NAME_CHARS = 200


def is_file_name(bare: str) -> bool:
    """True for a name with a medium's extension, a camera's or messenger's name, a UUID, a hash, digits only."""
    return len(bare) <= _FILE_NAME_CHARS and _FILE_NAME.fullmatch(bare) is not None


def is_empty_phrase(bare: str) -> bool:
    """True for "Image may contain: ...", "No description available", "click to enlarge", "photo credit: ..."."""
    return _EMPTY_PHRASE.fullmatch(bare) is not None
