"""What the media-blind probe promises: losses as training counts them, and blank media that show nothing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdata.evaluate.blind import blind_losses, blinded, held_out_packs, sample_losses
from mmdata.evaluate.questions import entries_of
from mmdata.train import engine
from mmdata.train.restore import Restored, restore
from mmdata.train.sections import DataOptions
from tests.builders import jpeg
from tests.train import shelf, tiny


@pytest.fixture(scope="module")
def model(learned: Path) -> Restored:
    return restore(str(learned))


def test_who_has_learned_to_look_loses_by_blank_pictures(model: Restored) -> None:
    packs = list(held_out_packs(model, entries_of(model.config, "", "val")))
    [(place, found)] = blind_losses(model, packs).items()
    assert place == ("image_text", "made")
    assert found.samples == 8  # the ninth is no picture
    # Who sees the same for eight different captions loses at least log 8 a caption.
    assert found.loss < math.log(8) * found.samples / found.labels < found.blind_loss


def test_a_model_that_has_not_begun_gains_nothing(learned: Path, model: Restored) -> None:
    before = restore(str(learned), trained=False)
    packs = list(held_out_packs(before, entries_of(model.config, "", "val")))
    [found] = blind_losses(before, packs).values()
    assert found.loss == pytest.approx(found.blind_loss, rel=0.1)


def test_losses_are_those_of_training(model: Restored) -> None:
    [pack] = held_out_packs(model, entries_of(model.config, "", "val"))
    with torch.no_grad():
        lm = model.model(pack)[0]["lm"]
    [found] = blind_losses(model, [pack]).values()
    assert found.labels == len(lm) == pack.num_labels
    assert found.loss == pytest.approx(float(lm.mean()), rel=1e-5)
    assert float(sample_losses(model, pack).sum()) == pytest.approx(float(lm.sum()), rel=1e-5)


def test_so_many_samples_are_drawn_by_the_seed(model: Restored) -> None:
    entries = entries_of(model.config, "", "train")
    few = restore(str(model.folder), ["plan.tokens_per_pack=64"])
    keys = [[key for pack in held_out_packs(few, entries, 3, seed) for key in pack.keys] for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
    assert 3 <= len(keys[0]) < 8


def test_blank_media_of_every_kind_are_alike_and_text_alone_is_not_asked(tiny_path: Path, tmp_path: Path) -> None:
    frames = {f"{number:03d}.jpg": jpeg(number) for number in range(3)}
    told = [
        shelf.Written("v-0", "a film", parts=frames, times_s=[0.0, 1.0, 2.0], source="films"),
        shelf.Written("a-0", "a sound", parts={"flac": shelf.flac(0.7)}, duration_s=0.7, source="sounds"),
        shelf.Written("t-0", messages=shelf.asked([shelf.text("Why?")], "So."), source="texts"),
    ]
    modalities = ["video_text", "audio_text", "instruct"]
    for modality, sample in zip(modalities, told, strict=True):
        shelf.write(tmp_path / "all", modality, [sample])
    data = [{"dataset": str(tmp_path / "all"), "modality": modality} for modality in modalities]
    config = tiny.config(
        tiny_path, "", kinds=("image", "video", "audio"), data=data, plan={"max_steps": 1},
        machine={"folder": str(tmp_path)},
    )  # fmt: skip
    restored = restore(str(engine.train(config).folder))
    entries = [DataOptions(**entry) for entry in data]
    packs = list(held_out_packs(restored, entries))
    for pack in packs:
        for kind, media in blinded(restored, pack).media.items():
            assert media.inputs.shape == pack.media[kind].inputs.shape
            assert media.inputs.dtype == pack.media[kind].inputs.dtype
            colours = np.unique(media.inputs.reshape(-1, 3 if kind == "video" else 1), axis=0)
            assert colours.tolist() == ([[123, 117, 104]] if kind == "video" else [[0.0]])
    found = blind_losses(restored, packs)
    assert set(found) == {("video_text", "films"), ("audio_text", "sounds")}
    assert all(of.samples == 1 and of.loss != of.blind_loss for of in found.values())
