"""Conversations: those that documents bring in their ledger, and the one that media with a caption make."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mmdata.errors import ShardError

CONTENT = pa.struct([("type", pa.string()), ("text", pa.string())])
ARROW = pa.list_(pa.struct([("role", pa.string()), ("content", pa.list_(CONTENT))]))
Messages = list[dict[str, Any]]


def parse(text: str | None, key: str) -> Messages:
    """The messages of a ledger: [{role, content: [{type, text}, ...]}, ...]; text is None in pieces that are no text.

    The n-th piece of type image, video or audio stands for the n-th medium of that kind. Other fields are left out, so
    that all samples have one schema. Raises ShardError naming the sample where the column holds something else.
    """
    if not text:
        return []
    try:
        return [{"role": str(each["role"]), "content": _content(each["content"])} for each in json.loads(text)]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ShardError(f"{key}: its column messages holds no messages: {type(error).__name__}: {error}") from None


def _content(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [
        {"type": str(piece["type"]), "text": str(piece["text"]) if piece["type"] == "text" else None}
        for piece in content
    ]


def about(said: str, caption: str) -> Messages:
    """A captioned medium as a conversation: the medium (`said`: image, video, audio) is given, the caption follows."""
    return [
        {"role": "user", "content": [{"type": said, "text": None}]},
        {"role": "assistant", "content": [{"type": "text", "text": caption}]},
    ]


def about_all(said: str, captions: Sequence[str]) -> pa.Array:
    """`about` for many captions as a column of ARROW, without an object for every piece."""
    number = len(captions)
    pieces = [
        pa.array([said, "text"] * number, pa.string()),
        pa.array([text for caption in captions for text in (None, caption)], pa.string()),
    ]
    one_each = pa.array(np.arange(2 * number + 1, dtype=np.int32))
    content = pa.ListArray.from_arrays(one_each, pa.StructArray.from_arrays(pieces, fields=list(CONTENT)))
    roles = pa.array(["user", "assistant"] * number, pa.string())
    both = pa.StructArray.from_arrays([roles, content], fields=list(ARROW.value_type))
    return pa.ListArray.from_arrays(pa.array(np.arange(0, 2 * number + 1, 2, dtype=np.int32)), both)


def text_of(messages: Sequence[dict[str, Any]]) -> str:
    """All text of the messages in order, a line end between pieces."""
    return "\n".join(piece["text"] for each in messages for piece in each["content"] if piece["text"])


def without_nulls(messages: Messages) -> Messages:
    """The same with "" for the text of pieces that are no text."""
    return [
        {"role": each["role"], "content": [{**piece, "text": piece["text"] or ""} for piece in each["content"]]}
        for each in messages
    ]
