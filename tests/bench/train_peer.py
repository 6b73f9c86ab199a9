"""Hugging Face's Trainer on the same model and samples: batches padded to their longest, in random or length order."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset

from mmdata.train.chat import IGNORE, turns_of
from mmdata.train.samples import SampleLoader

BATCH = 8
GROUPED_BATCHES = 50  # within so many batches LengthGroupedSampler sorts by length


class Conversations(Dataset[dict[str, Any]]):
    """Samples of a race as Trainer's users have them: ids and labels made, pictures opened by PIL when asked for.

    Ids and labels are those of mmdata, so that both learn the same tokens.
    """

    def __init__(self, loader: SampleLoader, folder: Path, image_id: int, pictures: Any) -> None:
        self._pictures, self._image_id = pictures, image_id
        self.rows: list[tuple[list[int], list[int], list[Path]]] = []
        reader = loader.reader(0)
        folder.mkdir(parents=True, exist_ok=True)
        for shard in reader.shards:
            for row in range(reader.index(shard).num_rows):
                record = reader.read(shard, row)
                found = []
                for number, medium in enumerate(record.media.get("image", [])):
                    found.append(folder / f"{record.key}-{number}.jpg")
                    found[-1].write_bytes(medium.parts[0][1])
                tokens = {"image": [loader.features(medium, None) for medium in record.media.get("image", [])]}
                encoded = loader.chat.encode(turns_of(record.messages or []), tokens, loader.max_tokens)  # type: ignore[arg-type]
                self.rows.append((encoded.ids, encoded.labels, found))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        ids, labels, paths = self.rows[number]
        pixels = []
        for path in paths:
            with Image.open(path) as picture:
                pixels.append(self._pictures(picture.convert("RGB"), return_tensors="pt")["pixel_values"][0])
        return {
            "input_ids": [self._image_id if token < 0 else token for token in ids],
            "labels": labels,
            "pixels": pixels,
        }

    @property
    def lengths(self) -> list[int]:
        return [len(ids) for ids, _, _ in self.rows]


def padded(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A batch as long as its longest sample."""
    longest = max(len(row["input_ids"]) for row in rows)

    def filled(name: str, blank: int) -> torch.Tensor:
        return torch.tensor([row[name] + [blank] * (longest - len(row[name])) for row in rows])

    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows])
    batch = {"input_ids": filled("input_ids", 0), "labels": filled("labels", IGNORE), "attention_mask": mask}
    pixels = [picture for row in rows for picture in row["pixels"]]
    return {**batch, "pixel_values": torch.stack(pixels)} if pixels else batch


class Outcome:
    """Tokens that are no padding, all tokens, and seconds of an epoch."""

    def __init__(self) -> None:
        self.useful = self.all = 0
        self.seconds = 0.0

    @property
    def speed(self) -> float:
        """Useful tokens/s."""
        return self.useful / self.seconds


def epoch(model: Any, data: Conversations, folder: Path, grouped: bool, seed: int) -> Outcome:
    """An epoch of Trainer; grouped: LengthGroupedSampler, given the lengths, as LLaVA's own trainer does."""
    from transformers import Trainer, TrainingArguments
    from transformers.trainer_pt_utils import LengthGroupedSampler, get_length_grouped_indices

    outcome = Outcome()

    class Grouped(LengthGroupedSampler):
        def __iter__(self) -> Any:
            # Over as many batches as in a large data set; of a small one it would sort each batch by itself.
            order_of: Any = get_length_grouped_indices
            return iter(order_of(self.lengths, self.batch_size, GROUPED_BATCHES, self.generator))

    class Timed(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            if grouped:
                order = torch.Generator().manual_seed(seed)
                return Grouped(BATCH, lengths=data.lengths, generator=order)
            return super()._get_train_sampler(train_dataset)

        def training_step(self, model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
            outcome.useful += int(inputs["attention_mask"].sum())
            outcome.all += inputs["attention_mask"].numel()
            return super().training_step(model, inputs, *more, **named)

    arguments = TrainingArguments(
        output_dir=str(folder), use_cpu=True, per_device_train_batch_size=BATCH, num_train_epochs=1, seed=seed,
        learning_rate=1e-3, lr_scheduler_type="cosine", dataloader_num_workers=2, remove_unused_columns=False,
        report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = Timed(model=model, args=arguments, train_dataset=data, data_collator=padded)
    begun = time.perf_counter()
    trainer.train()
    outcome.seconds = time.perf_counter() - begun
    return outcome
