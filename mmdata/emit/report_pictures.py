"""Contact sheets: which samples to look at, and their thumbnails.

Pictures come from at most PICTURE_SHARDS staged tars, spread evenly over the run, so that a run of any size costs the
same; of those tars only the members shown are read. Other media than pictures get their own `thumbnail` branch later.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmdata.emit.report_rows import Rows, column_names
from mmdata.emit.report_scores import primary_column
from mmdata.emit.report_text import CAPTION_CHARS, KEY_CHARS, clean
from mmdata.sample import DETAIL_CHARS, IMAGE_PARTS
from mmdata.shards import ledger, storage, tar

PICTURE_SHARDS = 24
THUMBNAIL_PX = 160
JPEG_QUALITY = 78
KEPT_PICTURES, REASON_PICTURES, SIDE_PICTURES = 24, 8, 16
PAGE_PICTURES_BYTES = 10_000_000  # of JPEG over all sheets; base64 adds a third
_TOO_MANY_PIXELS = 100_000_000
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
    """One tile of a sheet; `data` is a JPEG as a data: URI, empty where it could not be read."""

    text: Text
    reason: str
    score: float | None
    data: str
    width_px: int
    height_px: int


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
    thumbnails = _thumbnails(rows, texts)
    left_bytes = PAGE_PICTURES_BYTES
    for sheet in sheets:
        for pick in sheet.picks:
            data, width_px, height_px = thumbnails.get(pick.place, (b"", 0, 0))
            left_bytes -= len(data)
            if left_bytes < 0:
                break
            uri = "data:image/jpeg;base64," + base64.b64encode(data).decode() if data else ""
            sheet.pictures.append(Picture(texts[pick.place], pick.reason, pick.score, uri, width_px, height_px))
    return [sheet for sheet in sheets if sheet.pictures]


def picture_shards(rows: Rows) -> list[int]:
    """The shards that pictures are taken from, spread evenly."""
    numbers = sorted(rows.shards)
    step = max(len(numbers) / PICTURE_SHARDS, 1.0)
    return [numbers[int(i * step)] for i in range(min(len(numbers), PICTURE_SHARDS))]


def _choose(rows: Rows, thresholds: dict[str, dict[str, float]]) -> Iterable[Sheet]:
    score = primary_column(rows, thresholds)
    v = rows.column(score) if score else "NULL::DOUBLE"
    source = f"FROM rows WHERE had AND shard IN ({', '.join(map(str, picture_shards(rows)))})"

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
        own = _take(files.ledger, ("key", "caption", "detail", "url"), positions)
        later = [_take(path, ("detail",), positions) for path in (files.selection, *files.scores.values()) if path]
        for i, position in enumerate(positions):
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


def _thumbnails(rows: Rows, texts: dict[Place, Text]) -> dict[Place, tuple[bytes, int, int]]:
    """JPEG, width and height of the thumbnail of each row whose picture is in the staged tar of its shard."""
    made: dict[Place, tuple[bytes, int, int]] = {}
    for shard, positions in _by_shard(texts):
        wanted = {texts[shard, position].key: position for position in positions}
        path = rows.shards[shard].staged
        with contextlib.suppress(FileNotFoundError), storage.open_input(path) as file:
            chosen: dict[int, tar.Member] = {}
            for member in tar.members(file, path):
                if member.key in wanted and member.part in IMAGE_PARTS and member.size <= _MEMBER_BYTES:
                    chosen[wanted[member.key]] = member
                    if len(chosen) == len(wanted):
                        break
            for position, member in chosen.items():
                file.seek(member.offset)
                found = thumbnail(file.read(member.size))
                if found is not None:
                    made[shard, position] = found
    return made


def thumbnail(data: bytes) -> tuple[bytes, int, int] | None:
    """A small JPEG of a picture with its width and height, or None where it cannot be read."""
    try:
        image_HWC = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if image_HWC is None or image_HWC.size > _TOO_MANY_PIXELS * 3:
            return None
        height, width = image_HWC.shape[:2]
        scale = min(1.0, THUMBNAIL_PX / max(height, width))
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        small_HWC = cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA) if scale < 1 else image_HWC
        done, encoded = cv2.imencode(".jpg", small_HWC, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    except cv2.error:
        return None
    return (encoded.tobytes(), *size) if done else None
