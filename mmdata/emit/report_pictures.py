"""Contact sheets: which samples to look at, and their thumbnails.

Pictures come from at most PICTURE_SHARDS staged tars, spread evenly over the run, so that a run of any size costs the
same; of those tars only the members shown are read.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from mmdata.emit.report_media import NOTHING, Tile, is_shown, tile_of
from mmdata.emit.report_rows import Rows, column_names
from mmdata.emit.report_scores import primary_column
from mmdata.emit.report_text import CAPTION_CHARS, KEY_CHARS, clean
from mmdata.sample import DETAIL_CHARS
from mmdata.shards import ledger, storage, tar

PICTURE_SHARDS = 24
KEPT_PICTURES, REASON_PICTURES, SIDE_PICTURES = 24, 8, 16
PAGE_PICTURES_BYTES = 7_500_000  # of JPEG over all sheets; base64 adds a third
PAGE_SOUND_BYTES = 3_000_000
_MEMBER_BYTES = 64_000_000

Place = tuple[int, int]


@dataclass(frozen=True)
class Text:
    """What is shown of one row, harmless: its key, caption, detail and link."""

    key: str
    caption: str
    detail: str
    url: str


@dataclass(frozen=True)
class Picture:
    """One tile of a sheet; `data` is a JPEG, `sound` what can be played, as data: URIs; empty where there is none."""

    text: Text
    reason: str
    score: float | None
    data: str
    width_px: int
    height_px: int
    sound: str


@dataclass(frozen=True)
class Pick:
    """A row chosen for a sheet."""

    place: Place
    reason: str
    score: float | None


@dataclass
class Sheet:
    """A titled set of tiles. kind: kept | reason | best | worst | edge."""

    kind: str
    title: str
    note: str
    picks: list[Pick]
    pictures: list[Picture] = field(default_factory=list)


def sheets_of(rows: Rows, thresholds: dict[str, dict[str, float]]) -> list[Sheet]:
    """Sheets with their pictures, empty ones left out."""
    sheets = [sheet for sheet in _choose(rows, thresholds) if sheet.picks]
    places = {pick.place for sheet in sheets for pick in sheet.picks}
    texts = texts_of(rows, places)
    tiles = _tiles(rows, texts)
    left_bytes, left_sound_bytes = PAGE_PICTURES_BYTES, PAGE_SOUND_BYTES
    for sheet in sheets:
        for pick in sheet.picks:
            tile = tiles.get(pick.place, NOTHING)
            left_bytes -= len(tile.jpeg)
            if left_bytes < 0:
                break
            is_heard = len(tile.sound) <= left_sound_bytes
            left_sound_bytes -= len(tile.sound) if is_heard else 0
            picture, sound = _uri("image/jpeg", tile.jpeg), _uri(tile.mime, tile.sound) if is_heard else ""
            size = tile.width_px, tile.height_px
            sheet.pictures.append(Picture(texts[pick.place], pick.reason, pick.score, picture, *size, sound))
    return [sheet for sheet in sheets if sheet.pictures]


def _uri(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}" if data else ""


def picture_shards(rows: Rows) -> list[int]:
    """The shards that pictures are taken from, spread evenly."""
    numbers = sorted(rows.shards)
    step = max(len(numbers) / PICTURE_SHARDS, 1.0)
    return [numbers[int(i * step)] for i in range(min(len(numbers), PICTURE_SHARDS))]


def _choose(rows: Rows, thresholds: dict[str, dict[str, float]]) -> Iterable[Sheet]:
    score = primary_column(rows, thresholds)
    v = rows.column(score) if score else "NULL::DOUBLE"
    source = f"FROM rows WHERE had AND NOT removed AND shard IN ({', '.join(map(str, picture_shards(rows)))})"

    def picks(where: str, order: str, most: int, shown: str = v) -> list[Pick]:
        found = rows.ask(
            f"SELECT shard, position, reason, {shown} {source} AND {where} ORDER BY {order}, pick LIMIT {most}"
        )
        return [Pick((shard, position), reason, value) for shard, position, reason, value in found]

    if rows.has_selection:
        yield Sheet("kept", "Kept", "chosen at random", picks("fate = 'kept'", "pick", KEPT_PICTURES))
    else:
        chosen = picks("reason = 'ok'", "pick", KEPT_PICTURES)
        yield Sheet("kept", "Had so far", "chosen at random; nothing is selected yet", chosen)
    lost = rows.ask(f"SELECT reason, count(*) {source} AND reason <> 'ok' GROUP BY 1 ORDER BY 2 DESC, 1")
    for reason, number in lost:
        chosen = picks(f"reason = '{_quoted(reason)}'", "pick", REASON_PICTURES)
        yield Sheet("reason", reason, f"{len(chosen)} of {number:,} that have pictures, chosen at random", chosen)
    if score:
        yield Sheet("best", f"Highest {score}", "", picks(f"isfinite({v})", f"{v} DESC", SIDE_PICTURES))
        yield Sheet("worst", f"Lowest {score}", "", picks(f"isfinite({v})", v, SIDE_PICTURES))
    for name, limits in thresholds.items():
        c = rows.column(name)
        for side, limit in sorted(limits.items()):
            for where, order, words in ((f"{c} < {limit!r}", f"{c} DESC", "below"), (f"{c} >= {limit!r}", c, "from")):
                chosen = picks(f"isfinite({c}) AND {where}", order, SIDE_PICTURES, c)
                yield Sheet("edge", f"{name} {words} {limit:g} ({side})", "nearest to the threshold first", chosen)


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def texts_of(rows: Rows, places: Iterable[Place]) -> dict[Place, Text]:
    """Key, caption, detail and link of a few rows, from the Parquet files of their shards."""
    texts: dict[Place, Text] = {}
    for shard, positions in _by_shard(places):
        files = rows.shards[shard]
        hidden = rows.hidden(shard)
        own = _take(files.ledger, ("key", "caption", "detail", "url"), positions)
        later = [_take(path, ("detail",), positions) for path in (files.selection, *files.scores.values()) if path]
        for i, position in enumerate(positions):
            if position in hidden:
                texts[shard, position] = Text("", "", "", "")
                continue
            detail = next((table["detail"][i] for table in later if table["detail"][i]), own["detail"][i])
            texts[shard, position] = Text(
                clean(own["key"][i], KEY_CHARS), clean(own["caption"][i]), clean(detail), clean(own["url"][i])
            )
    return texts


def _by_shard(places: Iterable[Place]) -> list[tuple[int, list[int]]]:
    found: dict[int, list[int]] = {}
    for shard, position in sorted(set(places)):
        found.setdefault(shard, []).append(position)
    return list(found.items())


def _take(path: str, columns: Sequence[str], positions: Sequence[int]) -> dict[str, list[str]]:
    """The first characters of text columns at a few positions; empty where there is no such column."""
    names = column_names(path)
    table = ledger.read(path, [name for name in columns if name in names]).take(pa.array(positions))
    return {name: _short(table[name]) if name in names else [""] * len(positions) for name in columns}


def _short(column: pa.ChunkedArray) -> list[str]:
    raw = pc.binary_slice(column.cast(pa.binary()), 0, 16 * max(CAPTION_CHARS, DETAIL_CHARS)).to_pylist()
    return ["" if data is None else data.decode("utf-8", "replace") for data in raw]


def _tiles(rows: Rows, texts: dict[Place, Text]) -> dict[Place, Tile]:
    """The tile of each row whose media are in the staged tar of its shard."""
    made: dict[Place, Tile] = {}
    for shard, positions in _by_shard(texts):
        wanted = {texts[shard, position].key: position for position in positions}
        path = rows.shards[shard].staged
        with contextlib.suppress(FileNotFoundError), storage.open_input(path) as file:
            chosen: dict[int, dict[str, tar.Member]] = {}
            for member in tar.members(file, path):
                if member.key in wanted and is_shown(member.part) and member.size <= _MEMBER_BYTES:
                    chosen.setdefault(wanted[member.key], {})[member.part] = member
            for position, members in chosen.items():
                made[shard, position] = tile_of({part: _bytes(file, member) for part, member in members.items()})
    return made


def _bytes(file: BinaryIO, member: tar.Member) -> bytes:
    file.seek(member.offset)
    return file.read(member.size)
