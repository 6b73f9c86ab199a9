"""Contact sheets: which samples to look at, and their thumbnails.

Pictures come from at most PICTURE_SHARDS staged tars, spread evenly over the run, so that a run of any size costs the
same; of those tars only the members shown are read.
"""

from __future__ import annotations

import base64
import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from mmdata.emit.report_media import NOTHING, Tile, is_shown, tile_of
from mmdata.emit.report_rows import Rows
from mmdata.emit.report_rules import Limit
from mmdata.emit.report_sayings import Place, Text, by_shard, texts_of
from mmdata.emit.report_scores import primary_column
from mmdata.emit.report_text import clean
from mmdata.select.workspace import literal
from mmdata.shards import storage, tar

PICTURE_SHARDS = 24
KEPT_PICTURES, REASON_PICTURES, SIDE_PICTURES, EDGE_PICTURES = 24, 8, 12, 8
PAGE_PICTURES_BYTES = 6_500_000  # of JPEG over all sheets; base64 adds a third
PAGE_SOUND_BYTES = 2_500_000
EDGE_GROUPS = 4
_GROUPED_BY = {"source", "modality", "language"}  # what the table of rows has
_MEMBER_BYTES = 64_000_000


@dataclass(frozen=True)
class Pick:
    """A row chosen for a sheet. mark: what it is in that sheet: beyond | within | kept | ..."""

    place: Place
    reason: str
    score: float | None
    mark: str = ""


@dataclass(frozen=True)
class Picture:
    """One tile of a sheet; `data` is a JPEG, `sound` what can be played, as data: URIs; empty where there is none."""

    text: Text
    pick: Pick
    data: str
    width_px: int
    height_px: int
    sound: str


@dataclass
class Sheet:
    """A titled set of tiles. kind: kept | reason | best | worst | edge | group."""

    kind: str
    title: str
    note: str
    picks: list[Pick]
    pictures: list[Picture] = field(default_factory=list)


def fill(rows: Rows, sheets: Sequence[Sheet]) -> None:
    """Give sheets their pictures, in order, as long as the page stays small; what is shown of a row is read once."""
    places = {pick.place for sheet in sheets for pick in sheet.picks}
    said = texts_of(rows, places)
    tiles = _tiles(rows, said)
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
            sheet.pictures.append(Picture(said[pick.place], pick, picture, *size, sound))


def _uri(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}" if data else ""


def _with_edges(limits: Sequence[Limit]) -> Iterator[Limit]:
    """Limits whose edges can be shown: of those that groups have of their own, a few."""
    groups = Counter[tuple[int, str, str]]()
    for limit in limits:
        groups[limit.rule, limit.column, limit.side] += 1
        is_first = not limit.of or groups[limit.rule, limit.column, limit.side] <= EDGE_GROUPS
        if limit.value is not None and is_first and {name for name, _ in limit.of} <= _GROUPED_BY:
            yield limit


def picture_shards(rows: Rows) -> list[int]:
    """The shards that pictures are taken from, spread evenly."""
    numbers = sorted(rows.shards)
    step = max(len(numbers) / PICTURE_SHARDS, 1.0)
    return [numbers[int(i * step)] for i in range(min(len(numbers), PICTURE_SHARDS))]


def sheets_of(rows: Rows, limits: Sequence[Limit], *, kept_only: bool = False) -> list[Sheet]:
    """Which samples to look at, empty sheets left out; kept_only: none of what is not kept."""
    score = primary_column(rows, limits)
    v = rows.column(score) if score else "NULL::DOUBLE"
    source = f"FROM rows WHERE had AND NOT removed AND shard IN ({', '.join(map(str, picture_shards(rows)))})"
    source += " AND fate = 'kept'" if kept_only else ""

    def picks(where: str, order: str, most: int, shown: str = v, mark: str = "") -> list[Pick]:
        found = rows.ask(
            f"SELECT shard, position, reason, {shown} {source} AND {where} ORDER BY {order}, pick LIMIT {most}"
        )
        return [Pick((shard, position), reason, number, mark) for shard, position, reason, number in found]

    sheets = []
    if rows.has_selection:
        # Every modality is seen, however few samples it has.
        turns = "row_number() OVER (PARTITION BY modality ORDER BY pick)"
        chosen = picks("fate = 'kept'", f"{turns}, modality", KEPT_PICTURES)
        sheets.append(Sheet("kept", "Kept", "chosen at random, every modality in turn", chosen))
    else:
        chosen = picks("reason = 'ok'", "pick", KEPT_PICTURES)
        sheets.append(Sheet("kept", "Had so far", "chosen at random; nothing is selected yet", chosen))
    lost = rows.ask(f"SELECT reason, count(*) {source} AND reason <> 'ok' GROUP BY 1 ORDER BY 2 DESC, 1")
    for reason, number in lost:
        chosen = picks(f"reason = {literal(reason)}", "pick", REASON_PICTURES)
        note = f"{len(chosen)} of {number:,} that have pictures, chosen at random"
        sheets.append(Sheet("reason", reason, note, chosen))
    if score:
        sheets.append(Sheet("best", f"Highest {score}", "", picks(f"isfinite({v})", f"{v} DESC", SIDE_PICTURES)))
        sheets.append(Sheet("worst", f"Lowest {score}", "", picks(f"isfinite({v})", v, SIDE_PICTURES)))
    for limit in _with_edges(limits):
        c, passes = rows.column(limit.column), f"{limit.kept_sql} {limit.value!r}"
        group = "".join(
            f" AND {name} IS NOT DISTINCT FROM {'NULL' if value is None else literal(value)}"
            for name, value in limit.of
        )
        inward, outward = ("", " DESC") if limit.side == "min" else (" DESC", "")
        beyond = picks(f"isfinite({c}) AND NOT {c} {passes}{group}", c + outward, EDGE_PICTURES, c, "beyond")
        within = picks(f"isfinite({c}) AND {c} {passes}{group}", c + inward, EDGE_PICTURES, c, "within")
        bound = limit.said if not limit.is_relative else f"{limit.said}, here {limit.value:.4g}"
        title = f"Edge of {limit.column} {limit.side} {bound}" + (f", of {clean(limit.group, 40)}" if limit.of else "")
        note = "nearest to the threshold: first those beyond it, then those within"
        sheets.append(Sheet("edge", title, note, [*beyond, *within]))
    return [sheet for sheet in sheets if sheet.picks]


def _tiles(rows: Rows, said: Mapping[Place, Text]) -> dict[Place, Tile]:
    """The tile of each row whose media are in the staged tar of its shard."""
    made: dict[Place, Tile] = {}
    for shard, positions in by_shard(said):
        wanted = {said[shard, position].key: position for position in positions}
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
