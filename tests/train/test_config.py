"""What a training file promises: recipes fill it, typing errors are named, every option says what its change does."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmdata.errors import ConfigError
from mmdata.options import ROLES
from mmdata.train import augment, sections
from mmdata.train.config import TrainConfig, config_of, load

CLASSES = [
    value for module in (sections, augment) for value in vars(module).values() if dataclasses.is_dataclass(value)
]
TREE: dict[str, Any] = {"name": "a", "llm": {"model": "some/llm"}, "data": [{"dataset": "data/x"}]}


def made(**values: Any) -> TrainConfig:
    return config_of({**TREE, **values}, Path("files/a.yaml"))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_option_says_what_a_change_of_it_does(cls: Any) -> None:
    for field in dataclasses.fields(cls):
        assert field.metadata.get("role") in ROLES, f"{cls.__name__}.{field.name}"


def test_stages_bring_the_recipe_of_llava() -> None:
    align, instruct = made(), made(stage="instruct")
    lora = made(stage="instruct", llm={"model": "x", "train": "lora"})
    assert (align.llm.train, align.llm.template, align.optimizer.lr_projector) == ("frozen", "plain", 1e-3)
    assert (instruct.llm.train, instruct.optimizer.lr_projector, instruct.optimizer.lr_llm) == ("full", 2e-5, 2e-5)
    assert (lora.optimizer.lr_projector, lora.optimizer.lr_llm) == (2e-5, 2e-4)
    assert lora.llm.lora == {"r": 128, "lora_alpha": 256, "lora_dropout": 0.05, "target_modules": "all-linear"}
    for config in (align, instruct, lora):
        assert (config.optimizer.weight_decay, config.optimizer.warmup_share, config.optimizer.schedule) == (
            0,
            0.03,
            "cosine",
        )


def test_the_file_is_over_the_recipe() -> None:
    config = made(stage="instruct", llm={"model": "x", "train": "lora", "lora": {"r": 4}}, optimizer={"lr_llm": 3e-4})
    assert config.llm.lora == {"r": 4}
    assert (config.optimizer.lr_llm, config.optimizer.lr_projector) == (3e-4, 2e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lmm": {}}, "lmm: no such section (did you mean llm?)"),
        ({"stage": "pretrain"}, "stage: found 'pretrain'"),
        ({"llm": {"model": "x", "trian": "lora"}}, "llm.trian: no such option (did you mean train?)"),
        ({"llm": {}}, "llm.model: is required"),
        ({"data": []}, "data: found []"),
        ({"data": [{"dataset": "x"}, {}]}, "data[1].dataset: is required"),
        ({"name": "A b"}, "name: found 'A b'"),
        ({"seed": -1}, "seed: found -1"),
        ({"encoders": {"smell": {}}}, "encoders: found"),
        ({"encoders": {"image": {}}}, "encoders.image.model: is required"),
        ({"encoders": {"video": {"share": "image"}}}, "encoders.video.share"),
        ({"encoders": {"audio": {"model": "x", "features": "cls"}}}, "encoders.audio.features"),
        ({"encoders": {"image": {"model": "x"}}, "projectors": {"image": {"kind": "mpl"}}}, "projectors.image.kind"),
        ({"plan": {"quotas": {"image_text": 0.5}}}, "plan.quotas"),
        ({"plan": {"quotas": {"image_text": 0.5, "instruct": 0.5}}}, "plan.quotas"),
        ({"augment": {"stretch": 0.9}}, "augment.stretch"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(**values)
    assert f"files/a.yaml: {message}" in str(caught.value)


def test_paths_are_relative_to_the_file_and_hub_names_stay_names(tmp_path: Path) -> None:
    (tmp_path / "tower").mkdir()
    tree = {**TREE, "init": "earlier", "encoders": {"image": {"model": "tower"}}}
    tree["encoders"]["video"] = {"kind": "open_clip", "model": "local-dir:towers/b"}
    config = config_of(tree, tmp_path / "a.yaml")
    assert config.data[0].dataset == str(tmp_path / "data/x")
    assert config.init == str(tmp_path / "earlier")
    assert config.llm.model == "some/llm"
    assert config.encoders["image"].model == str(tmp_path / "tower")
    assert config.encoders["video"].model == f"local-dir:{tmp_path}/towers/b"
    remote = config_of({**TREE, "data": [{"dataset": "s3://bucket/x"}]}, tmp_path / "a.yaml")
    assert remote.data[0].dataset == "s3://bucket/x"


def test_the_hash_is_of_what_changes_the_result_and_of_nothing_else(tmp_path: Path) -> None:
    same = [made(), made(name="b"), made(machine={"workers": 7}), config_of(TREE, tmp_path / "other.yaml")]
    assert len({config.hash for config in same}) == 1
    others = [
        made(seed=1),
        made(optimizer={"lr_projector": 1.0}),
        made(machine={"precision": "bf16"}),
        made(stage="joint"),
    ]
    assert len({config.hash for config in [*same, *others]}) == 5


def test_a_file_is_read_with_overrides_and_written_back_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    placed = {"data": [{"dataset": "/data/x"}], "encoders": {"image": {"model": "a/b"}, "video": {"share": "image"}}}
    path.write_text(yaml.safe_dump({**TREE, **placed}))
    config = load(path, ["seed=5", "data.0.weight=2", "plan.packs_per_step=16"])
    assert (config.seed, config.data[0].weight, config.plan.packs_per_step) == (5, 2.0, 16)
    again = tmp_path / "b.yaml"
    again.write_text(yaml.safe_dump(config.to_yaml()))
    assert dataclasses.replace(load(again), path=config.path) == config
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none.yaml")
    path.write_text("- a")
    with pytest.raises(ConfigError, match="found list"):
        load(path)
