"""Batches of pictures and captions from an emitted dataset: the first consumer of `index/` and `manifest.json`.

    dataset = ImageTextDataset("datasets/demo", batch_size=64, side_px=224, seed=17)
    for epoch in range(3):
        dataset.set_epoch(epoch)
        for batch in DataLoader(dataset, batch_size=None, num_workers=2):
            ...

Shape suffixes: B batch, C channels, H height, W width. All pictures here are side_px x side_px.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any, TypedDict

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from torch.utils.data import IterableDataset, get_worker_info

from mmdata.errors import ConfigError, DamageError
from mmdata.sample import IMAGE_PARTS
from mmdata.shards import ledger, storage
from mmdata.shards.folders import DatasetFolder, shard_number
from mmdata.train.pictures import decode_HWC, fit_HWC
from mmdata.train.places import Places, read_parts, row_order

_log = logging.getLogger(__name__)
_INDEX_COLUMNS = ("key", "parts", "row_group", "row")
_READ = (*IMAGE_PARTS, "txt")


class ImageTextBatch(TypedDict):
    """pixels: float32 [B, 3, H, W], normalised as the manifest says. captions, keys: one a picture.

    skipped: keys of samples whose picture could not be decoded, met since the batch before.
    """

    pixels: torch.Tensor
    captions: list[str]
    keys: list[str]
    skipped: list[str]


class ImageTextDataset(IterableDataset[ImageTextBatch]):
    """Every sample of one split once an epoch, shuffled by (seed, epoch), shared out over ranks and loader workers.

    Readers (ranks x workers) take turns sample by sample over one common order, so their shares differ by one sample at
    most and together are the split exactly. For a DataLoader with batch_size=None. `root` may be an fsspec URL.
    Raises ConfigError where `root` is no dataset or has no such split.
    """

    def __init__(
        self,
        root: str,
        *,
        split: str = "train",
        batch_size: int = 64,
        side_px: int = 224,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        modality: str = "image_text",
    ) -> None:
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank: found {rank}, allowed is 0 to {world_size - 1} (world_size {world_size})")
        self._folder = DatasetFolder(root)
        manifest = _manifest(self._folder)
        by_split = manifest["samples"].get(modality, {})
        if split not in by_split:
            raise ConfigError(f"{root}: has no {modality}/{split}; it has {', '.join(by_split) or 'nothing of it'}")
        self.num_samples = int(by_split[split]["samples"])
        self.split, self.modality = split, modality
        self.batch_size, self.side_px = batch_size, side_px
        self.seed, self.shuffle = seed, shuffle
        self.rank, self.world_size = rank, world_size
        # What becomes of each of the 256 values of a byte: to the manifest's range, normalised.
        low, high = manifest["normalise"]["range"]
        mean_C1, std_C1 = (np.array(manifest["normalise"][name], np.float64)[:, None] for name in ("mean", "std"))
        self._values_CV = ((np.arange(256) / 255 * (high - low) + low - mean_C1) / std_C1).astype(np.float32)
        # In shared memory, so that workers that live on from epoch to epoch see set_epoch.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration; the same on every rank."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[ImageTextBatch]:
        rows: list[tuple[str, str, np.ndarray]] = []
        skipped: list[str] = []
        held: ImageTextBatch | None = None  # so that what is skipped at the very end has a batch to be told by
        for key, caption, part, data in self._samples():
            try:
                rows.append((key, caption, square_HWC(part, data, self.side_px)))
            except (ValueError, cv2.error) as error:
                _log.warning("%s: skipped, its picture cannot be decoded: %s", key, error)
                skipped.append(key)
            if len(rows) == self.batch_size:
                if held is not None:
                    yield held
                held, rows, skipped = self._batch(rows, skipped), [], []
        if rows:
            if held is not None:
                yield held
            held, skipped = self._batch(rows, skipped), []
        if held is not None:
            held["skipped"] += skipped
            yield held

    def _batch(self, rows: list[tuple[str, str, np.ndarray]], skipped: list[str]) -> ImageTextBatch:
        pixels_BCHW = np.empty((len(rows), 3, self.side_px, self.side_px), np.float32)
        for (_, _, picture_HWC), pixels_CHW in zip(rows, pixels_BCHW, strict=True):
            # Looked up plane by plane, pixels stay in the processor's cache: a quarter of the time of arithmetic.
            for plane_HW, values_V, target_HW in zip(cv2.split(picture_HWC), self._values_CV, pixels_CHW, strict=True):
                cv2.LUT(plane_HW, values_V, target_HW)
        return {
            "pixels": torch.from_numpy(pixels_BCHW),
            "captions": [caption for _, caption, _ in rows],
            "keys": [key for key, _, _ in rows],
            "skipped": skipped,
        }

    def _samples(self) -> Iterator[tuple[str, str, str, bytes]]:
        """Key, caption, extension and bytes of this reader's pictures."""
        worker = get_worker_info()
        workers, worker_id = (worker.num_workers, worker.id) if worker is not None else (1, 0)
        readers, reader = self.world_size * workers, self.rank * workers + worker_id
        rng = np.random.default_rng([self.seed, int(self._epoch[0])])
        position = 0  # of the shard's first sample in the common order
        for shard in self._shards(rng):
            path = self._folder.path(DatasetFolder.index(self.modality, self.split, shard))
            places = Places(ledger.read(path, _INDEX_COLUMNS))
            mine = row_order(places, rng if self.shuffle else None)[(reader - position) % readers :: readers]
            position += len(places)
            if not mine:
                continue
            read, folder = (_from_tar, DatasetFolder.tar) if places.is_tar else (_from_parquet, DatasetFolder.parquet)
            yield from read(self._folder.path(folder(self.modality, self.split, shard)), places, mine)

    def _shards(self, rng: np.random.Generator) -> list[int]:
        folder = self._folder.path(f"index/{self.modality}/{self.split}")
        names = [name for name in storage.list_names(folder) if name.endswith(".parquet")]
        numbers = sorted(number for name in names if (number := shard_number(name)) is not None)
        return [int(number) for number in rng.permutation(numbers)] if self.shuffle else numbers


def square_HWC(part: str, data: bytes, side_px: int) -> np.ndarray:
    """The middle square of a picture at side_px x side_px: uint8 RGB. Raises ValueError where it cannot be decoded."""
    return fit_HWC(decode_HWC(part, data, side_px), side_px, "crop")


def _manifest(folder: DatasetFolder) -> dict[str, Any]:
    try:
        manifest = json.loads(storage.read_bytes(folder.manifest))
        if not {"samples", "normalise"} <= manifest.keys():
            raise ValueError("lacks samples or normalise")
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{folder.root}: is no dataset: it has no manifest.json") from None
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{folder.manifest}: is no manifest of a dataset: {error}") from None
    return dict(manifest)


def _from_tar(path: str, places: Places, rows: list[int]) -> Iterator[tuple[str, str, str, bytes]]:
    with storage.open_input(path) as file:
        for row in rows:
            parts = [part for part in places.parts(row) if part[0] in _READ]
            part = next((name for name in IMAGE_PARTS if any(name == there for there, _, _ in parts)), None)
            if part is None:
                raise DamageError(f"{path}: {places.keys[row]} has no picture; run `mmdata verify`")
            try:
                read = read_parts(file, parts)
            except EOFError:
                raise DamageError(f"{path}: ends within {places.keys[row]}; run `mmdata verify`") from None
            yield places.keys[row], read.get("txt", b"").decode("utf-8", "replace"), part, read[part]


def _from_parquet(path: str, places: Places, rows: list[int]) -> Iterator[tuple[str, str, str, bytes]]:
    with storage.open_input(path) as source:
        file = pq.ParquetFile(source)
        group, held = -1, None
        for row in rows:
            if held is None or places.row_groups[row] != group:
                group = int(places.row_groups[row])
                held = file.read_row_group(group, columns=["image", "caption"])
            at = int(places.rows[row])
            picture, caption = held["image"][at].as_py(), held["caption"][at].as_py()
            yield places.keys[row], caption or "", picture["path"].rpartition(".")[2], picture["bytes"]
