"""From raw files to shards to both stages to a model that transformers loads, in one go on tiny models."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from PIL import Image

from mmdata.run.pipeline import Places, run_pipeline, verify_dataset
from mmdata.shards import ledger
from mmdata.shards.tar import read_samples
from mmdata.train import journal
from mmdata.train.collate import Batch, pack
from mmdata.train.config import TrainConfig, load
from mmdata.train.engine import train
from mmdata.train.export import export, restored
from mmdata.train.prepared import prepare
from tests.train import tiny

COLOURS = {"red": (220, 40, 30), "green": (40, 200, 60), "blue": (30, 60, 220), "white": (240, 240, 240)}
PICTURES, TALKS = 64, 24
QUESTION = "What is this?"
END = tiny.SPECIAL.index("<|im_end|>")


def write_raw(folder: Path) -> None:
    """Pictures of one colour with captions beside them, two of them broken; conversations about some of them."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    names = list(COLOURS)
    for number in range(PICTURES):
        colour = names[number % 4]
        picture = np.clip(rng.normal(COLOURS[colour], 25, (40, 48, 3)), 0, 255).astype(np.uint8)
        assert cv2.imwrite(str(folder / f"{number:03d}.jpg"), picture[..., ::-1])
        (folder / f"{number:03d}.txt").write_text(f"It is {colour}")
    for number in (7, 30):
        path = folder / f"{number:03d}.jpg"
        path.write_bytes(path.read_bytes()[:150])
    talks = [
        {
            "id": f"talk-{number}",
            "image": f"{number:03d}.jpg",
            "conversations": [
                {"from": "human", "value": f"<image>\n{QUESTION}"},
                {"from": "gpt", "value": f"It is {names[number % 4]}"},
            ],
        }
        for number in range(TALKS)
    ]
    (folder / "talks.json").write_text(json.dumps(talks))


def write_pipeline(tmp_path: Path) -> str:
    tree = {
        "name": "raw",
        "sources": {
            "pictures": {"kind": "image_folder", "path": "raw"},
            "talks": {"kind": "instruct", "path": "raw/talks.json"},
        },
        "stages": [{"decode_image": {"side_px": 32}}, {"decode_document": {"side_px": 32}}],
        "emit": {"samples_per_shard": 20, "formats": ["webdataset"], "val_share": 0.25},
    }
    path = tmp_path / "raw.yaml"
    path.write_text(yaml.safe_dump(tree))
    return str(path)


def write_training(tmp_path: Path, models: Path, dataset: str, name: str, **sections: Any) -> TrainConfig:
    tree: dict[str, Any] = {
        "name": name,
        "seed": 3,
        "stage": name,
        "encoders": {"image": {"model": str(models / "vision"), "layer": -1, "fit": "crop"}},
        "projectors": {"image": {"kind": "mlp"}},
        "machine": {"folder": str(tmp_path / "runs"), "workers": 0, "threads": 1, "device": "cpu"},
        **sections,
    }
    tree["data"] = [{"dataset": dataset, **entry} for entry in sections["data"]]
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return load(path)


def shards_of(dataset: Path) -> dict[str, set[str]]:
    """Keys of all samples by split, from the tars."""
    found: dict[str, set[str]] = {}
    for tar in sorted(dataset.glob("*/*/*.tar")):
        with tar.open("rb") as file:
            found.setdefault(tar.parts[-2], set()).update(key for key, _ in read_samples(file, tar.name))
    return found


def loss_of(model: Any, batch: Batch) -> float:
    with torch.no_grad():
        return float(model(batch)[0]["lm"].mean())


def test_raw_files_become_a_model_that_transformers_loads_and_that_names_pictures_it_never_saw(
    tiny_path: Path, tmp_path: Path
) -> None:
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    write_raw(tmp_path / "raw")
    dataset = tmp_path / "dataset"
    run_pipeline(write_pipeline(tmp_path), [], Places(str(tmp_path / "run"), str(dataset), in_process=True), "emit")
    verify_dataset(str(dataset))
    selections = (tmp_path / "run").glob("selection/*/*.parquet")
    reasons = Counter(reason for path in selections for reason in ledger.read(str(path))["reason"].to_pylist())
    assert sum(reasons.values()) == PICTURES + TALKS
    assert reasons["ok"] == PICTURES - 2 + TALKS - 1, reasons
    keys = shards_of(dataset)
    assert len(keys["train"]) + len(keys["val"]) == reasons["ok"]
    assert min(len(keys["train"]), len(keys["val"])) > 8

    models = tiny.saved(tiny_path)
    llm = {"model": str(models / "llm"), "template": "plain"}
    align = write_training(
        tmp_path, models, str(dataset), "align", llm=llm, data=[{"modality": "image_text"}],
        plan={"tokens_per_pack": 600, "packs_per_step": 1, "epochs": 15}, optimizer={"lr_projector": 1e-2},
    )  # fmt: skip
    train(align)
    first, last = (journal.read(tmp_path / "runs/align" / journal.LOG)[place]["loss"] for place in (0, -1))
    assert last < first - 0.5

    # A base with random weights has no words to steer, so its last layer is tuned too.
    lora = {"r": 8, "lora_alpha": 16, "target_modules": "(?!.*(embed|norm)).*(_proj|lm_head)"}
    instruct = write_training(
        tmp_path, models, str(dataset), "instruct", init=str(tmp_path / "runs/align"),
        llm={**llm, "template": "tokenizer", "train": "lora", "lora": lora},
        data=[{"modality": "instruct"}, {"modality": "image_text", "prompts": [QUESTION]}],
        plan={"tokens_per_pack": 900, "packs_per_step": 1, "epochs": 40},
        optimizer={"lr_llm": 1e-2, "lr_projector": 5e-3},
    )  # fmt: skip
    assert train(instruct).losses["lm"] < 0.2
    seen = {key for line in journal.read(tmp_path / "runs/instruct" / journal.SAMPLES) for key, *_ in line["samples"]}
    assert seen == keys["train"]

    held_out = prepare(
        write_training(
            tmp_path,
            models,
            str(dataset),
            "instruct",
            llm=instruct.to_yaml()["llm"],
            data=[{"modality": "image_text", "split": "val", "prompts": [QUESTION]}],
        )
    )
    model, _ = restored(str(tmp_path / "runs/instruct"))
    samples = [held_out.loader.load(0, 0, row, 0) for row in range(held_out.loader.reader(0).index(0).num_rows)]
    assert {sample.key for sample in samples} <= keys["val"]
    batch = pack(samples)
    real = loss_of(model, batch)
    batch.media["image"].inputs.zero_()
    blind = loss_of(model, batch)
    assert real < 0.3 < blind

    export(str(tmp_path / "runs/instruct"), str(tmp_path / "out"))
    processor: Any = AutoProcessor.from_pretrained(tmp_path / "out/llava")
    llava: Any = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out/llava").eval()
    told = []
    for colour, rgb in COLOURS.items():
        asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": f"\n{QUESTION}"}]}]
        text = processor.apply_chat_template(asked, add_generation_prompt=True)
        inputs = processor(text=text, images=Image.new("RGB", (48, 40), rgb), return_tensors="pt")
        with torch.no_grad():
            ids = llava.generate(**inputs, max_new_tokens=12, do_sample=False, eos_token_id=END)
        answer = processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        told.append((f"It is {colour}", answer))
    assert all(expected == answer for expected, answer in told), told
