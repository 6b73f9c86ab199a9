"""The readers that people use, on an emitted dataset: webdataset, Hugging Face datasets, open_clip's loader."""

from __future__ import annotations

import functools
import inspect
import io
import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmdata.config import EmitOptions
from tests.builders import jpeg, write_run
from tests.emit.emitted import Emitted, emit_run, select_run

Load = Callable[..., Any]
NAMES_IN_JSON = [
    *("caption", "url", "key", "status", "error_message", "width", "height"),
    *("original_width", "original_height", "sha256", "clip_similarity", "extra"),
]


def kept_keys(emitted: Emitted, split: str) -> list[str]:
    files = sorted(emitted.path.glob(f"index/image_text/{split}/*.parquet"))
    return [key for file in files for key in pq.read_table(file)["key"].to_pylist()]


def tars(emitted: Emitted, split: str = "train") -> list[str]:
    return [str(path) for path in sorted(emitted.path.glob(f"image_text/{split}/*.tar"))]


def test_plain_webdataset_reads_every_kept_sample_in_the_order_of_the_index(emitted: Emitted) -> None:
    wds = pytest.importorskip("webdataset")
    samples = list(wds.WebDataset(tars(emitted), shardshuffle=False).decode("pil"))
    assert [sample["__key__"] for sample in samples] == kept_keys(emitted, "train")
    assert len(samples) == 50
    for sample in samples:
        row = int(sample["__key__"].rpartition("-")[2])
        assert {name for name in sample if not name.startswith("__")} == {"jpg", "json", "txt"}
        assert sample["txt"] == f"picture number {row}" == sample["json"]["caption"]
        assert list(sample["json"]) == NAMES_IN_JSON
        assert sample["json"]["status"] == "success"
        assert sample["json"]["clip_similarity"] == np.float32((row % 10) / 20)
        assert json.loads(sample["json"]["extra"]) == {"license": f"licence {row % 3}"}
        assert sample["jpg"].size == (64, 48)


@pytest.fixture
def load_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()

    def load(*args: object, **options: object) -> Any:
        return datasets.load_dataset(*args, cache_dir=str(tmp_path / "cache"), **options)

    return load


def test_load_dataset_by_the_card_gives_pictures_and_captions(emitted: Emitted, load_dataset: Load) -> None:
    dataset = load_dataset(emitted.root, "image_text")
    assert {split: part.num_rows for split, part in dataset.items()} == {"train": 50, "val": 11}
    assert dataset["train"]["key"][:] == kept_keys(emitted, "train")
    sample = dataset["train"][0]
    row = int(sample["key"].rpartition("-")[2])
    assert isinstance(sample["image"], Image.Image)
    assert np.array_equal(np.array(sample["image"]), np.array(Image.open(io.BytesIO(jpeg(0 if row % 5 == 0 else row)))))
    assert sample["caption"] == f"picture number {row}"
    assert sample["messages"][1]["content"][0]["text"] == sample["caption"]
    assert (sample["width_px"], sample["height_px"]) == (64, 48)


@pytest.mark.parametrize(
    ("builder", "files"),
    [("parquet", "parquet/image_text/train/*.parquet"), ("webdataset", "image_text/train/*.tar")],
)
def test_load_dataset_reads_the_files_of_either_format(
    emitted: Emitted, load_dataset: Load, builder: str, files: str
) -> None:
    dataset = load_dataset(builder, data_files={"train": f"{emitted.root}/{files}"}, split="train")
    assert dataset.num_rows == 50
    key, image = ("key", "image") if builder == "parquet" else ("__key__", "jpg")
    assert list(dataset[key]) == kept_keys(emitted, "train")
    assert dataset[0][image].size == (64, 48)


def test_the_card_names_the_tars_where_only_webdataset_is_emitted(tmp_path: Path, load_dataset: Load) -> None:
    run = write_run(tmp_path / "run", shards=2)
    counts = select_run(run, 2, tmp_path / "select")
    options = EmitOptions(formats=["webdataset"])
    emitted = emit_run(run, tmp_path / "dataset", counts, options, shards=2)
    dataset = load_dataset(emitted.root, "image_text")
    assert dataset["train"].num_rows + dataset["val"].num_rows == counts.num_kept
    assert dataset["train"][0]["json"]["status"] == "success"


def test_open_clips_training_loader_reads_the_tars_and_their_sizes(
    emitted: Emitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("open_clip_train")
    torch = pytest.importorskip("torch")
    from open_clip_train import data as loader

    # open_clip wants webdataset <= 0.2.86: later ones end every tar with an empty marker that its reader does not
    # know, whatever the tar (webdataset issue 384). With a later one the advice there is to leave the marker out.
    if "eof_value" in inspect.signature(loader.tar_file_expander).parameters:
        expander = functools.partial(loader.tar_file_expander, eof_value=None)
        monkeypatch.setattr(loader, "tar_file_expander", expander)

    args = Namespace(
        train_data=f"{emitted.root}/image_text/train/{{00000..00004}}.tar",
        val_data=f"{emitted.root}/image_text/val/{{00000..00002}}.tar",
        dataset_type="webdataset",
        train_num_samples=None,
        val_num_samples=None,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        imagenet_val=None,
        imagenet_v2=None,
        seed=0,
        workers=0,
        batch_size=10,
        world_size=1,
        distributed=False,
    )

    def pixels_CHW(image: Image.Image) -> Any:
        return torch.from_numpy(np.array(image).transpose(2, 0, 1).copy())

    def tokens(text: str) -> Any:
        return torch.tensor([[int(text.rpartition(" ")[2])]])

    data = loader.get_data(args, (pixels_CHW, pixels_CHW), epoch=0, tokenizer=tokens)
    assert data["train"].dataloader.num_samples == 50
    batches = list(data["train"].dataloader)
    assert [tuple(images.shape) for images, _ in batches] == [(10, 3, 48, 64)] * 5
    rows = sorted(int(row) for _, texts in batches for row in texts)
    assert rows == sorted(int(key.rpartition("-")[2]) for key in kept_keys(emitted, "train"))
    val = sorted(int(row) for _, texts in data["val"].dataloader for row in texts)
    assert val == sorted(int(key.rpartition("-")[2]) for key in kept_keys(emitted, "val"))


def test_importing_emit_loads_neither_ray_nor_torch_nor_duckdb() -> None:
    code = (
        "import sys, mmdata.emit.window, mmdata.emit.manifest, mmdata.emit.verify, mmdata.select.selection\n"
        "print([name for name in ('ray', 'torch', 'duckdb', 'pandas', 'cv2') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert out.stdout.strip() == "[]"
