"""What the model promises: samples of a pack do not see each other, whatever the attention, media and projector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mmdata.errors import ConfigError
from mmdata.train import prepared as before
from mmdata.train.chat import IGNORE
from mmdata.train.collate import Batch, pack
from mmdata.train.config import TrainConfig
from mmdata.train.dist import Dist
from mmdata.train.model import MultimodalLM, load_llm
from mmdata.train.objectives import counts
from mmdata.train.restore import built
from mmdata.train.samples import Prepared
from tests.train import shelf, tiny
from tests.train.shelf import asked, text

PROJECTORS = ("linear", "mlp", "pixel_shuffle", "cross_attention", "qformer")


def model_of(config: TrainConfig) -> tuple[MultimodalLM, before.Prepared]:
    prepared = before.prepare(config)
    torch.manual_seed(config.seed)
    blank = before.blank_id(prepared.tokenizer)
    return MultimodalLM(config, prepared.specs, load_llm(config.llm), blank, Dist()), prepared


def mixed(root: Path) -> str:
    """Conversations with two pictures, one, sound, a picture and a sound, and none."""
    media = {"000.jpg": shelf.jpeg(1), "001.jpg": shelf.jpeg(2)}
    sound = {"flac": shelf.flac(0.7, 1)}
    image, audio = {"type": "image"}, {"type": "audio"}
    samples = [
        shelf.Written("m-1", messages=asked([image, text("or"), image, text("?")], "the first"), parts=media),
        shelf.Written("m-2", messages=asked([text("Why?")], "Because of that."), parts={}),
        shelf.Written("m-3", messages=asked([audio, text("Said?")], "one two"), parts=sound, duration_s=0.7),
        shelf.Written(
            "m-4", messages=asked([image, audio], "both"), parts={"jpg": shelf.jpeg(3), **sound}, duration_s=0.7
        ),
        shelf.Written("m-5", messages=asked([image, text("What?")], "a thing"), parts={"jpg": shelf.jpeg(4)}),
    ]
    return shelf.write(root, "instruct", samples)


def config_of(path: Path, projector: str = "mlp", **sections: Any) -> TrainConfig:
    data = path / "mixed"
    if not data.exists():
        mixed(data)
    kinds = ("image", "audio")
    options = {"kind": projector, "queries": 5, "heads": 4, "layers": 2}
    return tiny.config(
        path, str(data), kinds=kinds, data=[{"dataset": str(data), "modality": "instruct"}],
        **{"projectors": dict.fromkeys(kinds, options), "plan": {"tokens_per_pack": 512}, **sections},
    )  # fmt: skip


def samples_of(prepared: before.Prepared) -> list[Prepared]:
    return [prepared.loader.load(0, 0, row, 0) for row in range(5)]


def lm_sum(model: MultimodalLM, batch: Batch) -> torch.Tensor:
    found, zero, _ = model(batch)
    return found["lm"].sum() + zero


def gradients(model: MultimodalLM, batches: list[Batch]) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    for batch in batches:
        lm_sum(model, batch).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("attention", ["documents", "sdpa", "eager"])
@pytest.mark.parametrize("train", ["full", "lora"])
def test_a_pack_has_the_logits_and_gradients_of_its_samples_alone(tiny_path: Path, attention: str, train: str) -> None:
    lora = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False}
    llm = {"attention": attention, "train": train, "lora": lora if train == "lora" else {}}
    model, prepared = model_of(config_of(tiny_path, llm=llm))
    samples = samples_of(prepared)
    alone = [pack([sample]) for sample in samples]
    together = pack(samples)
    with torch.no_grad():
        logits = model.logits(model.hidden(model.embed(together).embeds_TE, together))
        separate = torch.cat([model.logits(model.hidden(model.embed(b).embeds_TE, b)) for b in alone])
    torch.testing.assert_close(logits, separate, rtol=1e-4, atol=1e-5)
    assert logits.std() > 0.1
    packed, unpacked = gradients(model, [together]), gradients(model, alone)
    assert packed.keys() == unpacked.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, gradient in packed.items():
        torch.testing.assert_close(gradient, unpacked[name], rtol=1e-3, atol=1e-5, msg=name)
    assert all(any(n.startswith(start) for n in packed) for start in ("projectors.image", "projectors.audio", "llm."))


def test_the_check_would_notice_samples_that_see_each_other(tiny_path: Path) -> None:
    model, prepared = model_of(config_of(tiny_path))
    together = pack(samples_of(prepared))
    with torch.no_grad():
        apart = model.hidden(model.embed(together).embeds_TE, together)
        together.bounds_S = torch.tensor([0, len(together.ids_T)], dtype=torch.int32)
        mixed_up = model.hidden(model.embed(together).embeds_TE, together)
    first = int((together.sample_T == 0).sum())
    torch.testing.assert_close(apart[:first], mixed_up[:first])
    assert (apart[first:] - mixed_up[first:]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("projector", "train"), [*((p, "frozen") for p in PROJECTORS), ("mlp", "lora"), ("mlp", "full")]
)
def test_gradient_checkpointing_changes_no_gradient(tiny_path: Path, projector: str, train: str) -> None:
    lora = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False} if train == "lora" else {}
    found = []
    for checkpointing in (False, True):
        machine = {"gradient_checkpointing": checkpointing}
        model, prepared = model_of(config_of(tiny_path, projector, machine=machine, llm={"train": train, "lora": lora}))
        assert model.decoder.get_decoder().gradient_checkpointing is checkpointing
        found.append(gradients(model, [pack(samples_of(prepared))]))
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-5, atol=1e-6, msg=name)
    assert any(gradient.abs().max() > 1e-4 for gradient in found[0].values())


@pytest.mark.parametrize("projector", PROJECTORS)
def test_every_placeholder_gets_its_token_and_none_is_left(tiny_path: Path, projector: str) -> None:
    model, prepared = model_of(config_of(tiny_path, projector))
    samples = samples_of(prepared)
    batch = pack(samples)
    seen = model.embed(batch)
    text_TE = model.decoder.get_input_embeddings()(batch.ids_T)
    changed = (seen.embeds_TE != text_TE).any(1)
    places = torch.cat([media.places_T for media in batch.media.values()]).sort().values
    assert torch.equal(torch.nonzero(changed).flatten(), places)
    tokens = {"linear": 16, "mlp": 16, "pixel_shuffle": 4, "cross_attention": 5, "qformer": 5}[projector]
    assert batch.media["image"].tokens == [tokens] * 4
    assert torch.equal(batch.media["image"].sample_B, torch.tensor([0, 0, 3, 4]))
    assert torch.equal(batch.media["audio"].sample_B, torch.tensor([2, 3]))
    assert len(seen.tokens["image"]) == 4 * tokens


@pytest.mark.parametrize("projector", PROJECTORS)
def test_new_projectors_begin_with_tokens_as_large_as_words(tiny_path: Path, projector: str) -> None:
    config = config_of(tiny_path, projector)
    prepared = before.prepare(config)
    model = built(config, prepared.specs, prepared.tokenizer, Dist(), None)
    words_rms = model.decoder.get_input_embeddings().weight.pow(2).mean().sqrt()
    tokens = model.embed(pack(samples_of(prepared))).tokens
    assert set(tokens) == {"image", "audio"}
    for kind, tokens_KE in tokens.items():
        assert 2 / 3 < tokens_KE.pow(2).mean().sqrt() / words_rms < 3 / 2, kind
    assert model.training
    assert all(not encoder.training for encoder in model.encoders.values())
    again = built(config, prepared.specs, prepared.tokenizer, Dist(), None)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())


def test_labels_are_of_the_next_token_and_never_reach_into_the_next_sample(tiny_path: Path) -> None:
    _, prepared = model_of(config_of(tiny_path))
    samples = samples_of(prepared)
    batch = pack(samples)
    bounds = batch.bounds_S.tolist()
    for sample, start, end in zip(samples, bounds, bounds[1:], strict=False):
        assert batch.labels_T[start:end].tolist() == [*sample.labels[1:], IGNORE]
        assert batch.positions_T[start:end].tolist() == list(range(end - start))
    assert batch.num_labels == sum(label != IGNORE for sample in samples for label in sample.labels)


@pytest.mark.parametrize("train", ["frozen", "full", "lora"])
def test_packs_without_a_modality_or_without_samples_give_every_parameter_a_gradient(
    tiny_path: Path, train: str
) -> None:
    model, prepared = model_of(
        config_of(tiny_path, llm={"train": train, "lora": {"r": 4, "target_modules": "all-linear"}})
    )
    samples = samples_of(prepared)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    for batch in (pack(samples[1:2]), pack(samples[2:3]), pack([])):
        found = gradients(model, [batch])
        assert found.keys() == trained
        assert all(bool(gradient.isfinite().all()) for gradient in found.values())
    assert all(not gradient.any() for gradient in found.values()), "an empty pack teaches nothing"


def test_frozen_parts_stay_in_evaluation_and_get_no_gradient(tiny_path: Path) -> None:
    model, prepared = model_of(config_of(tiny_path))
    model.train()
    assert not model.encoders["image"].training
    assert not model.llm.training
    found = gradients(model, [pack(samples_of(prepared))])
    assert {name.split(".")[0] for name in found} == {"projectors"}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_encoder_in_training_gets_gradients_of_its_own_part(tiny_path: Path, checkpointing: bool) -> None:
    config = config_of(tiny_path)
    folder = config.encoders["image"].model
    encoders: dict[str, Any] = {"image": {"model": folder, "train": True, "fit": "crop"}}
    encoders["audio"] = {"model": config.encoders["audio"].model, "train": True}
    machine = {"gradient_checkpointing": checkpointing}
    model, prepared = model_of(config_of(tiny_path, encoders=encoders, machine=machine))
    found = gradients(model, [pack(samples_of(prepared))])
    parts = {model.part_of(name) for name in found}
    assert parts == {"projector", "encoder"}
    reached = {name for name, gradient in found.items() if gradient.any()}
    assert {"encoders.image.model.embeddings.patch_embedding.weight", "encoders.audio.model.conv1.weight"} <= reached


def test_the_model_that_drift_is_measured_from_goes_along_to_a_device(tiny_path: Path) -> None:
    config = config_of(tiny_path, stage="joint", losses={"weights": {"lm": 1.0, "kl": 0.1}})
    model, prepared = model_of(config)
    assert not any("reference" in name for name in model.state_dict())
    found = (model(pack(samples_of(prepared)))[0])["kl"]
    assert not found.any()  # it is a copy of what is trained
    model.to("meta")
    assert {weight.device.type for weight in model.reference[0].parameters()} == {"meta"}


def test_bounds_of_samples_stay_where_attention_reads_them(tiny_path: Path) -> None:
    _, prepared = model_of(config_of(tiny_path))
    moved = pack(samples_of(prepared)).to(torch.device("meta"))
    assert (moved.ids_T.device.type, moved.bounds_S.device.type) == ("meta", "cpu")


def test_a_pack_that_only_fills_up_has_no_mean_of_masked_tokens(tiny_path: Path) -> None:
    _, prepared = model_of(config_of(tiny_path))
    names = ("masked_lm", "update_norm")
    assert counts(pack(samples_of(prepared)), names) == {"masked_lm": 1, "update_norm": 1}
    assert counts(pack([]), names) == {"masked_lm": 0, "update_norm": 1}


def test_heads_that_do_not_divide_the_width_are_refused(tiny_path: Path) -> None:
    config = config_of(tiny_path, projectors={"image": {"kind": "qformer", "heads": 5}})
    with pytest.raises(ConfigError, match=r"projectors\.image\.heads"):
        model_of(config)


def test_a_loss_that_cannot_be_is_refused(tiny_path: Path) -> None:
    for weights, message in (({"lmm": 1.0}, "did you mean lm"), ({"lm": -1.0}, "0 or more"), ({"kl": 1.0}, "frozen")):
        with pytest.raises(ConfigError, match=message):
            model_of(config_of(tiny_path, losses={"weights": weights}))
