"""Other wordings of a caption for marked copies: synonyms from a user's table, and words left out.

Pure functions of caption, key and options: the same copy comes out on every machine. Nothing is learned and no meaning
is understood; a table is as good as the user who wrote it.
"""

from __future__ import annotations

import hashlib
import random
import re

from mmdata.augment import CaptionAugment
from mmdata.text.words import words_of

# Without these a sentence says the opposite, or something else.
_NEVER_LEFT_OUT = frozenset({"no", "not", "never", "without", "nor", "none", "不", "没", "没有", "无", "别"})


def augment(caption: str, key: str, options: CaptionAugment) -> str:
    """The caption with words exchanged and left out, drawn by `key`; marks and the order of words stay.

    A replaced word keeps the case of its first letter. Chinese words are jieba's.
    """
    draw = random.Random(int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big"))
    pieces = _pieces(caption)
    num_left = sum(is_word for _, is_word in pieces)
    varied: list[str] = []
    for piece, is_word in pieces:
        if not is_word:
            varied.append(piece)
            continue
        # Both are drawn for every word, so that one option does not change what another one does.
        exchange, leave_out, choice = draw.random(), draw.random(), draw.random()
        others = options.synonyms.get(piece.lower(), ())
        if others and exchange < options.synonym_share:
            varied.append(_cased(others[int(choice * len(others))], piece))
        elif leave_out < options.delete_share and num_left > 1 and not _is_kept(piece):
            num_left -= 1
            varied.append("")
        else:
            varied.append(piece)
    text = re.sub(r"\s+([,.;:!?\u3001\u3002\uff0c])", _mark(caption), "".join(varied))
    return " ".join(text.split())


def _pieces(caption: str) -> list[tuple[str, bool]]:
    """The caption cut into words (True) and what stands between them (False); joined they are the caption."""
    pieces, place = [], 0
    for word in words_of(caption):
        start = caption.index(word, place)
        pieces += [(caption[place:start], False), (word, True)]
        place = start + len(word)
    return [*pieces, (caption[place:], False)]


def _cased(other: str, word: str) -> str:
    return other[:1].upper() + other[1:] if word[:1].isupper() else other


def _is_kept(word: str) -> bool:
    folded = word.lower().replace("\u2019", "'")
    return folded in _NEVER_LEFT_OUT or folded.endswith("n't")


def _mark(caption: str) -> str:
    """How a mark follows a word: with the blank that some captions (Flickr's) have before it, or without."""
    return r" \1" if re.search(r"\w\s[,.;:!?]", caption) else r"\1"
