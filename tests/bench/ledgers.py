"""Synthetic run folders for the measurements of selection: ledgers and scores with realistic columns, no media."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmdata.select.tables import ShardTables
from mmdata.shards import ledger
from mmdata.shards.folders import RunFolder

ROWS_PER_SHARD = 10_000
LANGUAGES = ("en", "zh", "de", "fr", "es", "ja", "ru", None)
SOURCES = ("web", "photos", "archive")
_TEXT = (
    "a photograph of the old red brick house in green hills under grey clouds with two small dogs and their owner "
    "running along river near harbour at night market street vendor sells fresh fruit bread flowers wooden table "
    "white background product view vintage poster free vector illustration stock image modern kitchen design ideas"
)
_WORDS = _TEXT.split()


def write(folder: Path, rows: int, rows_per_shard: int = ROWS_PER_SHARD) -> list[ShardTables]:
    """Ledgers and scores of `rows` rows, made once: 1 % failed, 5 % repeat another row's bytes, 3 % its link."""
    run = RunFolder(str(folder / f"run-{rows}"))
    tables = []
    for shard, first in enumerate(range(0, rows, rows_per_shard)):
        paths = ShardTables(shard, run.ledger(shard), {"image_text": run.scores("image_text", shard)})
        tables.append(paths)
        if not Path(paths.scores["image_text"]).exists():
            table, scores = tables_of(first, min(rows_per_shard, rows - first))
            for path, content in ((paths.ledger, table), (paths.scores["image_text"], scores)):
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(content, path, compression="zstd", row_group_size=65_536)
    return tables


def tables_of(first: int, rows: int) -> tuple[pa.Table, pa.Table]:
    rng = np.random.default_rng(first)
    number = np.arange(first, first + rows)
    again = rng.random(rows) < 0.05
    content = np.where(again, rng.integers(0, first + rows, rows), number)
    link = np.where(rng.random(rows) < 0.03, rng.integers(0, first + rows, rows), number)
    ok = rng.random(rows) >= 0.01
    source = np.array(SOURCES, object)[rng.choice(3, rows, p=(0.7, 0.2, 0.1))]
    key = pc.binary_join_element_wise(pa.array(source, pa.string()), _digits(number, 12), "-")
    side_px = rng.integers(64, 2048, (2, rows)).astype(np.int32)
    hashes = _mixed(content)
    language = pa.array(
        np.array(LANGUAGES, object)[rng.choice(8, rows, p=(0.5, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05))]
    )
    columns = {
        "key": key,
        "source": pa.array(source, pa.string()),
        "row": number,
        "modality": pa.array(["image_text"] * rows),
        "url": pc.binary_join_element_wise("https://media.example/pictures/2024", _digits(link, 9), "large.jpg", "/"),
        "status": pa.array(np.where(ok, "ok", "failed")),
        "reason": pa.array(np.where(ok, "ok", "fetch.http_4xx")),
        "detail": pa.array(np.where(ok, "", "404")),
        "retryable": np.zeros(rows, bool),
        "attempts": np.ones(rows, np.int32),
        "http_code": np.where(ok, 200, 404).astype(np.int32),
        "raw_sha256": _hex(np.stack([_mixed(content + salt) for salt in (1, 2, 3, 4)], axis=1)),
        "bytes": rng.integers(5_000, 400_000, rows),
        "caption": _captions(rng, rows),
        "language": language.cast(pa.string()),
        "parts": pa.array(["jpg"] * rows),
        "width_px": side_px[0],
        "height_px": side_px[1],
        "original_width_px": side_px[0],
        "original_height_px": side_px[1],
        "phash": hashes,
        "license": pa.array(np.array(("cc0", "cc-by", "unknown"))[rng.integers(0, 3, rows)]),
        "punsafe": rng.random(rows, np.float32) ** 4,
        "pwatermark": rng.random(rows, np.float32) ** 2,
    }
    given = pc.if_else(pa.array(ok), "ok", pa.scalar(None, pa.string()))
    scores = {
        "key": key,
        "status": given,
        "reason": given,
        "detail": pa.nulls(rows, pa.string()),
        "clip_similarity": pa.array(rng.normal(0.27, 0.05, rows).astype(np.float32), mask=~ok),
    }
    schema = ledger.schema_of("image_text", pa.schema([]))
    table = pa.table(columns)
    return table.replace_schema_metadata(schema.metadata), pa.table(scores)


def _captions(rng: np.random.Generator, rows: int) -> pa.Array:
    """Captions of 4 to 12 words, the words as unevenly spread as in a language."""
    lengths = rng.integers(4, 13, rows)
    chosen = np.minimum(rng.zipf(1.3, int(lengths.sum())) - 1, len(_WORDS) - 1)
    words = pa.DictionaryArray.from_arrays(pa.array(chosen.astype(np.int32)), pa.array(_WORDS)).cast(pa.string())
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pc.binary_join(pa.ListArray.from_arrays(offsets, words), " ")


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """splitmix64 of whole numbers: uint64 that look random."""
    z = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = z ^ (z >> np.uint64(31))
    return mixed


def _digits(numbers: np.ndarray, width: int) -> pa.Array:
    return pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")


def _hex(words_N4: np.ndarray) -> pa.Array:
    """64 hex digits of four uint64 each."""
    raw = words_N4.astype(">u8").tobytes()
    digits = np.frombuffer(raw.hex().encode(), dtype="S64")
    return pa.array(digits.astype("U64"))
