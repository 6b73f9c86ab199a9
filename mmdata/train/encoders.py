"""Encoders of pictures, frames and sound: open_clip towers and transformers models, patch, CLS or pooled features.

`spec_of` learns what an encoder asks for by running it on torch's meta device, so a plan needs no weights.
Shape suffixes: B items, C channels, H height, W width, T audio samples, M mel bands, N mel frames, P features, D width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mmdata.errors import ConfigError
from mmdata.train.media import MEL_HOP, SAMPLE_RATE_HZ, MediaSpec
from mmdata.train.sections import EncoderOptions, Kind, ProjectorOptions

_LOCAL_DIR = "local-dir:"
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Encoder(nn.Module):
    """One encoder; `forward` gives [P, D] for every item. mean_3, std_3 normalise pixels given as bytes."""

    def __init__(self, options: EncoderOptions, kind: Kind, *, meta: bool = False) -> None:
        super().__init__()
        self.options, self.kind = options, kind
        self.model: Any
        self.mean_3: torch.Tensor
        self.std_3: torch.Tensor
        with torch.device("meta") if meta else torch.device("cpu"):
            if options.kind == "open_clip":
                self.model, self.side_px, mean, std = _open_clip(options, meta)
            else:
                self.model, self.side_px, mean, std = _transformers(options, kind, meta)
            self.register_buffer("mean_3", torch.tensor(mean, dtype=torch.float32), persistent=False)
            self.register_buffer("std_3", torch.tensor(std, dtype=torch.float32), persistent=False)
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.config = getattr(self.model, "config", None)
        if not options.train:
            self.requires_grad_(False)
            # Pixels come with their channels last; convolutions in that layout are faster. Weights that train keep
            # theirs, as gradients and moments must have the same.
            self.model.to(memory_format=torch.channels_last)

    def forward(self, inputs: Any, lengths: Sequence[int] = ()) -> list[torch.Tensor]:
        """Features of items: pixels uint8 [B, H, W, 3], mel float32 [B, M, N] or a list of waves [T].

        lengths: features of each mel window that are of sound and not of the silence after it.
        """
        if self.kind == "audio":
            return self._sound(inputs, lengths)
        pixels_BHWC = (inputs.float() / 255 - self.mean_3) / self.std_3
        pixels_BCHW = pixels_BHWC.permute(0, 3, 1, 2).to(next(self.model.parameters()).dtype)
        return list(self._tower(pixels_BCHW) if self.options.kind == "open_clip" else self._vision(pixels_BCHW))

    def _vision(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        output = self.model(pixel_values=pixels_BCHW, output_hidden_states=self.options.layer is not None)
        layer = self.options.layer
        hidden = _sequence(output.last_hidden_state if layer is None else output.hidden_states[layer])
        patches = _num_patches(hidden.shape[1])
        pooled = getattr(output, "pooler_output", None)
        return self._choose(hidden[:, -patches:], hidden[:, :-patches], pooled)

    def _tower(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        layer = self.options.layer
        asked: dict[str, Any] = {"normalize_intermediates": layer is None}
        if self.options.features in ("cls", "cls_patch"):
            asked["output_extra_tokens"] = True
        asked["intermediates_only"] = self.options.features != "pooled"
        # Transformers give sequences; convolutional towers only pictures, and some know no third form.
        asked["output_fmt"] = "NLC" if _is_transformer(self.model) else "NCHW"
        output = self.model.forward_intermediates(pixels_BCHW, **asked)
        hidden = _sequence(output["image_intermediates"][-1 if layer is None else layer])
        prefix = output.get("image_intermediates_prefix")
        cls = prefix[-1 if layer is None else layer] if prefix else hidden[:, :0]
        return self._choose(hidden, cls, output.get("image_features"))

    def _choose(self, patches_BPD: torch.Tensor, prefix_BPD: torch.Tensor, pooled: torch.Tensor | None) -> torch.Tensor:
        match self.options.features:
            case "patch":
                return patches_BPD
            case "pooled":
                return (pooled.flatten(1) if pooled is not None else patches_BPD.mean(1)).unsqueeze(1)
        if not prefix_BPD.shape[1]:
            where = f"encoders.{self.kind}.features"
            raise ConfigError(f"{where}: {self.options.model} has no CLS token; use patch or pooled")
        return prefix_BPD[:, :1] if self.options.features == "cls" else torch.cat([prefix_BPD[:, :1], patches_BPD], 1)

    def _sound(self, inputs: Any, lengths: Sequence[int]) -> list[torch.Tensor]:
        wants = self.options.layer is not None
        if isinstance(inputs, torch.Tensor):
            mels_BMN = inputs.to(next(self.model.parameters()).dtype)
            output = self.model(input_features=mels_BMN, output_hidden_states=wants)
            hidden_BPD = output.hidden_states[self.options.layer] if wants else output.last_hidden_state
            found = [hidden_PD[:length] for hidden_PD, length in zip(hidden_BPD, lengths, strict=True)]
        else:
            found = []
            # One at a time: padding would reach into the features through group norms and convolutions.
            for wave_T in inputs:
                wave_1T = wave_T.to(next(self.model.parameters()).dtype).unsqueeze(0)
                output = self.model(input_values=wave_1T, output_hidden_states=wants)
                found.append((output.hidden_states[self.options.layer] if wants else output.last_hidden_state)[0])
        if self.options.features == "pooled":
            found = [features_PD.mean(0, keepdim=True) for features_PD in found]
        return found


def spec_of(options: EncoderOptions, projector: ProjectorOptions, kind: Kind) -> MediaSpec:
    """What media of a kind must look like for this encoder and projector; loads no weights."""
    encoder = Encoder(options, kind, meta=True).eval()
    config = encoder.config
    shared: dict[str, Any] = {"kind": kind, "pooled": options.features == "pooled"}
    if projector.kind == "pixel_shuffle":
        shared["merge"] = projector.merge
    elif projector.kind in ("cross_attention", "qformer"):
        shared["queries"] = projector.queries
    with torch.no_grad(), torch.device("meta"):
        if kind != "audio":
            side_px = encoder.side_px
            features_PD = encoder(torch.zeros(1, side_px, side_px, 3, dtype=torch.uint8))[0]
            features, width = features_PD.shape
            return MediaSpec(
                takes="pixels", features=features, width=width, grid=options.features == "patch", side_px=side_px,
                mean=encoder.mean, std=encoder.std, fit=options.fit, frames=options.frames, **shared,
            )  # fmt: skip
        assert config is not None
        if hasattr(config, "num_mel_bins"):
            # Whisper's positions are for one length of window only.
            mel_frames = 2 * config.max_source_positions
            mel_1MN = torch.zeros(1, config.num_mel_bins, mel_frames)
            features_PD = encoder(mel_1MN, [config.max_source_positions])[0]
            return MediaSpec(
                takes="mel", features=features_PD.shape[0], width=features_PD.shape[1], grid=False,
                window_samples=mel_frames * MEL_HOP, mel_bands=config.num_mel_bins,
                convs=((3, 1, 1), (3, 2, 1)), stored=options.stored_mel, **shared,
            )  # fmt: skip
        window_samples = int(options.window_s * SAMPLE_RATE_HZ)
        features_PD = encoder([torch.zeros(window_samples)])[0]
        convs = tuple((k, stride, 0) for k, stride in zip(config.conv_kernel, config.conv_stride, strict=True))
        facts = _preprocessor(options.model)
        return MediaSpec(
            takes="wave", features=features_PD.shape[0], width=features_PD.shape[1], grid=False,
            window_samples=window_samples, convs=convs, normalise=bool(facts.get("do_normalize", True)), **shared,
        )  # fmt: skip


def noise(spec: MediaSpec, features: int) -> tuple[Any, list[int]]:
    """Arguments of `Encoder.forward` for one item of so many features, of noise that is the same every time.

    Pixels uint8 [1, side_px, side_px, 3], a mel float32 [1, M, N] or one wave float32 [T]; and [features].
    """
    drawn = np.random.default_rng(0)
    if spec.takes == "pixels":
        return torch.tensor(drawn.integers(0, 256, (1, spec.side_px, spec.side_px, 3), dtype=np.uint8)), [features]
    if spec.takes == "mel":
        frames = spec.window_samples // MEL_HOP
        return torch.tensor(drawn.standard_normal((1, spec.mel_bands, frames), dtype=np.float32)), [features]
    samples = round(spec.window_samples * features / spec.features)
    return [torch.tensor(drawn.standard_normal(samples, dtype=np.float32))], [features]


def _sequence(hidden: torch.Tensor) -> torch.Tensor:
    """[B, P, D] of a sequence or of a map [B, D, H, W]."""
    return hidden.flatten(2).transpose(1, 2) if hidden.dim() == 4 else hidden


def _num_patches(length: int) -> int:
    """How many of the tokens are patches of a square: what stands before them are CLS and registers."""
    return int(length**0.5) ** 2


def _is_transformer(tower: nn.Module) -> bool:
    trunk = getattr(tower, "trunk", tower)
    return hasattr(trunk, "transformer") or (hasattr(trunk, "blocks") and hasattr(trunk, "pos_embed"))


def _open_clip(options: EncoderOptions, meta: bool) -> tuple[nn.Module, int, Any, Any]:
    """Image tower, side, mean and std of an open_clip model; of a local folder without loading its text tower."""
    import open_clip
    from open_clip.model import _build_vision_tower

    name = options.model
    facts: dict[str, Any] = {}
    if name.startswith(_LOCAL_DIR):
        folder = Path(name.removeprefix(_LOCAL_DIR))
        try:
            saved = json.loads((folder / "open_clip_config.json").read_text())
        except FileNotFoundError:
            raise ConfigError(f"encoders: {folder}: has no open_clip_config.json") from None
        config, facts = saved["model_cfg"], saved.get("preprocess_cfg", {})
    else:
        config = open_clip.get_model_config(name)
        if config is None:
            raise ConfigError(f"encoders: {name}: no model of open_clip; a folder is written {_LOCAL_DIR}FOLDER")
        facts = open_clip.get_pretrained_cfg(name, options.pretrained) or {} if options.pretrained else {}
    if name.startswith(_LOCAL_DIR) or meta or not options.pretrained:
        tower = _build_vision_tower(config["embed_dim"], config["vision_cfg"])
        if name.startswith(_LOCAL_DIR) and not meta:
            tower.load_state_dict(_tower_weights(folder))
    else:
        tower = open_clip.create_model(name, pretrained=options.pretrained).visual
    size = tower.image_size
    side_px = int(size[0] if isinstance(size, (tuple, list)) else size)
    return tower, side_px, facts.get("mean") or _CLIP_MEAN, facts.get("std") or _CLIP_STD


def _tower_weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    for name in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"):
        if (folder / name).is_file():
            path = folder / name
            weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
            return {key.removeprefix("visual."): value for key, value in weights.items() if key.startswith("visual.")}
    raise ConfigError(f"encoders: {folder}: has no open_clip_model.safetensors")


def _transformers(options: EncoderOptions, kind: Kind, meta: bool) -> tuple[nn.Module, int, Any, Any]:
    """Model, side, mean and std; of models with two towers the one for pictures, of Whisper its encoder."""
    from transformers import AutoConfig, AutoModel

    auto: Any = AutoModel
    try:
        config = AutoConfig.from_pretrained(options.model)
        model = auto.from_config(config) if meta else auto.from_pretrained(options.model)
    except (OSError, ValueError) as error:
        raise ConfigError(f"encoders.{kind}.model: {options.model}: {error}") from error
    if kind == "audio":
        both = hasattr(model, "encoder") and hasattr(model, "decoder")
        return (model.encoder if both else model), 0, (0,) * 3, (1,) * 3
    model = getattr(model, "vision_model", None) or model
    side_px = getattr(model.config, "image_size", None) or 224
    side_px = side_px if isinstance(side_px, int) else side_px[0]
    facts = _preprocessor(options.model)
    return model, side_px, facts.get("image_mean") or _CLIP_MEAN, facts.get("image_std") or _CLIP_STD


def _preprocessor(model: str) -> dict[str, Any]:
    """What preprocessor_config.json says; nothing where there is none."""
    from transformers.utils.hub import cached_file

    path = cached_file(model, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    return dict(json.loads(Path(path).read_text())) if path else {}
