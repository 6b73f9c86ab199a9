"""Samples of every modality as ingest leaves them, with real media, and a run of all of them emitted together."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import soundfile

from mmdata.config import EmitOptions
from mmdata.emit.plan import StagedShard
from mmdata.sample import Sample, sample_key
from mmdata.select.counts import SelectionCounts
from mmdata.select.selection import select
from mmdata.select.tables import ShardTables
from mmdata.shards import ledger, storage
from mmdata.shards.folders import RunFolder
from mmdata.shards.tar import TarWriter
from tests.builders import image_sample, jpeg, picture_HWC
from tests.emit.emitted import SEED, Emitted, emit_staged

RATE_HZ, FPS = 16_000, 10


@dataclass(frozen=True)
class Annotator:
    """What emit asks of a stage: the modalities it is for, and what it writes."""

    modalities: frozenset[str]
    writes: frozenset[str]

    @classmethod
    def of(cls, modalities: str, writes: str) -> Any:
        return cls(frozenset(modalities.split()), frozenset(writes.split()))


STAGES: list[Any] = [
    Annotator.of("video_text", "frames frame_times_s has_sound motion"),
    Annotator.of("audio_text", "snr_db audio_codec duration_s"),
    Annotator.of("interleaved instruct", "media_reasons num_images"),
]


def wave_T(number: int, seconds: float = 0.5) -> np.ndarray:
    """A tone whose pitch tells its number; float32."""
    time_T = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (0.3 * np.sin(2 * np.pi * (200 + 50 * number) * time_T)).astype(np.float32)


def flac(number: int, seconds: float = 0.5) -> bytes:
    sink = io.BytesIO()
    soundfile.write(sink, wave_T(number, seconds), RATE_HZ, format="FLAC", subtype="PCM_16")
    return sink.getvalue()


def mp4(number: int, frames: int = 10) -> bytes:
    """A still of 64 x 48 px at 10 frames a second."""
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture_HWC(number), format="rgb24")))
        container.mux(stream.encode(None))
    return sink.getvalue()


def npy(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def mel(number: int, frames: int = 51) -> np.ndarray:
    """Stands for log-Mel features: float16 [80, frames]."""
    return np.full((80, frames), number, np.float16)


def _sample(modality: str, row: int, parts: dict[str, bytes], **columns: Any) -> Sample:
    source = modality.replace("_", "-")
    ours = {
        "source": source,
        "row": row,
        "modality": modality,
        "url": f"http://media.example/{source}/{row}",
        "raw_sha256": hashlib.sha256(f"{modality}{row}".encode()).hexdigest(),
        "bytes": 1000 + row,
        "language": "en",
    }
    return Sample(sample_key(source, row), parts, ours | columns)


def video_sample(row: int, frames: int = 3, *, with_sound: bool = True) -> Sample:
    """A clip as MP4, with frames and, if wanted, its sound."""
    parts = {"mp4": mp4(row)} | {f"{number:03d}.jpg": jpeg(100 * row + number) for number in range(frames)}
    if with_sound:
        parts["flac"] = flac(row, 1.0)
    return _sample(
        "video_text",
        row,
        parts,
        caption=f"clip number {row}",
        width_px=64,
        height_px=48,
        original_width_px=640,
        original_height_px=480,
        duration_s=1.0,
        fps=float(FPS),
        num_frames=10,
        sample_rate_hz=RATE_HZ if with_sound else None,
        frame_times_s=[number / 4 for number in range(frames)] if row else None,
        has_sound=with_sound,
        motion=None if row == 1 else row / 8,
    )


def audio_sample(row: int) -> Sample:
    """Half a second of sound with Mel features; every second one is Chinese."""
    return _sample(
        "audio_text",
        row,
        {"flac": flac(row), "mel.npy": npy(mel(row))},
        caption="六十四" if row % 2 else f"the tone of {row}",
        language="zh" if row % 2 else "en",
        duration_s=0.5,
        sample_rate_hz=RATE_HZ,
        num_mel_frames=51,
        snr_db=None if row == 0 else 10.0 + row,
        audio_codec="flac",
    )


def conversation(row: int, images: int) -> list[dict[str, Any]]:
    """A question about the images, and an answer."""
    asked = [{"type": "image"}] * images + [{"type": "text", "text": f"What is number {row}?"}]
    told = [{"type": "text", "text": f"It is {row}."}]
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]


def document(modality: str, row: int, images: int) -> Sample:
    """A document or an instruction with so many images; with none it is text alone."""
    parts = {f"{number:03d}.jpg": jpeg(1000 + 10 * row + number) for number in range(images)}
    messages = conversation(row, images)
    if modality == "interleaved":
        messages = [{"role": "assistant", "content": [piece for each in messages for piece in each["content"]]}]
    return _sample(
        modality, row, parts, num_images=images, messages=json.dumps(messages), media_reasons=["ok"] * images or None
    )


@dataclass(frozen=True)
class Mixed:
    """A run of all modalities and what it was emitted as."""

    run: RunFolder
    counts: SelectionCounts
    emitted: Emitted
    samples: dict[str, Sample]

    @property
    def path(self) -> Path:
        return self.emitted.path


def shards_of_all() -> list[list[Sample]]:
    """Two staged shards of each modality; sets of parts differ within them."""
    return [
        [image_sample("pictures", row) for row in range(6)],
        [video_sample(row, 3) for row in range(3)],
        [video_sample(row, 2 + row % 2, with_sound=False) for row in range(3, 6)],
        [audio_sample(row) for row in range(4)],
        [audio_sample(row) for row in range(4, 8)],
        [document("interleaved", row, 1 + row % 2) for row in range(4)],
        [document("interleaved", row, 3) for row in range(4, 6)],
        [document("instruct", row, row % 2) for row in range(6)],
    ]


def staged_shard(run: RunFolder, shard: int) -> StagedShard:
    return StagedShard(shard, run.staged(shard), run.ledger(shard), run.selection("s", shard))


def write_shards(
    run: RunFolder, shards: Sequence[Sequence[Sample]], scratch: Path, stages: Sequence[Any] = STAGES
) -> SelectionCounts:
    """Staged tars, ledgers with the annotations of the stages, and a selection that keeps everything."""
    written = {name for stage in stages for name in stage.writes}
    for number, samples in enumerate(shards):
        path = Path(run.staged(number))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            writer = TarWriter(file)
            for sample in samples:
                writer.add(sample.key, sample.parts)
            writer.close()
        own = pa.table({"license": [f"licence {number}"] * len(samples)})
        table = ledger.table_of(samples, own, samples[0].columns["modality"], written)
        storage.write_whole(run.ledger(number), ledger.parquet_bytes(table))
    return select(
        [ShardTables(number, run.ledger(number)) for number in range(len(shards))],
        [],
        seed=SEED,
        val_share=0.0,
        scratch=scratch,
        write=lambda shard, table: storage.write_whole(run.selection("s", shard), ledger.parquet_bytes(table)),
    )


def emit_all(folder: Path, shards: Sequence[Sequence[Sample]], options: EmitOptions, stages: Sequence[Any]) -> Mixed:
    """Write the shards as a run below `folder`, emit it, and give both."""
    run = RunFolder(str(folder / "run"))
    counts = write_shards(run, shards, folder / "select", stages)
    staged = [staged_shard(run, number) for number in range(len(shards))]
    emitted = emit_staged(staged, folder / "dataset", counts, options, stages=stages)
    return Mixed(run, counts, emitted, {sample.key: sample for samples in shards for sample in samples})
