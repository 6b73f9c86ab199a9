"""How much of the bare model's speed is left when pictures come as JPEG files.

Paired: every round times the bare towers on tensors in memory, then the scorer from JPEG bytes and captions to columns,
with the same model, precision, threads, batch shape and memory order.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmdata.sample import Sample
from mmdata.score.image_text import ImageText
from tests.bench.table import Row
from tests.builders import jpeg

ENCODER = Path(__file__).parents[2] / "pipelines" / "demo" / "encoder" / "checkpoint"
BATCH_SIZE = 16
BATCHES = 12
ROUNDS = 5


def pictures(number: int, side_px: int = 256) -> list[bytes]:
    """Drawn pictures of 4:3 with their shorter side side_px, as JPEG."""
    return [jpeg(index, side_px * 4 // 3, side_px) for index in range(number)]


def shard_of(data: list[bytes]) -> list[Sample]:
    """The pictures as ok samples with captions."""
    return [
        Sample(f"bench-{row:012d}", {"jpg": picture}, {"caption": f"a photograph of thing number {row} on a table"})
        for row, picture in enumerate(data)
    ]


def measure(stage: ImageText, data: list[bytes], rounds: int = 5) -> dict[str, Any]:
    """Images/s of the bare model, of the scorer, and the ratio of each pair; medians. `stage` must be set up."""
    encoder, size = stage._encoder, stage.batch_size
    batches = [stage.prepare(shard_of(data[start : start + size])) for start in range(0, len(data), size)]
    in_memory = [
        (encoder.normalise(batch.pixels) if stage._on_cuda else batch.pixels, batch.tokens_BL.to(encoder.device))
        for batch in batches
    ]

    def bare() -> None:
        for pixels_BCHW, tokens_BL in in_memory:
            (encoder.embed_images(pixels_BCHW) * encoder.embed_texts(tokens_BL)).sum().item()

    def scored() -> None:
        assert all(sample.is_ok for sample in stage.process_shard(shard_of(data)))

    pairs, cpu_ratios = [], []
    for number in range(rounds + 1):
        # The order changes from round to round, so that a machine that warms up or slows down favours neither.
        spent = {work: _seconds(work) for work in ((bare, scored) if number % 2 else (scored, bare))}
        if number:  # the first pair warms up
            pairs.append((len(data) / spent[bare][0], len(data) / spent[scored][0]))
            cpu_ratios.append(spent[bare][1] / spent[scored][1])
    return {
        "bare_images_per_s": round(statistics.median(pair[0] for pair in pairs), 2),
        "scored_images_per_s": round(statistics.median(pair[1] for pair in pairs), 2),
        "ratio": round(statistics.median(pair[1] / pair[0] for pair in pairs), 3),
        # With an actor on every core, decoding has none for itself: then processor seconds count, not the clock.
        "cpu_ratio": round(statistics.median(cpu_ratios), 3),
        "ratios": [round(pair[1] / pair[0], 3) for pair in pairs],
        "pictures": len(data),
        "batch_size": stage.batch_size,
        "threads": stage.threads,
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores usable",
        **stage.facts(),
    }


def _seconds(work: Callable[[], None]) -> tuple[float, float]:
    """By the clock, and of all processors together."""
    start, start_cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - start_cpu


def rows(folder: Path) -> list[Row]:
    """The row of the README's table: the demo's encoder on pictures of 256 px."""
    stage = ImageText(model=f"local-dir:{ENCODER}", batch_size=BATCH_SIZE)
    stage.setup()
    found = measure(stage, pictures(BATCH_SIZE * BATCHES), ROUNDS)
    bare = f"bare model {found['bare_images_per_s']:.1f} images/s"
    return [
        Row(
            "similarity, one thread, from JPEG",
            f"{found['scored_images_per_s']:.1f} images/s",
            bare,
            found["ratio"],
            0.9,
        )
    ]
