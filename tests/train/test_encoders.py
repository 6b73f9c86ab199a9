"""What encoders promise: the features that were asked for, as many as the plan was told without any weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import transformers as hf
from safetensors.torch import save_file

from mmdata.errors import ConfigError
from mmdata.train import augment
from mmdata.train.encoders import Encoder, spec_of
from mmdata.train.media import Medium, items_of
from mmdata.train.projectors import Projector
from mmdata.train.sections import EncoderOptions, Kind, ProjectorOptions
from tests.train import shelf, tiny

PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8))
SMALL = {**tiny.VISION, "intermediate_size": 37}
MODELS: dict[str, Any] = {
    "clip": lambda: hf.CLIPModel(hf.CLIPConfig(vision_config=SMALL, text_config={"vocab_size": 99, "hidden_size": 16,
        "num_attention_heads": 2, "num_hidden_layers": 1, "bos_token_id": 1, "eos_token_id": 2})),
    "siglip": lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**SMALL)),
    "vit": lambda: hf.ViTModel(hf.ViTConfig(**SMALL)),
    "dinov2": lambda: hf.Dinov2Model(hf.Dinov2Config(**SMALL)),
    "registers": lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**SMALL, num_register_tokens=4)),
    "swin": lambda: hf.SwinModel(
        hf.SwinConfig(image_size=8, patch_size=1, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=2)
    ),
    "convnext": lambda: hf.ConvNextModel(
        hf.ConvNextConfig(image_size=8, patch_size=1, hidden_sizes=[8, 32], depths=[1, 1], num_stages=2)
    ),
}  # fmt: skip
WITH_CLS = {"clip", "vit", "dinov2", "registers"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoders")
    for name, make in MODELS.items():
        torch.manual_seed(0)
        make().save_pretrained(path / name)
    tiny.whisper(path / "whisper"), tiny.wav2vec2(path / "wav2vec2")
    config = hf.HubertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37, conv_dim=[16],
        conv_stride=[160], conv_kernel=[400], num_feat_extract_layers=1, num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    hf.HubertModel(config).save_pretrained(path / "hubert")
    return path


def encoder_of(path: Path, kind: Kind = "image", **options: Any) -> tuple[Encoder, Any, EncoderOptions]:
    made = EncoderOptions(model=str(path), **options)
    return Encoder(made, kind).eval(), spec_of(made, ProjectorOptions(kind="linear"), kind), made


@pytest.mark.parametrize("name", MODELS)
def test_patch_features_of_vision_models_are_a_square_known_without_weights(models: Path, name: str) -> None:
    encoder, spec, _ = encoder_of(models / name)
    with torch.no_grad():
        features = encoder(PIXELS)
    # Swin halves its map once, and ConvNeXt's second stage does.
    side = 4
    assert [tuple(found.shape) for found in features] == [(side * side, spec.width)] * 2
    assert (spec.features, spec.width, spec.side_px, spec.grid) == (side * side, 32, 8, True)
    assert not torch.allclose(features[0], features[1])


@pytest.mark.parametrize("name", MODELS)
def test_features_are_those_that_the_model_itself_gives(models: Path, name: str) -> None:
    model = hf.AutoModel.from_pretrained(models / name).eval()
    model = getattr(model, "vision_model", None) or model
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (
        (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)))  # fmt: skip
    pixels = (PIXELS.permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        output = model(pixel_values=pixels, output_hidden_states=True)
        last, middle = output.last_hidden_state, output.hidden_states[-2]
        if name == "convnext":
            last = last.flatten(2).transpose(1, 2)
        torch.testing.assert_close(
            torch.stack(encoder_of(models / name)[0](PIXELS)), last[:, -16:], rtol=1e-4, atol=1e-5
        )
        pooled = torch.stack(encoder_of(models / name, features="pooled")[0](PIXELS))
        torch.testing.assert_close(pooled[:, 0], output.pooler_output.flatten(1), rtol=1e-4, atol=1e-5)
        if name in WITH_CLS:
            deep = torch.stack(encoder_of(models / name, layer=-2, features="cls_patch")[0](PIXELS))
            expected = torch.cat([middle[:, :1], middle[:, -16:]], 1)
            torch.testing.assert_close(deep, expected, rtol=1e-4, atol=1e-5)
            cls = torch.stack(encoder_of(models / name, features="cls")[0](PIXELS))
            torch.testing.assert_close(cls, last[:, :1], rtol=1e-4, atol=1e-5)
        else:
            with pytest.raises(ConfigError, match="no CLS token"):
                encoder_of(models / name, features="cls")[0](PIXELS)


VISION_CFG = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
RESNET_CFG = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}
CONVNEXT_CFG = {"timm_model_name": "convnext_atto", "timm_model_pretrained": False, "timm_pool": "avg",
                "timm_proj": "linear", "image_size": 64}  # fmt: skip
TOWERS: dict[str, tuple[dict[str, Any], int]] = {
    "vit": (VISION_CFG, 16), "resnet": (RESNET_CFG, 1), "convnext": (CONVNEXT_CFG, 4)
}  # fmt: skip


def clip_folder(path: Path, vision: dict[str, Any]) -> tuple[str, Any]:
    """A local open_clip checkpoint; its text tower is named, and must not be needed."""
    torch.manual_seed(0)
    tower = open_clip.model._build_vision_tower(24, vision)
    path.mkdir()
    text = {"hf_model_name": "no/such-model", "hf_tokenizer_name": "no/such-model"}
    config = {"model_cfg": {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}}
    config["preprocess_cfg"] = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (path / "open_clip_config.json").write_text(json.dumps(config))
    weights = {f"visual.{name}": value.contiguous() for name, value in tower.state_dict().items()}
    save_file({**weights, "text.x": torch.zeros(1)}, path / "open_clip_model.safetensors")
    return f"local-dir:{path}", tower.eval()


@pytest.mark.parametrize("name", TOWERS)
def test_a_local_open_clip_tower_is_read_without_its_text_tower(tmp_path: Path, name: str) -> None:
    vision, features = TOWERS[name]
    model, tower = clip_folder(tmp_path / "clip", vision)
    side = vision["image_size"]
    pixels = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8)
    options = {"kind": "open_clip", "model": model}
    encoder = Encoder(EncoderOptions(**options), "image").eval()
    spec = spec_of(EncoderOptions(**options), ProjectorOptions(), "image")
    with torch.no_grad():
        found = torch.stack(encoder(pixels))
        pooled = torch.stack(Encoder(EncoderOptions(**options, features="pooled"), "image").eval()(pixels))
        expected = tower((pixels.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25)
    assert found.shape == (2, features, spec.width)
    assert (spec.features, spec.side_px, spec.mean, spec.std) == (features, side, (0.5,) * 3, (0.25,) * 3)
    torch.testing.assert_close(pooled[:, 0], expected, rtol=1e-4, atol=1e-5)
    if name == "vit":
        with torch.no_grad():
            both = torch.stack(Encoder(EncoderOptions(**options, features="cls_patch"), "image").eval()(pixels))
        assert both.shape == (2, features + 1, spec.width)
        torch.testing.assert_close(both[:, 1:], found)


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "EVA02-B-16", "RN50", "convnext_base"])
def test_the_size_of_named_towers_is_known_without_their_weights(name: str) -> None:
    spec = spec_of(EncoderOptions(kind="open_clip", model=name), ProjectorOptions(kind="linear"), "image")
    expected = {
        "ViT-B-16-SigLIP": (196, 768),
        "EVA02-B-16": (196, 768),
        "RN50": (49, 2048),
        "convnext_base": (49, 1024),
    }
    assert (spec.features, spec.width, spec.side_px) == (*expected[name], 224)


def test_models_that_are_not_there_are_refused_by_name(tmp_path: Path) -> None:
    for options, message in (
        ({"kind": "open_clip", "model": "ViT-Nothing"}, "no model of open_clip"),
        ({"kind": "open_clip", "model": f"local-dir:{tmp_path}"}, "has no open_clip_config"),
        ({"model": str(tmp_path)}, r"encoders\.image\.model"),
    ):
        with pytest.raises(ConfigError, match=message):
            spec_of(EncoderOptions(**options), ProjectorOptions(), "image")


@pytest.mark.parametrize("name", ["whisper", "wav2vec2", "hubert"])
@pytest.mark.parametrize("duration_s", [0.2, 0.9991, 1.0, 2.3])
def test_sounds_have_the_tokens_that_their_duration_says(models: Path, name: str, duration_s: float) -> None:
    options = EncoderOptions(model=str(models / name), window_s=1.0)
    for projector in (ProjectorOptions(kind="linear"), ProjectorOptions(kind="pixel_shuffle")):
        spec = spec_of(options, projector, "audio")
        encoder = Encoder(options, "audio").eval()
        medium = Medium("audio", [("flac", shelf.flac(duration_s))])
        items = items_of(medium, spec, None, augment.rng_of(0))
        assert len(items) == -(-duration_s // 1)
        inputs = [torch.from_numpy(item.array) for item in items]
        with torch.no_grad():
            found = encoder(torch.stack(inputs) if spec.takes == "mel" else inputs, [item.features for item in items])
        assert [len(features) for features in found] == [item.features for item in items]
        tokens = Projector(projector, spec, 16)(found, torch.tensor([item.time_s for item in items]))
        assert len(tokens) == sum(item.tokens for item in items) == spec.sound_tokens(round(duration_s * 16_000))


def test_whisper_is_fed_what_its_own_extractor_gives_from_sound_and_from_stored_features(models: Path) -> None:
    options = EncoderOptions(model=str(models / "whisper"))
    spec = spec_of(options, ProjectorOptions(kind="linear"), "audio")
    stored = spec_of(
        EncoderOptions(model=str(models / "whisper"), stored_mel=True), ProjectorOptions(kind="linear"), "audio"
    )
    data = shelf.flac(0.6, seed=3)
    from mmdata.train.media import decode_T

    extractor = hf.WhisperFeatureExtractor(chunk_length=1)
    expected = extractor(decode_T(data), sampling_rate=16_000, return_tensors="np").input_features[0]
    (item,) = items_of(Medium("audio", [("flac", data)]), spec, None, augment.rng_of(0))
    np.testing.assert_array_equal(item.array, expected)
    assert item.features == 30
    import io

    sink = io.BytesIO()
    np.save(sink, expected[:, :60].astype(np.float16))
    (kept,) = items_of(Medium("audio", [("mel.npy", sink.getvalue())]), stored, None, augment.rng_of(0))
    assert (kept.features, kept.tokens) == (30, 30)
    np.testing.assert_allclose(kept.array[:, :60], expected[:, :60], atol=2e-3)
    np.testing.assert_allclose(kept.array[:, 65:], expected[:, 65:], atol=2e-3)


def test_sounds_are_encoded_alone_so_others_of_the_pack_change_nothing(models: Path) -> None:
    encoder = Encoder(EncoderOptions(model=str(models / "wav2vec2")), "audio").eval()
    waves = [torch.randn(length, generator=torch.Generator().manual_seed(length)) for length in (3000, 8000)]
    with torch.no_grad():
        both, alone = encoder(waves), encoder(waves[:1])
    torch.testing.assert_close(both[0], alone[0])


@pytest.mark.parametrize(
    ("merge", "grid", "features", "tokens"),
    [(4, True, 49, 16), (4, True, 16, 4), (9, True, 16, 4), (4, False, 10, 3), (16, False, 16, 1)],
)
def test_merging_keeps_neighbours_together(merge: Any, grid: bool, features: int, tokens: int) -> None:
    from mmdata.train.projectors import PixelShuffle

    values = torch.arange(1, features + 1).float().view(1, features, 1)
    found = PixelShuffle(merge, grid)(values)
    assert found.shape == (1, tokens, merge)
    assert sorted(found[found > 0].tolist()) == values.flatten().tolist()
    if grid and features == 16 and merge == 4:
        assert found[0, 0].tolist() == [1, 2, 5, 6]
        assert found[0, 3].tolist() == [11, 12, 15, 16]


def test_frames_are_told_when_they_were(models: Path) -> None:
    options = EncoderOptions(model=str(models / "vit"))
    spec = spec_of(options, ProjectorOptions(kind="linear"), "video")
    projector = Projector(ProjectorOptions(kind="linear"), spec, 16)
    same = [torch.ones(4, spec.width)] * 2
    times = torch.tensor([0.0, 1.5])
    first, second = projector(same, times).chunk(2)
    torch.testing.assert_close(first, second), "an untrained clock says nothing"
    torch.nn.init.normal_(projector.clock.weight)  # type: ignore[union-attr]
    first, second = projector(same, times).chunk(2)
    assert not torch.allclose(first, second)
    assert Projector(ProjectorOptions(kind="linear"), spec_of(options, ProjectorOptions(), "image"), 16).clock is None
