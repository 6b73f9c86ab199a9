"""What the first consumer promises: every sample once an epoch, whoever reads it, normalised as the manifest says."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from mmdata.errors import ConfigError, DamageError
from mmdata.train import batches
from mmdata.train.batches import ImageTextBatch, ImageTextDataset, square_HWC
from tests.builders import jpeg, picture_HWC
from tests.train.datasets import MEAN, STD, caption_of, write_dataset

KINDS = ("webdataset", "parquet")


def keys_of(found: list[ImageTextBatch]) -> list[str]:
    return [key for batch in found for key in batch["keys"]]


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_gives_every_sample_once_with_its_own_caption(tmp_path: Path, kind: str) -> None:
    keys = write_dataset(tmp_path, [5, 7, 4], kind)
    dataset = ImageTextDataset(str(tmp_path), batch_size=3, side_px=32, seed=1)
    found = list(dataset)
    assert sorted(keys_of(found)) == keys
    assert keys_of(found) != keys
    assert dataset.num_samples == len(keys)
    for batch in found:
        assert batch["captions"] == [caption_of(int(key[-12:])) for key in batch["keys"]]
        assert batch["pixels"].shape == (len(batch["keys"]), 3, 32, 32)
        assert batch["pixels"].dtype == torch.float32
        assert batch["pixels"].is_contiguous()
    assert [len(batch["keys"]) for batch in found] == [3, 3, 3, 3, 3, 1]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    world_size=st.integers(1, 4),
    workers=st.integers(1, 3),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
    shuffle=st.booleans(),
    kind=st.sampled_from(KINDS),
)
def test_readers_share_the_split_without_loss_or_doubling(
    sizes: list[int], world_size: int, workers: int, seed: int, epoch: int, shuffle: bool, kind: str
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        keys = write_dataset(Path(folder), sizes, kind)
        shares = []
        for rank in range(world_size):
            dataset = ImageTextDataset(
                folder, batch_size=2, side_px=8, seed=seed, shuffle=shuffle, rank=rank, world_size=world_size
            )
            dataset.set_epoch(epoch)
            for worker in range(workers):
                info = type("Info", (), {"num_workers": workers, "id": worker})
                patch.setattr(batches, "get_worker_info", lambda info=info: info)
                shares.append(keys_of(list(dataset)))
        assert sorted(key for share in shares for key in share) == keys
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_loader_workers_and_ranks_together_are_the_split(tmp_path: Path) -> None:
    keys = write_dataset(tmp_path, [6, 5])
    found: list[str] = []
    for rank in range(2):
        dataset = ImageTextDataset(str(tmp_path), batch_size=2, side_px=16, rank=rank, world_size=2)
        found += keys_of(list(DataLoader(dataset, batch_size=None, num_workers=2)))
    assert sorted(found) == keys


def test_the_order_follows_seed_and_epoch_alone(tmp_path: Path) -> None:
    write_dataset(tmp_path, [8, 8])

    def order(seed: int, epoch: int) -> list[str]:
        dataset = ImageTextDataset(str(tmp_path), batch_size=4, side_px=8, seed=seed)
        dataset.set_epoch(epoch)
        return keys_of(list(dataset))

    assert order(3, 1) == order(3, 1)
    assert len({tuple(order(seed, epoch)) for seed in (3, 4) for epoch in (0, 1)}) == 4


def test_workers_that_live_on_see_the_next_epoch(tmp_path: Path) -> None:
    write_dataset(tmp_path, [12])
    dataset = ImageTextDataset(str(tmp_path), batch_size=4, side_px=8)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, persistent_workers=True)
    epochs = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        epochs.append(keys_of(list(loader)))
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1])


def test_pixels_are_normalised_as_the_manifest_says(tmp_path: Path) -> None:
    flat = np.empty((20, 20, 3), np.uint8)
    flat[:] = (255, 0, 51)
    write_dataset(tmp_path, [1], pictures={0: ("png", _encoded(flat, "PNG"))})
    (batch,) = ImageTextDataset(str(tmp_path), side_px=16)
    expected = [(value - mean) / std for value, mean, std in zip((1.0, 0.0, 0.2), MEAN, STD, strict=True)]
    np.testing.assert_allclose(batch["pixels"][0, :, 3, 5], expected, atol=1e-6)


@pytest.mark.parametrize("part", ["jpg", "png", "webp"])
@pytest.mark.parametrize(("width_px", "height_px"), [(64, 48), (300, 401), (20, 30), (32, 32), (500, 40)])
def test_a_square_is_the_middle_of_the_picture(part: str, width_px: int, height_px: int) -> None:
    pixels_HWC = picture_HWC(5, width_px, height_px)
    data = _encoded(pixels_HWC, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[part])
    found = square_HWC(part, data, 32)
    edge = min(width_px, height_px)
    top, left = (height_px - edge) // 2, (width_px - edge) // 2
    whole = Image.open(io.BytesIO(data)).convert("RGB")
    middle = whole.crop((left, top, left + edge, top + edge))
    expected = np.asarray(middle.resize((32, 32), Image.Resampling.BICUBIC), np.int32)
    assert found.shape == (32, 32, 3)
    assert np.abs(found - expected).mean() < 4


def test_pictures_that_cannot_be_decoded_are_skipped_and_told_by_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = {1: ("jpg", jpeg(1)[:300]), 2: ("png", b""), 3: ("webp", b"RIFF"), 9: ("jpg", b"")}
    keys = write_dataset(tmp_path, [6, 4], pictures=broken)
    for shuffle in (False, True):
        found = list(ImageTextDataset(str(tmp_path), batch_size=3, side_px=16, shuffle=shuffle))
        skipped = [key for batch in found for key in batch["skipped"]]
        assert sorted(skipped) == [keys[row] for row in sorted(broken)]
        assert sorted([*keys_of(found), *skipped]) == keys
        assert all(len(batch["keys"]) > 0 for batch in found)
    assert keys[9] in caplog.text


def test_training_steps_lower_the_loss(tmp_path: Path) -> None:
    write_dataset(tmp_path, [8])
    (batch,) = ImageTextDataset(str(tmp_path), batch_size=8, side_px=16)
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 8))
    names = torch.nn.Embedding(len(batch["captions"]), 8)
    optimizer = torch.optim.SGD([*encoder.parameters(), *names.parameters()], lr=0.01)
    pairs = torch.arange(len(batch["captions"]))
    losses = []
    for _ in range(5):
        logits = encoder(batch["pixels"]) @ names(pairs).T
        loss = torch.nn.functional.cross_entropy(logits, pairs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_a_folder_that_is_no_dataset_and_a_missing_split_are_config_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no dataset"):
        ImageTextDataset(str(tmp_path))
    write_dataset(tmp_path, [1])
    with pytest.raises(ConfigError, match="has no image_text/val; it has train"):
        ImageTextDataset(str(tmp_path), split="val")
    with pytest.raises(ConfigError, match="rank: found 2"):
        ImageTextDataset(str(tmp_path), rank=2, world_size=2)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ConfigError, match="is no manifest"):
        ImageTextDataset(str(tmp_path))


def test_a_shard_that_is_cut_is_damage_not_a_skipped_sample(tmp_path: Path) -> None:
    write_dataset(tmp_path, [4])
    tar = tmp_path / "image_text" / "train" / "00000.tar"
    tar.write_bytes(tar.read_bytes()[:1500])
    with pytest.raises(DamageError, match="mmdata verify"):
        list(ImageTextDataset(str(tmp_path), side_px=16))


def _encoded(pixels: np.ndarray, kind: str) -> bytes:
    if kind == "WEBP":
        return cv2.imencode(".webp", pixels[..., ::-1])[1].tobytes()
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()
