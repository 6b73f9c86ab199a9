"""What a dry run promises: the figures of the run that follows, before any weights are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmdata.train import engine, journal
from mmdata.train.dist import Dist
from mmdata.train.prepared import prepare
from mmdata.train.report import coloured, dry_run, render
from tests.train import shelf, tiny


def test_a_dry_run_tells_what_the_run_then_does(tiny_path: Path, tmp_path: Path) -> None:
    samples = [shelf.captioned(n, 3 + n % 5, source="nature" if n % 3 else "objects") for n in range(30)]
    samples[3].caption = ""
    data = shelf.write(tmp_path / "data", "image_text", samples)
    llm = {"train": "lora", "lora": {"r": 4, "target_modules": "all-linear"}}
    config = tiny.config(
        tiny_path, data, stage="instruct", llm=llm, plan={"epochs": 2}, machine={"folder": str(tmp_path)}
    )
    told = dry_run(config)
    run = engine.Run(prepare(config), Dist())
    parts = {name: [0, 0] for name in told.parameters}
    for name, parameter in run.model.named_parameters():
        parts[run.model.part_of(name)][0] += parameter.numel()
        parts[run.model.part_of(name)][1] += parameter.numel() * parameter.requires_grad
    assert told.parameters == {name: tuple(counts) for name, counts in parts.items()}
    result = run.steps(lambda: False)
    lines = journal.read(tmp_path / "tiny" / journal.LOG)
    assert told.steps == result.steps == len(lines)
    assert told.epochs == 2
    assert told.refused == {"content.no_answer": 1}
    assert told.samples == sum(line["samples"] for line in lines)
    total = sum(line["tokens"] for line in lines)
    assert sum(told.tokens.values()) == total
    assert set(told.tokens) == {("image_text", "nature"), ("image_text", "objects")}
    assert told.label_share == pytest.approx(sum(line["labels"] for line in lines) / total)
    assert 1 - told.padding_share == pytest.approx(sum(line["useful_share"] for line in lines) / len(lines))
    assert told.plan_hash == run.plan.hash
    text = render(told)
    for piece in ("image_text nature", "image_text objects", "padding", "learned", "(estimate)", "\x1b[32m"):
        assert piece in " ".join(text.split(" ")).replace("  ", " ")


@pytest.mark.parametrize("train", ["full", "frozen"])
def test_memory_tells_what_processes_divide_where_they_share_the_llm(
    tiny_path: Path, tmp_path: Path, train: str
) -> None:
    wide = tiny.llm(tmp_path / "wide", hidden=512)
    llm = {"model": wide, "train": train}
    told = {}
    for sharding in ("ddp", "fsdp"):
        machine = {"folder": str(tmp_path), "sharding": sharding}
        told[sharding] = dry_run(tiny.config(tiny_path, str(tiny_path / "eight"), llm=llm, machine=machine))
    numbers = told["ddp"].parameters["llm"][0]
    assert numbers * 4 > 8 << 20
    assert told["ddp"].memory_mb["weights"] >= numbers * 4 >> 20
    divided = {"of it divided by the processes": numbers * (16 if train == "full" else 4) >> 20}
    assert told["fsdp"].memory_mb == told["ddp"].memory_mb | divided
    assert f"of it divided by the processes {divided['of it divided by the processes']} MB" in render(told["fsdp"])


def test_a_dry_run_reads_no_weights(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny.config(tiny_path, str(tiny_path / "eight"), machine={"folder": str(tmp_path)})

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("safetensors.safe_open", refuse)
    monkeypatch.setattr("transformers.modeling_utils.PreTrainedModel.from_pretrained", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    assert dry_run(config).steps > 0


def test_labels_are_shown_in_colour_and_a_text_cannot_steer_the_terminal() -> None:
    from mmdata.train.chat import Chat, caption_turns

    tokenizer = tiny.tokenizer()
    encoded = Chat(tokenizer, "chatml").encode(caption_turns(["image"], "What\x1b[2J?", "A cat."), {"image": [5]}, 99)
    text = coloured(encoded, tokenizer)
    assert "\x1b[90m[image x 5]\x1b[0m" in text
    assert "\x1b[32mA cat.<|im_end|>\x1b[0m" in text
    assert "\x1b[2J" not in text
