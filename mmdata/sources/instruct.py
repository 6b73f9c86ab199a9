"""Instructions and dialogues, with media or without: LLaVA's JSON, ShareGPT's, and messages for chat templates.

| form | turns | media |
|---|---|---|
| LLaVA | conversations: [{from: human or gpt, value}] | image (or images, video, audio) |
| ShareGPT | the same, perhaps with `system` | images, videos, audios |
| messages | messages: [{role, content}], content text or a list of pieces | in the pieces, or as in ShareGPT |

`<image>`, `<video>` and `<audio>` in a text are the places of media. A record whose places do not match its media comes
as it is: ingest ends it as `content.media_count`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mmdata.errors import SourceError
from mmdata.options import semantic
from mmdata.sources.document_table import Document, DocumentTable, Reader, listed, nested
from mmdata.sources.media_list import capped, medium
from mmdata.sources.messages import MEDIA_TYPES, Messages, text_piece
from mmdata.sources.rows import InputFile

ROLES = {
    **dict.fromkeys(("system",), "system"),
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bard", "bing", "bot", "model"), "assistant"),
    **dict.fromkeys(("tool", "function", "function_call", "observation"), "tool"),
}
_TURNS = ("messages", "conversations", "conversation")
_MEDIA = {"image": ("image", "images"), "video": ("video", "videos"), "audio": ("audio", "audios")}
_PLACE = re.compile(r"\n?<(image|video|audio)>\n?")


@dataclass(frozen=True, kw_only=True)
class Instruct(DocumentTable):
    """A row a dialogue; the turns become messages, other columns are passed on."""

    kind: ClassVar[str] = "instruct"
    version: ClassVar[int] = 1

    modality: Literal["instruct"] = semantic("instruct")

    def batches(self, input: InputFile) -> Iterator[Any]:
        return self.documents(input, lambda names: self._reader(names, input.path))

    def _reader(self, names: Sequence[str], path: str) -> Reader:
        turns = next((name for name in _TURNS if name in names), None)
        if turns is None:
            raise SourceError(f"{path}: found none of {', '.join(_TURNS)}, but: {', '.join(names)}")
        return _Dialogue(turns, self.max_images)

    def _has_own_link(self, names: Sequence[str]) -> bool:
        return False  # a link in a dialogue's record says nothing about where the dialogue is from


class _Dialogue:
    def __init__(self, turns: str, max_images: int | None) -> None:
        self._turns = turns
        self._max_images = max_images
        columns = sum(_MEDIA.values(), ())
        self.reads = (turns, "system", *columns)
        self.consumed = (turns, "system")

    def read(self, row: Mapping[str, Any], root: str) -> Document:
        waiting = {kind: _named(row, kind) for kind in MEDIA_TYPES}
        messages: Messages = []
        media: list[dict[str, Any]] = []
        if isinstance(row.get("system"), str) and row["system"].strip():
            messages.append({"role": "system", "content": [text_piece(row["system"])]})
        turns = listed(row[self._turns], self._turns)
        if not turns:
            raise ValueError(f"{self._turns}: holds no turn")
        for number, turn in enumerate(turns):
            role, said = _turn(turn, f"{self._turns}[{number}]")
            content: list[dict[str, Any]] = []
            for piece, inline in said:
                if piece["type"] in MEDIA_TYPES:
                    kind = piece["type"]
                    if inline is None and waiting[kind]:
                        inline = waiting[kind].pop(0)
                    if inline is not None:
                        media.append(medium(kind, inline, root))
                content.append(piece)
            messages.append({"role": role, "content": content})
        media += [medium(kind, found, root) for kind, rest in waiting.items() for found in rest]  # without a place
        return messages, capped(media, self._max_images)


def _named(row: Mapping[str, Any], kind: str) -> list[Any]:
    """The media of one type that the record names beside its turns."""
    found: list[Any] = []
    for name in _MEDIA[kind]:
        value = nested(row.get(name), name)
        if value is not None and value != "":
            found += value if isinstance(value, list) else [value]
    return found


def _turn(turn: Any, where: str) -> tuple[str, list[tuple[dict[str, Any], Any]]]:
    """Role and pieces of a turn, each with the medium that stands in it, if one does."""
    if not isinstance(turn, dict):
        raise ValueError(f"{where}: found {type(turn).__name__}, allowed is an object")
    said = turn.get("from", turn.get("role"))
    if said not in ROLES:
        raise ValueError(f"{where}: found role {str(said)[:50]!r}, allowed are {', '.join(ROLES)}")
    value = turn.get("value", turn.get("content"))
    if isinstance(value, str):
        return ROLES[said], [(piece, None) for piece in split(value)]
    if not isinstance(value, list):
        raise ValueError(f"{where}: found {type(value).__name__}, allowed is text or a list of pieces")
    pieces: list[tuple[dict[str, Any], Any]] = []
    for each in value:
        kind = str(each.get("type", "")).removesuffix("_url") if isinstance(each, dict) else ""
        if kind == "text" and isinstance(each.get("text"), str):
            pieces.append((text_piece(each["text"]), None))
        elif kind in MEDIA_TYPES:
            pieces.append(({"type": kind}, each if len(each) > 1 and _is_inline(each) else None))
        else:
            raise ValueError(f"{where}: found {str(each)[:80]}, allowed is a piece of text, image, video or audio")
    return ROLES[said], pieces


def _is_inline(piece: Mapping[str, Any]) -> bool:
    return any(value for name, value in piece.items() if name != "type")


def split(text: str) -> list[dict[str, Any]]:
    """Text with `<image>`, `<video>` or `<audio>` in it as pieces; a line end beside a place belongs to it."""
    pieces: list[dict[str, Any]] = []
    end = 0
    for match in _PLACE.finditer(text):
        if text[end : match.start()]:
            pieces.append(text_piece(text[end : match.start()]))
        pieces.append({"type": match[1]})
        end = match.end()
    if text[end:] or not pieces:
        pieces.append(text_piece(text[end:]))
    return pieces
