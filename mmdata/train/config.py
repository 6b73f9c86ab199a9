"""The training file: its sections as option classes, the recipe that a stage brings, reading it with overrides.

`stage` fills in what the file leaves out with LLaVA-1.5's published recipe (Liu et al. 2023, arXiv 2310.03744, and its
scripts): align is its pretraining (projector only, rate 1e-3), joint and instruct its fine-tuning (2e-5, all of the
LLM), instruct with `llm.train: lora` its LoRA script (2e-4, r 128, alpha 256, projector 2e-5).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mmdata.errors import ConfigError
from mmdata.options import ROLES, build, nearest, values_of
from mmdata.overrides import apply_override
from mmdata.sample import is_source_name
from mmdata.shards import storage
from mmdata.train.augment import AugmentOptions
from mmdata.train.sections import (
    KINDS,
    PACKAGE,
    DataOptions,
    EncoderOptions,
    Kind,
    LlmOptions,
    LossOptions,
    MachineOptions,
    OptimizerOptions,
    PlanOptions,
    ProjectorOptions,
    WatchOptions,
)
from mmdata.yaml_file import read_yaml


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
    watch: WatchOptions
    hash: str = ""  # of everything that changes what is learned, paths as they are written

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


_SECTIONS: dict[str, Any] = {
    "llm": LlmOptions,
    "plan": PlanOptions,
    "losses": LossOptions,
    "augment": AugmentOptions,
    "optimizer": OptimizerOptions,
    "machine": MachineOptions,
    "watch": WatchOptions,
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
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: found {type(tree).__name__}, allowed is a mapping with {', '.join(_NAMES)}")
    for override in overrides:
        apply_override(tree, override)
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
    values = {name: value for name, value in config.to_yaml("semantic").items() if name not in ("name", "watch")}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return replace(_placed(config, path.parent.absolute()), hash=digest)


def _placed(config: TrainConfig, folder: Path) -> TrainConfig:
    """The same with relative paths taken from the file's folder; a model that is not there stays a name of a hub."""

    def path_of(path: str) -> str:
        return path if storage.is_remote(path) or Path(path).is_absolute() else os.path.normpath(folder / path)

    def model_of(model: str) -> str:
        if not model or model.startswith(PACKAGE):
            return model
        prefix, _, path = model.rpartition(":")
        return f"{prefix}:{path_of(path)}" if prefix else path_of(model) if Path(path_of(model)).is_dir() else model

    return replace(
        config,
        init=path_of(config.init) if config.init else "",
        llm=replace(config.llm, model=model_of(config.llm.model)),
        encoders={kind: replace(options, model=model_of(options.model)) for kind, options in config.encoders.items()},
        data=[replace(options, dataset=path_of(options.dataset)) for options in config.data],
    )


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
