"""What is said of a row that the page shows: key, caption or the first turns of a dialogue, detail, link; harmless."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mmdata.emit import messages
from mmdata.emit.report_rows import Rows, column_names
from mmdata.emit.report_text import CAPTION_CHARS, KEY_CHARS, clean
from mmdata.errors import ShardError
from mmdata.sample import DETAIL_CHARS
from mmdata.shards import ledger

Place = tuple[int, int]  # shard, and position in it
TURNS = 2
_ASKED, _TOLD = "Q", "A"
_MESSAGES_BYTES = 1_000_000  # of a longer dialogue nothing is shown


@dataclass(frozen=True)
class Text:
    """What is shown of one row. turns: of a dialogue, who speaks (Q, A, or nothing in a document) and what is said."""

    key: str
    caption: str
    detail: str
    url: str
    turns: tuple[tuple[str, str], ...] = ()

    @property
    def said(self) -> str:
        """Caption or turns as one text."""
        return self.caption or " ".join(f"{who}: {words}" if who else words for who, words in self.turns)


def texts_of(rows: Rows, places: Iterable[Place]) -> dict[Place, Text]:
    """What is said of a few rows, from the Parquet files of their shards."""
    texts: dict[Place, Text] = {}
    for shard, positions in by_shard(places):
        files = rows.shards[shard]
        hidden = rows.hidden(shard)
        own = _take(files.ledger, ("key", "caption", "detail", "url"), positions)
        # Dialogues are long: they are read only where a caption does not say it.
        dialogues = [""] * len(positions)
        if not all(own["caption"]):
            dialogues = _take(files.ledger, ("messages",), positions, _MESSAGES_BYTES)["messages"]
        later = [_take(path, ("detail",), positions) for path in (files.selection, *files.scores.values()) if path]
        for i, position in enumerate(positions):
            if position in hidden:
                texts[shard, position] = Text("", "", "", "")
                continue
            detail = next((table["detail"][i] for table in later if table["detail"][i]), own["detail"][i])
            caption = clean(own["caption"][i])
            texts[shard, position] = Text(
                clean(own["key"][i], KEY_CHARS),
                caption,
                clean(detail),
                clean(own["url"][i]),
                () if caption else turns_of(dialogues[i]),
            )
    return texts


def turns_of(text: str) -> tuple[tuple[str, str], ...]:
    """The first turns that say anything, of the messages that a ledger has as JSON; none where it is none."""
    try:
        found = messages.parse(text, "")
    except ShardError:
        return ()
    spoken = [(each["role"], clean(messages.text_of([each]))) for each in found]
    has_question = any(role == "user" and words for role, words in spoken)
    who = {"user": _ASKED, "assistant": _TOLD if has_question else ""}  # a document is told without being asked for
    turns = [(who.get(role, clean(role, 12)), words) for role, words in spoken if words]
    return tuple(turns[:TURNS])


def by_shard(places: Iterable[Place]) -> list[tuple[int, list[int]]]:
    """Positions by shard, both in order."""
    found: dict[int, list[int]] = {}
    for shard, position in sorted(set(places)):
        found.setdefault(shard, []).append(position)
    return list(found.items())


def _take(path: str, columns: Sequence[str], positions: Sequence[int], most_bytes: int = 0) -> dict[str, list[str]]:
    """The first bytes of text columns at a few positions; empty where there is no such column."""
    names = column_names(path)
    found = [name for name in columns if name in names]
    table = ledger.read(path, found or names[:1]).take(pa.array(positions))
    most = most_bytes or 16 * max(CAPTION_CHARS, DETAIL_CHARS)
    return {name: _short(table[name], most) if name in found else [""] * len(positions) for name in columns}


def _short(column: pa.ChunkedArray, most_bytes: int) -> list[str]:
    raw = pc.binary_slice(column.cast(pa.binary()), 0, most_bytes).to_pylist()
    return ["" if data is None else data.decode("utf-8", "replace") for data in raw]
