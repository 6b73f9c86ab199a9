"""Datasets of every modality written by hand, in tar or Parquet shards with their index, as emit writes them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from mmdata.shards.folders import DatasetFolder
from mmdata.shards.tar import TarWriter
from tests.builders import jpeg

_PLACE = pa.struct([("part", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])
_MEDIUM = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_CONTENT = pa.struct([("type", pa.string()), ("text", pa.string())])
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.list_(_CONTENT))]))
_INDEX = pa.schema(
    [
        ("key", pa.string()), ("parts", pa.list_(_PLACE)), ("row_group", pa.int32()), ("row", pa.int32()),
        ("text_tokens", pa.int32()), ("width_px", pa.int32()), ("height_px", pa.int32()), ("duration_s", pa.float64()),
        ("source", pa.string()), ("raw_sha256", pa.string()),
    ]
)  # fmt: skip
_COLUMNS = {  # of a Parquet shard: single media and lists of them, by modality
    "image_text": ("image",),
    "video_text": ("video", "frames"),
    "audio_text": ("audio",),
    "interleaved": ("images", "videos", "audios"),
    "instruct": ("images", "videos", "audios"),
}
_EXTENSIONS = {"image": "jpg", "frames": "jpg", "images": "jpg", "video": "mp4", "videos": "mp4", "audio": "flac"}


@dataclass
class Written:
    """A sample to write. parts: media by their names in a tar."""

    key: str
    caption: str = ""
    messages: list[dict[str, Any]] | None = None
    parts: dict[str, bytes] = field(default_factory=dict)
    times_s: list[float] = field(default_factory=list)
    duration_s: float | None = None
    source: str = "made"


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


def asked(question: Sequence[dict[str, str]], answer: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(question)}, {"role": "assistant", "content": [text(answer)]}]


def flac(duration_s: float, seed: int = 0, rate_hz: int = 16_000) -> bytes:
    rng = np.random.default_rng(seed)
    wave_T = rng.standard_normal(round(duration_s * rate_hz)).astype(np.float32) * 0.1
    sink = io.BytesIO()
    soundfile.write(sink, wave_T, rate_hz, format="FLAC")
    return sink.getvalue()


def captioned(number: int, words: int = 4, source: str = "made") -> Written:
    caption = " ".join(["picture", *(f"w{(number * 7 + i) % 10}" for i in range(words - 1))])
    return Written(f"{source}-{number:012d}", caption, parts={"jpg": jpeg(number)}, source=source)


def write(
    root: Path,
    modality: str,
    samples: Sequence[Written],
    *,
    kind: str = "tar",
    per_shard: int = 100,
    split: str = "train",
) -> str:
    """Write samples of one modality; returns the dataset's root."""
    for shard, start in enumerate(range(0, len(samples), per_shard)):
        batch = samples[start : start + per_shard]
        rows = (
            _tar(root, modality, split, shard, batch)
            if kind == "tar"
            else _parquet(root, modality, split, shard, batch)
        )
        for sample, row in zip(batch, rows, strict=True):
            words = sample.caption or " ".join(
                piece["text"] for message in sample.messages or [] for piece in message["content"] if piece.get("text")
            )
            row.update(
                key=sample.key, text_tokens=len(words.split()), duration_s=sample.duration_s, source=sample.source
            )
        target = _target(root, DatasetFolder.index(modality, split, shard))
        pq.write_table(pa.Table.from_pylist(rows, schema=_INDEX), target)
    return str(root)


def _target(root: Path, path: str) -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _tar(root: Path, modality: str, split: str, shard: int, samples: Sequence[Written]) -> list[dict[str, Any]]:
    rows = []
    with _target(root, DatasetFolder.tar(modality, split, shard)).open("wb") as file:
        writer = TarWriter(file)
        for sample in samples:
            facts: dict[str, Any] = {"key": sample.key}
            if sample.times_s:
                facts["frame_times_s"] = sample.times_s
            parts = dict(sample.parts)
            if sample.messages is not None:
                facts["messages"] = sample.messages
            else:
                parts["txt"] = sample.caption.encode()
            added = writer.add(sample.key, {**parts, "json": json.dumps(facts).encode()})
            rows.append({"parts": [{"part": p, "offset": o, "size": s} for p, (o, s) in added.items()]})
        writer.close()
    return rows


def _parquet(root: Path, modality: str, split: str, shard: int, samples: Sequence[Written]) -> list[dict[str, Any]]:
    columns: dict[str, Any] = {}
    for name in _COLUMNS[modality]:
        many = name.endswith("s")
        extension = _EXTENSIONS.get(name, "flac")
        values = [
            [{"bytes": d, "path": f"{s.key}.{p}"} for p, d in sorted(s.parts.items()) if p.endswith(extension)]
            for s in samples
        ]
        one: Any = values if many else [value[0] if value else None for value in values]
        columns[name] = pa.array(one, pa.list_(_MEDIUM) if many else _MEDIUM)
    columns["caption"] = pa.array([sample.caption for sample in samples])
    columns["messages"] = pa.array([sample.messages for sample in samples], _MESSAGES)
    columns["frame_times_s"] = pa.array([sample.times_s or None for sample in samples], pa.list_(pa.float64()))
    target = _target(root, DatasetFolder.parquet(modality, split, shard))
    pq.write_table(pa.table(columns), target, row_group_size=3)
    return [{"row_group": number // 3, "row": number % 3} for number in range(len(samples))]
