"""Builders of real files for tests: pictures, samples, and a run folder as ingest and scoring would leave it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from mmdata.errors import Reason
from mmdata.sample import Sample, sample_key
from mmdata.shards import ledger, storage
from mmdata.shards.folders import RunFolder
from mmdata.shards.tar import TarWriter


def picture_HWC(number: int, width_px: int = 64, height_px: int = 48) -> np.ndarray:
    """A smooth colour picture that differs for every number; uint8 RGB."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width_px, height_px), interpolation=cv2.INTER_CUBIC)


def jpeg(number: int, width_px: int = 64, height_px: int = 48) -> bytes:
    """That picture as JPEG."""
    ok, data = cv2.imencode(".jpg", picture_HWC(number, width_px, height_px)[..., ::-1])
    assert ok
    return data.tobytes()


def image_sample(source: str, row: int, caption: str | None = None, content: int | None = None) -> Sample:
    """An ok sample as ingest leaves it, with its picture; samples of equal `content` have equal bytes."""
    data = jpeg(row if content is None else content)
    columns = {
        "source": source,
        "row": row,
        "modality": "image_text",
        "url": f"http://media.example/{source}/{row}.jpg",
        "attempts": 1,
        "http_code": 200,
        "raw_sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "caption": f"picture number {row}" if caption is None else caption,
        "width_px": 64,
        "height_px": 48,
        "original_width_px": 640,
        "original_height_px": 480,
        "phash": row * 0x9E3779B97F4A7C15 % 2**64,
        "channel_mean": [0.5, 0.4, 0.3],
        "channel_std": [0.2, 0.2, 0.1],
    }
    return Sample(sample_key(source, row), {"jpg": data}, columns)


def failed_sample(source: str, row: int, reason: Reason = Reason.HTTP_4XX, detail: str = "404") -> Sample:
    """A sample that could not be had."""
    sample = image_sample(source, row)
    for name in ("width_px", "height_px", "original_width_px", "original_height_px", "phash", "raw_sha256", "bytes"):
        sample.columns[name] = None
    sample.columns["channel_mean"] = sample.columns["channel_std"] = None
    sample.end(reason, detail)
    return sample


def write_staged_shard(
    run: RunFolder,
    shard: int,
    samples: Sequence[Sample],
    similarity: Sequence[float] | None = None,
    own: pa.Table | None = None,
) -> None:
    """Write staged tar, ledger and, with `similarity`, scores/image_text of one shard into a run folder.

    own: the source's own columns, row-aligned with the samples; by default one column `license`.
    """
    if own is None:
        own = pa.table({"license": [f"licence {sample.columns['row'] % 3}" for sample in samples]})
    staged = Path(run.staged(shard))
    staged.parent.mkdir(parents=True, exist_ok=True)
    with staged.open("wb") as file:
        writer = TarWriter(file)
        for sample in samples:
            if sample.is_ok:
                writer.add(sample.key, sample.parts)
        writer.close()
    table = ledger.table_of(samples, own, samples[0].columns["modality"])
    storage.write_whole(run.ledger(shard), ledger.parquet_bytes(table))
    if similarity is not None:
        given = [sample.is_ok for sample in samples]
        scores = pa.table(
            {
                "key": [sample.key for sample in samples],
                "status": pa.array(["ok" if ok else None for ok in given], pa.string()),
                "reason": pa.array(["ok" if ok else None for ok in given], pa.string()),
                "clip_similarity": pa.array(
                    [value if ok else None for value, ok in zip(similarity, given, strict=True)], pa.float32()
                ),
                "image_embedding": pa.array(
                    [
                        [np.float16(value), np.float16(0.5)] if ok else None
                        for value, ok in zip(similarity, given, strict=True)
                    ],
                    pa.list_(pa.float16(), 2),
                ),
            }
        )
        storage.write_whole(run.scores("image_text", shard), ledger.parquet_bytes(scores))


def write_run(root: Path, shards: int = 3, rows_per_shard: int = 20) -> RunFolder:
    """A run folder of a few staged and scored shards: every seventh row failed, every fifth repeats row 0's bytes."""
    run = RunFolder(str(root))
    for shard in range(shards):
        rows = range(shard * rows_per_shard, (shard + 1) * rows_per_shard)
        samples = [
            failed_sample("pictures", row)
            if row % 7 == 3
            else image_sample("pictures", row, content=0 if row % 5 == 0 else row)
            for row in rows
        ]
        write_staged_shard(run, shard, samples, [(row % 10) / 20 for row in rows])
    return run
