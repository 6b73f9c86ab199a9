"""What training promises: it learns, every step is the same after a kill, bad samples cost only themselves."""

from __future__ import annotations

import json
import math
import multiprocessing
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mmdata.errors import BudgetError, ChangedError, ConfigError, Reason
from mmdata.train import checkpoint, engine, journal
from mmdata.train.config import TrainConfig, load
from mmdata.train.device import DTYPES
from mmdata.train.dist import Dist
from mmdata.train.engine import train
from mmdata.train.prepared import prepare
from tests.train import shelf, tiny
from tests.train.shelf import asked, text
from tests.train.test_model import PROJECTORS
from tests.train.test_processes import kill_after

LORA = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
# A base with random weights has no words to steer, so its last layer is tuned too.
WITH_HEAD = "(?!.*(embed|norm)).*(_proj|lm_head)"


def log_of(config: TrainConfig, name: str = journal.LOG) -> list[dict[str, Any]]:
    return journal.read(Path(config.machine.folder) / config.name / name)


def losses_of(config: TrainConfig) -> list[float]:
    return [line["loss"] for line in log_of(config)]


def blind_loss(config: TrainConfig) -> float:
    """What a model that cannot see its pictures can reach at best: which of eight captions it is remains open."""
    labels = log_of(config)[0]["labels"] / log_of(config)[0]["samples"]
    return math.log(8) / labels


@pytest.mark.parametrize("projector", PROJECTORS)
def test_each_projector_learns_eight_captions_by_heart(tiny_path: Path, tmp_path: Path, projector: str) -> None:
    options = {"image": {"kind": projector, "queries": 8, "heads": 4}}
    epochs = 100 if projector in ("cross_attention", "qformer") else 45  # to read by attention is learned more slowly
    config = tiny.config(
        tiny_path, str(tiny_path / "eight"), stage="joint", projectors=options,
        plan={"tokens_per_pack": 512, "packs_per_step": 1, "epochs": epochs},
        optimizer={"lr_projector": 1e-2, "lr_llm": 1e-2, "warmup_share": 0.05},
        llm={"template": "plain"}, machine={"folder": str(tmp_path), "checkpoint_every": 1000},
    )  # fmt: skip
    result = train(config)
    assert losses_of(config)[0] > 3
    assert result.losses["lm"] < 0.1 < blind_loss(config)


def test_lora_learns_eight_captions_by_heart(tiny_path: Path, tmp_path: Path) -> None:
    lora = {**LORA, "target_modules": WITH_HEAD}
    config = tiny.config(
        tiny_path, str(tiny_path / "eight"), name="lora", stage="instruct",
        llm={"train": "lora", "lora": lora, "template": "plain"},
        plan={"tokens_per_pack": 512, "packs_per_step": 1, "epochs": 60},
        optimizer={"lr_projector": 5e-3, "lr_llm": 1e-2, "warmup_share": 0.05},
        machine={"folder": str(tmp_path), "checkpoint_every": 1000},
    )  # fmt: skip
    assert train(config).losses["lm"] < 0.1 < blind_loss(config)
    names = checkpoint.checkpoints(tmp_path / "lora" / "checkpoints")
    saved = yaml.safe_load((tmp_path / "lora" / "config.yaml").read_text())
    assert len(names) == 1
    assert saved["llm"]["lora"] == lora


def everything(root: Path) -> str:
    """All modalities, four samples each."""
    asking = [{"type": "image"}, text("?")]
    for number in range(4):
        image = {"jpg": shelf.jpeg(number)}
        frames = {f"{i:03d}.jpg": shelf.jpeg(number + i) for i in range(4)}
        kinds: dict[str, shelf.Written] = {
            "image_text": shelf.captioned(number, 3 + number),
            "video_text": shelf.Written(f"v-{number}", f"film {number}", parts=frames, times_s=[0.0, 0.5, 1.0, 1.5]),
            "audio_text": shelf.Written(
                f"a-{number}", f"one {number}", parts={"flac": shelf.flac(0.5 + number / 3, number)},
                duration_s=0.5 + number / 3,
            ),
            "instruct": shelf.Written(f"i-{number}", messages=asked(asking, "yes"), parts=image),
            "interleaved": shelf.Written(
                f"d-{number}", messages=[{"role": "user", "content": [text("Once"), {"type": "image"}, text("upon")]}],
                parts=image,
            ),
        }  # fmt: skip
        for modality, sample in kinds.items():
            shelf.write(root / f"{modality}-{number}", modality, [sample])
    return str(root)


def everything_config(path: Path, root: Path, **sections: Any) -> TrainConfig:
    data = [
        {"dataset": str(root / f"{modality}-{number}"), "modality": modality}
        for modality in ("image_text", "video_text", "audio_text", "instruct", "interleaved")
        for number in range(4)
    ]
    merged = {"plan": {"tokens_per_pack": 200, "packs_per_step": 4, "epochs": 3}, **sections}
    return tiny.config(path, "", kinds=("image", "video", "audio"), data=data, **merged)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world")
    everything(path)
    return path


ALL_LOSSES = {
    "lm": 1.0, "masked_lm": 0.1, "info_nce": 0.1, "siglip": 0.1, "matching": 0.1, "matching_rank": 0.1, "l1": 0.1,
    "l2": 0.1, "temporal": 0.1, "next_frame": 0.1, "ctc": 0.1,
}  # fmt: skip


def test_all_modalities_and_losses_train_together_and_each_is_logged(
    tiny_path: Path, tmp_path: Path, world: Path
) -> None:
    llm = {"train": "lora", "lora": LORA}
    weights = {**ALL_LOSSES, "kl": 0.1, "update_norm": 0.01}
    sections = {"losses": {"weights": weights}, "llm": llm, "machine": {"folder": str(tmp_path), "workers": 0}}
    config = everything_config(tiny_path, world, stage="instruct", **sections)
    train(config)
    lines = log_of(config)
    assert all(set(line["losses"]) == set(weights) for line in lines)
    for name, weight in weights.items():
        assert any(line["losses"][name] > 0 for line in lines), name
        assert all(
            line["loss"] == pytest.approx(sum(weights[n] * v for n, v in line["losses"].items())) for line in lines
        )
        assert weight > 0
    first_epoch = [line for line in log_of(config, journal.SAMPLES) if line["step"] < len(lines) / 3]
    keys = [key for line in first_epoch for key, *_ in line["samples"]]
    assert sorted(keys) == sorted([f"made-{n:012d}" for n in range(4)] + [f"{k}-{n}" for k in "vaid" for n in range(4)])
    assert lines[0]["losses"]["kl"] == 0.0, "LoRA begins as the model it tunes"
    assert sum(line["bad"] for line in lines) == 0


def test_the_loss_of_a_step_is_the_mean_over_its_tokens_however_they_are_packed(
    tiny_path: Path, tmp_path: Path, world: Path
) -> None:
    found = []
    for name, plan in (
        ("one", {"tokens_per_pack": 4000, "packs_per_step": 1}),
        ("many", {"tokens_per_pack": 100, "packs_per_step": 24, "packing": False}),
    ):
        sections = {"plan": {"epochs": 2, **plan}, "machine": {"folder": str(tmp_path)}, "name": name}
        config = everything_config(tiny_path, world, **sections)
        train(config)
        found.append(log_of(config))
    assert [line["labels"] for line in found[0]] == [line["labels"] for line in found[1]]
    for one, many in zip(*found, strict=True):
        assert one["loss"] == pytest.approx(many["loss"], rel=1e-4)
        assert one["grad_norm"] == pytest.approx(many["grad_norm"], rel=1e-3)
        assert one["samples"] == many["samples"] == 20


def test_samples_of_a_step_say_their_own_loss(tiny_path: Path, tmp_path: Path) -> None:
    config = tiny.config(tiny_path, str(tiny_path / "eight"), machine={"folder": str(tmp_path)})
    train(config)
    for line, told in zip(log_of(config), log_of(config, journal.SAMPLES), strict=True):
        total = sum(mean * labels for _, _, mean, labels, _ in told["samples"])
        count = sum(labels for _, _, _, labels, _ in told["samples"])
        assert count == line["labels"]
        assert total / count == pytest.approx(line["loss"], rel=1e-5)
        assert {source for _, source, *_ in told["samples"]} == {"made"}


def train_and_die(config: TrainConfig, step: int) -> None:
    """Train until the line of a step is written, then end as kill -9 ends a process."""
    kill_after(step)
    train(config)


def test_a_killed_run_goes_on_with_the_same_losses_bit_for_bit(tiny_path: Path, tmp_path: Path, world: Path) -> None:
    augment = {"flip": 0.5, "crop": 0.2, "colour": 0.2}
    llm = {"train": "lora", "lora": {**LORA, "lora_dropout": 0.1}}
    plan = {"tokens_per_pack": 200, "packs_per_step": 2, "epochs": 3}
    sections: dict[str, Any] = {"stage": "instruct", "augment": augment, "llm": llm, "plan": plan}
    sections["losses"] = {"weights": {"lm": 1.0, "info_nce": 0.2, "masked_lm": 0.1}}
    machine = {"folder": str(tmp_path), "checkpoint_every": 3, "keep_checkpoints": 2, "workers": 0}
    through = everything_config(tiny_path, world, name="through", machine=machine, **sections)
    killed = everything_config(tiny_path, world, name="killed", machine=machine, **sections)
    train(through)
    expected = losses_of(through)
    assert len(expected) >= 8
    dying = multiprocessing.get_context("fork").Process(target=train_and_die, args=(killed, 4))
    dying.start()
    dying.join()
    assert dying.exitcode == -signal.SIGKILL
    assert [path.name for path in checkpoint.checkpoints(tmp_path / "killed" / "checkpoints")] == ["step-000003"]
    assert [line["step"] for line in log_of(killed)] == [0, 1, 2, 3, 4]
    (tmp_path / "killed.yaml").write_text(yaml.safe_dump(killed.to_yaml()))
    again = multiprocessing.get_context("fork").Process(target=lambda: train(load(tmp_path / "killed.yaml")))
    again.start()
    again.join()
    assert again.exitcode == 0
    assert losses_of(killed) == expected
    assert [line["step"] for line in log_of(killed)] == list(range(len(expected)))
    keys = [[entry[:2] for entry in line["samples"]] for line in log_of(through, journal.SAMPLES)]
    assert keys == [[entry[:2] for entry in line["samples"]] for line in log_of(killed, journal.SAMPLES)]
    assert len(checkpoint.checkpoints(tmp_path / "killed" / "checkpoints")) == 2


def test_a_stopped_run_goes_on_and_a_finished_one_has_nothing_to_do(tiny_path: Path, tmp_path: Path) -> None:
    plan = {"tokens_per_pack": 60, "packs_per_step": 1, "epochs": 1}
    config = tiny.config(tiny_path, str(tiny_path / "eight"), plan=plan, machine={"folder": str(tmp_path)})
    calls: list[int] = []
    result = train(config, stop=lambda: bool(calls.append(1)) or len(calls) == 3)
    assert (result.steps, result.steps < result.num_steps) == (3, True)
    assert train(config).steps == result.num_steps
    before = losses_of(config)
    assert train(config).losses == {}
    assert losses_of(config) == before


def test_another_config_or_other_data_under_a_begun_run_are_refused(tiny_path: Path, tmp_path: Path) -> None:
    data = shelf.write(tmp_path / "data", "image_text", [shelf.captioned(number) for number in range(6)])
    machine = {"folder": str(tmp_path / "runs"), "workers": 0}
    config = tiny.config(tiny_path, data, machine=machine)
    train(config)
    with pytest.raises(ChangedError, match="another config"):
        train(tiny.config(tiny_path, data, machine=machine, optimizer={"lr_projector": 0.5}))
    train(tiny.config(tiny_path, data, machine={**machine, "checkpoint_every": 7}))
    shelf.write(tmp_path / "data", "image_text", [shelf.captioned(number) for number in range(5)])
    with pytest.raises(ChangedError, match="data have changed"):
        train(config)


def test_a_bad_sample_costs_only_itself_and_is_named(tiny_path: Path, tmp_path: Path) -> None:
    samples = [shelf.captioned(number) for number in range(8)]
    samples[2].parts["jpg"] = samples[2].parts["jpg"][:200]
    samples[5].parts["jpg"] = b""
    data = shelf.write(tmp_path / "data", "image_text", samples)
    config = tiny.config(tiny_path, data, machine={"folder": str(tmp_path), "workers": 2})
    train(config)
    quarantine = log_of(config, journal.QUARANTINE)
    assert sorted((line["key"], line["reason"], line["row"]) for line in quarantine) == [
        ("made-000000000002", Reason.CORRUPT.value, 2),
        ("made-000000000005", Reason.CORRUPT.value, 5),
    ]
    good = [entry[0] for line in log_of(config, journal.SAMPLES) for entry in line["samples"]]
    assert sorted(good) == [f"made-{n:012d}" for n in (0, 1, 3, 4, 6, 7)]
    assert sum(line["bad"] for line in log_of(config)) == 2


def test_a_run_of_mostly_bad_samples_ends(tiny_path: Path, tmp_path: Path) -> None:
    samples = [shelf.captioned(number) for number in range(30)]
    for sample in samples[:25]:
        sample.parts["jpg"] = b"\xff\xd8 nothing"
    data = shelf.write(tmp_path / "data", "image_text", samples)
    config = tiny.config(tiny_path, data, machine={"folder": str(tmp_path)})
    with pytest.raises(BudgetError, match=r"quarantine\.jsonl"):
        train(config)
    kept = checkpoint.checkpoints(tmp_path / "tiny" / "checkpoints")
    assert checkpoint.read_state(kept[-1]).step == len(log_of(config))  # the step that was too much is done and kept


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_narrow_precisions_learn_and_resume(tiny_path: Path, tmp_path: Path, precision: str) -> None:
    plan = {"tokens_per_pack": 512, "packs_per_step": 1, "epochs": 30}
    machine = {"folder": str(tmp_path), "precision": precision, "checkpoint_every": 20}
    llm = {"train": "lora", "lora": {**LORA, "target_modules": WITH_HEAD}}
    config = tiny.config(
        tiny_path, str(tiny_path / "eight"), stage="instruct", plan=plan, machine=machine, llm=llm,
        optimizer={"lr_llm": 1e-2},
    )  # fmt: skip
    calls: list[int] = []
    train(config, stop=lambda: bool(calls.append(1)) or len(calls) == 20)
    run = engine.Run(prepare(config), Dist())
    kinds = {p.dtype for p in run.model.parameters() if not p.requires_grad}
    assert kinds == {DTYPES[precision]}
    assert {p.dtype for p in run.model.parameters() if p.requires_grad} == {torch.float32}
    assert run.optimizer.scale.enabled is (precision == "fp16")
    run.steps(lambda: False)
    found = losses_of(config)
    assert found[-1] < found[0] / 2
    assert abs(found[20] - found[19]) < 0.5


def test_a_later_stage_begins_with_what_an_earlier_one_learned(tiny_path: Path, tmp_path: Path) -> None:
    machine = {"folder": str(tmp_path)}
    align = tiny.config(
        tiny_path,
        str(tiny_path / "eight"),
        name="align",
        machine=machine,
        losses={"weights": {"lm": 1.0, "info_nce": 0.1}},
    )
    train(align)
    llm = {"train": "lora", "lora": LORA}
    tuned = tiny.config(
        tiny_path, str(tiny_path / "eight"), name="instruct", stage="instruct", machine=machine, llm=llm,
        init=str(tmp_path / "align"),
    )  # fmt: skip
    run = engine.Run(prepare(tuned), Dist())
    from safetensors.torch import load_file

    saved = load_file(checkpoint.resolve(str(tmp_path / "align")) / "model.safetensors")
    own = dict(run.model.named_parameters())
    shared = [name for name in saved if name.startswith("projectors.")]
    assert shared
    assert all(torch.equal(saved[name], own[name]) for name in shared)
    other = tiny.config(
        tiny_path, str(tiny_path / "eight"), name="other", init=str(tmp_path / "align"), machine=machine,
        projectors={"image": {"kind": "mlp"}},
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"step-\d+: "):
        engine.Run(prepare(other), Dist())
    absent = replace(other, init=str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=r"init: .*nothing: neither a checkpoint"):
        engine.Run(prepare(absent), Dist())


def test_a_training_file_runs_from_disk_with_overrides(tiny_path: Path, tmp_path: Path) -> None:
    config = tiny.config(tiny_path, str(tiny_path / "eight"), machine={"folder": str(tmp_path)})
    path = tmp_path / "from-disk.yaml"
    path.write_text(yaml.safe_dump(config.to_yaml()))
    again = load(path, ["plan.max_steps=1", "name=shorter"])
    assert train(again).steps == 1
    assert json.loads((tmp_path / "shorter" / "checkpoints" / "step-000001" / "state.json").read_text())["step"] == 1
