"""The training file: its sections as option classes, the recipe that a stage brings, reading it with overrides.

`stage` fills in what the file leaves out with LLaVA-1.5's published recipe (Liu et al. 2023, arXiv 2310.03744, and its
scripts): align is its pretraining (projector only, rate 1e-3), joint and instruct its fine-tuning (2e-5, all of the
LLM), instruct with `llm.train: lora` its LoRA script (2e-4, r 128, alpha 256, projector 2e-5).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import annotated_types as at
import yaml

from mmdata.config import _Loader, _override
from mmdata.errors import ConfigError
from mmdata.options import build, nearest, operational, semantic, values_of
from mmdata.sample import is_source_name
from mmdata.train.augment import AugmentOptions

Positive = Annotated[int, at.Ge(1)]
NotNegative = Annotated[int, at.Ge(0)]
Share = Annotated[float, at.Ge(0), at.Le(1)]
AboveZero = Annotated[float, at.Gt(0)]
Kind = Literal["image", "video", "audio"]
KINDS: tuple[Kind, ...] = ("image", "video", "audio")
ROLES = ("semantic", "outcome", "operational")


@dataclass(frozen=True, kw_only=True)
class LlmOptions:
    """The language model: any causal LM of transformers."""

    model: Annotated[str, at.Len(1)] = semantic()  # a folder or a hub name
    gguf_file: str = semantic("")  # a GGUF file in it
    template: Literal["plain", "vicuna", "chatml", "llama3", "tokenizer"] = semantic("tokenizer")
    system: str = semantic("")  # said first in every conversation that has no system message
    train: Literal["frozen", "full", "lora"] = semantic("frozen")
    lora: dict[str, Any] = semantic(factory=dict)  # options of peft.LoraConfig
    # documents: one attention call a sample of the pack, no mask; flash and flex need their packages and a GPU.
    attention: Literal["documents", "sdpa", "eager", "flash_attention_2", "flex_attention"] = operational("documents")


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """What turns one kind of media into features."""

    kind: Literal["open_clip", "transformers"] = semantic("transformers")
    model: str = semantic("")  # a folder (`local-dir:` before it for open_clip) or a hub name
    pretrained: str = semantic("")  # open_clip's tag or weights file
    share: Literal["", "image"] = semantic("")  # video may use the encoder of images
    features: Literal["patch", "cls", "cls_patch", "pooled"] = semantic("patch")
    layer: int | None = semantic(None)  # of the hidden states, -2 as in LLaVA; the model's final output where left out
    train: bool = semantic(False)
    fit: Literal["pad", "crop", "squash"] = semantic("pad")  # how a picture becomes a square
    frames: Positive = semantic(8)  # of a video, spread evenly
    window_s: AboveZero = semantic(30.0)  # longer sounds are encoded in windows, never cut; Whisper has its own
    stored_mel: bool = semantic(False)  # Whisper is fed from part mel.npy (log_mel's kind whisper), not from the sound


@dataclass(frozen=True, kw_only=True)
class ProjectorOptions:
    """What turns features into embeddings of the LLM."""

    kind: Literal["linear", "mlp", "pixel_shuffle", "cross_attention", "qformer"] = semantic("mlp")
    layers: Positive = semantic(2)
    merge: Literal[4, 9, 16] = semantic(4)  # neighbours that pixel_shuffle makes one token of
    queries: Positive = semantic(64)  # tokens that cross_attention and qformer give
    heads: Positive = semantic(8)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """One split of one modality of a dataset."""

    dataset: Annotated[str, at.Len(1)] = semantic()
    modality: Annotated[str, at.Len(1)] = semantic("image_text")
    split: str = semantic("train")
    weight: AboveZero = semantic(1.0)  # times that each sample is seen in an epoch
    prompts: list[str] = semantic(factory=list)  # asked of a sample that has a caption only; one by the sample's hash


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How samples become packs and packs become steps."""

    tokens_per_pack: Positive = semantic(2048)
    media_per_pack: NotNegative = semantic(0)  # at most so many media tokens in a pack; 0 for no limit of their own
    packs_per_step: Positive = semantic(8)  # the global batch; the number of processes must divide it
    packing: bool = semantic(True)  # False: one sample a pack
    epochs: Positive = semantic(1)
    max_steps: NotNegative = semantic(0)  # ends earlier; 0 for all
    window_samples: Positive = semantic(2048)  # samples change places and are packed within so many
    quotas: dict[str, float] = semantic(factory=dict)  # share of the tokens of an epoch by modality; sums to 1
    lengths: Literal["exact", "index"] = semantic("exact")  # tokenise once and keep, or estimate from the index's words


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Weights by name of the loss, and what some of them need."""

    weights: dict[str, float] = semantic(factory=lambda: {"lm": 1.0})
    temperature: AboveZero = semantic(0.07)  # where the learnable one of info_nce begins
    temperature_min: AboveZero = semantic(0.01)
    margin: Annotated[float, at.Ge(0)] = semantic(0.2)  # of matching_rank
    kl_temperature: AboveZero = semantic(1.0)
    mask_share: Share = semantic(0.15)  # of caption tokens, for masked_lm
    chunk_tokens: Positive = operational(1024)  # labelled positions whose logits are held at once


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """AdamW: one learning rate for each part, warm-up, then cosine or constant."""

    lr_projector: AboveZero = semantic(1e-3)
    lr_llm: AboveZero = semantic(2e-5)
    lr_encoder: AboveZero = semantic(2e-6)
    warmup_share: Share = semantic(0.03)
    schedule: Literal["cosine", "constant"] = semantic("cosine")
    final_lr_share: Share = semantic(0.0)
    weight_decay: Annotated[float, at.Ge(0)] = semantic(0.0)  # of matrices; never of biases and norms
    beta1: Share = semantic(0.9)
    beta2: Share = semantic(0.999)
    eps: AboveZero = semantic(1e-8)
    clip_norm: Annotated[float, at.Ge(0)] = semantic(1.0)  # 0: no clipping


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """How the work is carried out."""

    folder: str = operational("runs/train")  # the run lies in <folder>/<name>
    device: Literal["auto", "cpu", "cuda"] = operational("auto")
    precision: Literal["fp32", "bf16", "fp16"] = semantic("fp32")
    gradient_checkpointing: bool = operational(False)
    compile: bool = operational(False)
    threads: NotNegative = operational(0)  # of one torch operation on the CPU; 0: as torch sets it
    workers: NotNegative = operational(2)  # processes that read and decode
    prefetch: Positive = operational(4)  # packs read ahead by each
    checkpoint_every: Positive = operational(500)  # steps
    keep_checkpoints: Positive = operational(2)
    max_bad_share: Share = operational(0.1)  # of samples that could not be read; above it the run ends


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training file with its shape checked."""

    path: Path
    name: str
    seed: int
    stage: Literal["align", "joint", "instruct"]
    init: str  # run folder or checkpoint whose trained parts this run begins with
    llm: LlmOptions
    encoders: dict[Kind, EncoderOptions]
    projectors: dict[Kind, ProjectorOptions]
    data: list[DataOptions]
    plan: PlanOptions
    losses: LossOptions
    augment: AugmentOptions
    optimizer: OptimizerOptions
    machine: MachineOptions

    def to_yaml(self, *roles: str) -> dict[str, Any]:
        """All sections with their defaults filled in, as plain values; only options of `roles` where some are given."""
        roles = roles or ROLES
        return {
            "name": self.name,
            "seed": self.seed,
            "stage": self.stage,
            "init": self.init,
            **{name: values_of(getattr(self, name), *roles) for name in _SECTIONS},
            "encoders": {kind: values_of(options, *roles) for kind, options in self.encoders.items()},
            "projectors": {kind: values_of(options, *roles) for kind, options in self.projectors.items()},
            "data": [values_of(options, *roles) for options in self.data],
        }

    def hash(self) -> str:
        """Hex sha256 of everything that changes what is learned."""
        values = {name: value for name, value in self.to_yaml("semantic").items() if name != "name"}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


_SECTIONS: dict[str, Any] = {
    "llm": LlmOptions,
    "plan": PlanOptions,
    "losses": LossOptions,
    "augment": AugmentOptions,
    "optimizer": OptimizerOptions,
    "machine": MachineOptions,
}
_FINE_TUNING = {"llm": {"train": "full"}, "optimizer": {"lr_projector": 2e-5, "lr_llm": 2e-5}}
_RECIPES: dict[str, dict[str, Any]] = {
    "align": {"llm": {"train": "frozen", "template": "plain"}, "optimizer": {"lr_projector": 1e-3}},
    "joint": _FINE_TUNING,
    "instruct": _FINE_TUNING,
}
_LORA = {
    "llm": {"lora": {"r": 128, "lora_alpha": 256, "lora_dropout": 0.05, "target_modules": "all-linear"}},
    "optimizer": {"lr_projector": 2e-5, "lr_llm": 2e-4},
}
_NAMES = ("name", "seed", "stage", "init", "encoders", "projectors", "data", *_SECTIONS)


def load(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """The training file, with `a.b=c` overrides applied. Raises ConfigError naming place and remedy."""
    path = Path(path)
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: found {type(tree).__name__}, allowed is a mapping with {', '.join(_NAMES)}")
    for override in overrides:
        _override(tree, override)
    return config_of(tree, path)


def config_of(tree: Mapping[str, Any], path: Path) -> TrainConfig:
    """The config in a tree of plain values, filled up with the recipe of its stage; `path` is for messages."""
    for key in tree:
        if key not in _NAMES:
            known = f"{nearest(str(key), _NAMES)}; allowed: {', '.join(_NAMES)}"
            raise ConfigError(f"{path}: {key}: no such section{known}")
    stage = tree.get("stage", "align")
    if stage not in _RECIPES:
        raise ConfigError(f"{path}: stage: found {stage!r}, allowed are {', '.join(_RECIPES)}")
    name, seed = tree.get("name", path.stem), tree.get("seed", 0)
    if not isinstance(name, str) or not is_source_name(name):
        raise ConfigError(f"{path}: name: found {name!r}, allowed are small letters, digits and '-'")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"{path}: seed: found {seed!r}, allowed is a whole number from 0")
    filled = _merged(_RECIPES[stage], tree)
    if filled.get("llm", {}).get("train") == "lora":
        filled = _merged(_merged(_RECIPES[stage], _LORA), tree)
    encoders = _by_kind(EncoderOptions, filled, "encoders", path)
    projectors = _by_kind(ProjectorOptions, filled, "projectors", path)
    projectors = {kind: projectors.get(kind, ProjectorOptions()) for kind in encoders}
    data = filled.get("data")
    if not isinstance(data, list) or not data:
        raise ConfigError(f"{path}: data: found {data!r}, allowed is a list: - {{dataset: FOLDER, modality: ...}}")
    config = TrainConfig(
        path=path,
        name=name,
        seed=seed,
        stage=stage,
        init=str(filled.get("init") or ""),
        encoders=encoders,
        projectors=projectors,
        data=[build(DataOptions, entry, f"{path}: data[{index}]") for index, entry in enumerate(data)],
        **{name: build(cls, filled.get(name), f"{path}: {name}") for name, cls in _SECTIONS.items()},
    )
    _check(config)
    return config


def _check(config: TrainConfig) -> None:
    for kind, encoder in config.encoders.items():
        where = f"{config.path}: encoders.{kind}"
        if encoder.share and (kind != "video" or "image" not in config.encoders):
            raise ConfigError(f"{where}.share: only video may share, and there must be an encoder of images")
        if not encoder.share and not encoder.model:
            raise ConfigError(f"{where}.model: is required")
        if kind == "audio" and encoder.features in ("cls", "cls_patch"):
            raise ConfigError(f"{where}.features: found {encoder.features!r}, sounds have patch or pooled")
    quotas = config.plan.quotas
    modalities = {entry.modality for entry in config.data}
    if quotas and (abs(sum(quotas.values()) - 1) > 1e-6 or set(quotas) != modalities or min(quotas.values()) <= 0):
        allowed = ", ".join(sorted(modalities))
        where = f"{config.path}: plan.quotas"
        raise ConfigError(f"{where}: found {quotas}, allowed is a share above 0 for each of {allowed}, sum 1")


def _by_kind(cls: Any, tree: Mapping[str, Any], section: str, path: Path) -> dict[Kind, Any]:
    entries = tree.get(section) or {}
    if not isinstance(entries, dict) or not set(entries) <= set(KINDS):
        raise ConfigError(f"{path}: {section}: found {entries!r}, allowed is a mapping with {', '.join(KINDS)}")
    return {kind: build(cls, entries[kind], f"{path}: {section}.{kind}") for kind in KINDS if kind in entries}


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `under`, section by section; lora options are taken whole."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping) and key != "lora"
        merged[key] = _merged(below, value) if both else value  # type: ignore[arg-type]
    return merged
