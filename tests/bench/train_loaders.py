"""The trainer's loaders alone, on one core: against the usual webdataset recipe and a bare loop that decodes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import torch

from mmdata.train.batches import ImageTextDataset
from mmdata.train.config import load
from mmdata.train.dataset import batches
from mmdata.train.pictures import decode_HWC, fit_HWC
from mmdata.train.prepared import Prepared, prepare
from tests.bench.table import Row

ROOT = Path(__file__).parents[2]
ALIGN = ROOT / "pipelines" / "train" / "align.yaml"
SIDE_PX = 224
BATCH = 32
ROUNDS = 15  # a minute; with 7 the ratios still differ by a tenth from run to run


def _rate(turn: Callable[[], int]) -> float:
    """Samples a second of one core's time: all of them work in this thread alone."""
    begun = time.process_time()
    return turn() / (time.process_time() - begun)


def rows(folder: Path) -> list[Row]:
    """Samples/s and core of both loaders, each against the recipe, which does the same work, and the bare loop."""
    config = load(ALIGN, [f"machine.folder={folder / 'runs'}", "machine.workers=0", "plan.epochs=1", "augment={}"])
    prepared = prepare(config)
    data = config.data[0]
    tars = [str(path) for path in sorted((Path(data.dataset) / data.modality / data.split).glob("*.tar"))]
    held = _held(prepared)
    dataset = ImageTextDataset(data.dataset, split=data.split, batch_size=BATCH, side_px=SIDE_PX)
    turns: dict[str, Callable[[], int]] = {
        "packs": lambda: sum(
            len(pack.keys) for pack in batches(prepared.loader, prepared.plan, config.machine, 0, 0, 1, False)
        ),
        "recipe with tokens": lambda: _recipe(tars, prepared.tokenizer),
        "bare, padded": lambda: _bare(held, prepared.tokenizer.backend_tokenizer),
        "batches": lambda: sum(len(batch["keys"]) for batch in dataset),
        "recipe": lambda: _recipe(tars, None),
        "bare, cropped": lambda: _bare(held, None),
    }
    threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        rates: dict[str, list[float]] = {name: [] for name in turns}
        for number in range(ROUNDS + 1):
            for name in list(turns)[:: -1 if number % 2 else 1]:
                found = _rate(turns[name])
                if number:  # the first round opens files and warms caches
                    rates[name].append(found)
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv2_threads)

    def row(what: str, ours: str, peer: str, said: str, promised: float) -> Row:
        ratio = statistics.median(a / b for a, b in zip(rates[ours], rates[peer], strict=True))
        mine, theirs = (f"{statistics.median(rates[name]):.0f}" for name in (ours, peer))
        return Row(what, f"{mine} samples/s", f"{said} {theirs}", ratio, promised)

    recipe, bare = "webdataset + PIL + torchvision", "bare loop over bytes in memory: decode, resize"
    return [
        row("packs with tokens, one core, demo", "packs", "recipe with tokens", f"{recipe}, tokens", 1.5),
        row("the same", "packs", "bare, padded", f"{bare}, tokenise", 0.9),
        row("ImageTextDataset, normalised float batches, one core, demo", "batches", "recipe", recipe, 1.5),
        row("the same", "batches", "bare, cropped", f"{bare}, normalise", 0.9),
    ]


def _held(prepared: Prepared) -> list[tuple[str, bytes, str]]:
    reader = prepared.loader.reader(0)
    places = [(shard, row) for shard in reader.shards for row in range(len(reader.places(shard)))]
    records = [reader.read(*place) for place in places]
    return [(*record.media["image"][0].parts[0], record.caption) for record in records]


def _bare(held: list[tuple[str, bytes, str]], tokenizer: Any) -> int:
    """What cannot be left out for a sample: pixels and tokens, or normalised pixels; nothing is read or batched."""
    for part, data, caption in held:
        image_HWC = fit_HWC(decode_HWC(part, data, SIDE_PX), SIDE_PX, "pad" if tokenizer else "crop")
        if tokenizer:
            tokenizer.encode(caption, add_special_tokens=False)
        else:
            pixels_CHW = torch.from_numpy(image_HWC).permute(2, 0, 1)
            pixels_CHW.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)
    return len(held)


def _recipe(tars: list[str], tokenizer: Any) -> int:
    import webdataset as wds
    from torchvision import transforms

    as_trained = transforms.Compose(
        [
            transforms.Resize(SIDE_PX, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(SIDE_PX),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )
    read: Any = wds.WebDataset(tars, shardshuffle=False).decode("pilrgb").to_tuple("jpg", "txt")
    words = (lambda text: tokenizer(text).input_ids) if tokenizer else (lambda text: text)
    return sum(len(pixels) for pixels, _ in read.map_tuple(as_trained, words).batched(BATCH))
