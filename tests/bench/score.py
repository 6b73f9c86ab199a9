"""How much of the bare model's speed is left when pictures come as JPEG files: `python -m tests.bench.score [MODEL]`.

Paired: every round times the bare towers on tensors in memory, then the scorer from JPEG bytes and captions to columns,
with the same model, precision, threads, batch shape and memory order.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

from mmdata.sample import Sample
from mmdata.score.image_text import ImageText
from tests.builders import jpeg


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
            encoder.embed(pixels_BCHW, tokens_BL)[0].sum().item()

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


def main() -> None:
    """Print the measurement as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="local-dir:../shared/models/clip-standin")
    parser.add_argument("--pretrained", default="")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", help="folder of JPEGs, resized to 256 px first; without it pictures are drawn")
    given = parser.parse_args()
    number = given.batch_size * given.batches
    data = _photos(given.photos, number) if given.photos else pictures(number)
    stage = ImageText(
        model=given.model, pretrained=given.pretrained, batch_size=given.batch_size, threads=given.threads
    )
    stage.setup()
    print(json.dumps(measure(stage, data, given.rounds)))


def _photos(folder: str, number: int, side_px: int = 256) -> list[bytes]:
    """The folder's JPEGs, resized to a shorter side of side_px at quality 95, repeated up to `number`."""
    from pathlib import Path

    import cv2

    resized = []
    for path in sorted(Path(folder).glob("*.jpg"))[:number]:
        pixels = cv2.imread(str(path))
        factor = side_px / min(pixels.shape[:2])
        pixels = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        resized.append(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    return [resized[index % len(resized)] for index in range(number)]


if __name__ == "__main__":
    main()
