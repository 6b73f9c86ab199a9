"""All tables of the demo as rows, and what of them a run should say."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from pipelines.demo.encoder.measure import read_tables

DEMO = Path(__file__).resolve().parents[2] / "pipelines" / "demo"
TABLES = DEMO / "tables"
HOST = "http://media.example"
Row = dict[str, Any]


def lines(name: str) -> list[Row]:
    """The rows of a JSONL table."""
    return [json.loads(line) for line in (TABLES / name).read_text(encoding="utf-8").splitlines()]


def delimited(name: str, delimiter: str) -> list[Row]:
    """The rows of a CSV or TSV table."""
    with (TABLES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def by_source() -> dict[str, list[Row]]:
    """The rows of the tables beside those of pictures, by their source in demo.yaml."""
    return {
        "captions": delimited("captions.csv", ","),
        "films": lines("films.jsonl"),
        "planted-films": lines("planted-films.jsonl"),
        "speech": delimited("speech.tsv", "\t"),
        "planted-speech": lines("planted-speech.jsonl"),
        "documents": lines("documents.jsonl"),
        "instructions": json.loads((TABLES / "instructions.json").read_text(encoding="utf-8")),
    }


def every_row() -> list[Row]:
    """The rows of all tables."""
    return [*read_tables(), *(row for rows in by_source().values() for row in rows)]


def links_of(row: Row) -> list[str]:
    """The media that a row names."""
    if "URL" in row:
        return [row["URL"]]
    if "image_info" in row:
        return [image["raw_url"] for image in row["image_info"]]
    image = row.get("image") or []
    return [image] if isinstance(image, str) else image


def missed(row: Row) -> list[tuple[str, Any, Any]]:
    """Of a ledger's row with `expected_values`: column, what it says, what it should say, where the two differ."""
    wanted = json.loads(row["expected_values"] or "{}")
    return [(name, row.get(name), value) for name, value in wanted.items() if not _is(row.get(name), value)]


def _is(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return found is not None and wanted[0] <= found <= wanted[1]
    return bool(found == wanted)
