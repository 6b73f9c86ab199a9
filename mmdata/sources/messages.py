"""Messages: the text of a document or a dialogue with a place for each of its media, in order.

    [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}, ...]

The n-th place of all is the n-th medium of the document. A document of interleaved text and images is one message of
the assistant, so that a trainer that learns what assistants say learns all of its text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from mmdata.sample import RAW

MEDIA_REASONS = "media_reasons"  # a column of documents: why each medium is not there, "ok" for one that is
MEDIA_TYPES = ("image", "video", "audio")
Messages = list[dict[str, Any]]


def raw_part(place: int) -> str:
    """Name of the part with the bytes, as they came, of the medium at a place."""
    return f"{RAW}.{place:03d}"


def text_piece(text: str) -> dict[str, str]:
    """A piece of text."""
    return {"type": "text", "text": text}


def pieces(messages: Messages) -> Iterator[dict[str, Any]]:
    """All pieces in order."""
    for message in messages:
        yield from message["content"]


def places(messages: Messages) -> list[str]:
    """The type of every medium that has a place, in order."""
    return [piece["type"] for piece in pieces(messages) if piece["type"] in MEDIA_TYPES]


def texts(messages: Messages) -> list[str]:
    """Every piece of text, in order."""
    return [piece["text"] for piece in pieces(messages) if piece["type"] == "text"]


def has_text(messages: Messages) -> bool:
    """True where there is more than white space."""
    return any(text.strip() for text in texts(messages))


def without_places(messages: Messages, lost: Collection[int]) -> Messages:
    """The messages without the places of these numbers; one that has nothing else is gone."""
    number = 0
    result = []
    for message in messages:
        content = []
        for piece in message["content"]:
            if piece["type"] in MEDIA_TYPES:
                number += 1
                if number - 1 in lost:
                    continue
            content.append(piece)
        if content:
            result.append({**message, "content": content})
    return result
