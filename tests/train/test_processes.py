"""What several processes promise: they learn what one does, end together, and never wait for one that is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmdata.errors import MmdataError
from mmdata.train import checkpoint, journal
from mmdata.train.collate import Batch
from mmdata.train.config import TrainConfig
from mmdata.train.dist import Dist
from mmdata.train.engine import Run, train
from mmdata.train.model import MultimodalLM
from tests.train import shelf, tiny


def member(rank: int, port: int, work: Callable[[Dist], None]) -> None:
    """One of two processes, as torchrun starts them."""
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.set_num_threads(1)
    with Dist.from_environment("cpu", 60) as dist:
        work(dist)


def pair(work: Callable[[Dist], None]) -> list[int | None]:
    """Exit codes of two forked processes that do `work`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    members = [fork.Process(target=member, args=(rank, port, work)) for rank in range(2)]
    for process in members:
        process.start()
    for process in members:
        process.join(100)
    return [process.exitcode for process in members]


def config_of(
    tiny_path: Path,
    tmp_path: Path,
    name: str,
    pictures: Sequence[int] = (0, 1, 3, 4, 5, 6),
    corrupt: Sequence[int] = (),
    **sections: Any,
) -> TrainConfig:
    """Seven samples, one of them words only, in packs that do not come out even."""
    data = tmp_path / "data"
    if not data.exists():
        samples = [shelf.captioned(number, 3 + number) for number in range(7)]
        for number in set(range(7)) - set(pictures):
            samples[number].parts = {}
        for number in corrupt:
            samples[number].parts["jpg"] = samples[number].parts["jpg"][:200]
        shelf.write(data, "image_text", samples)
    return tiny.config(
        tiny_path, str(data), name=name,
        **{
            "stage": "joint",
            "plan": {"tokens_per_pack": 64, "packs_per_step": 4, "epochs": 2},
            "losses": {"weights": {"lm": 1.0, "info_nce": 0.1}},
            "optimizer": {"lr_projector": 1e-3, "lr_llm": 1e-3},
            "machine": {"folder": str(tmp_path / "runs"), "checkpoint_every": 1},
            **sections,
        },
    )  # fmt: skip


WAYS: dict[str, dict[str, Any]] = {
    "full": {"stage": "joint", "optimizer": {"lr_projector": 1e-3, "lr_llm": 1e-3}},
    "lora": {
        "stage": "instruct", "optimizer": {"lr_projector": 1e-3, "lr_llm": 1e-2, "clip_norm": 0.05},
        "llm": {"train": "lora", "lora": {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}},
    },
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_processes_learn_what_one_does_and_any_number_goes_on_for_any_other(
    tiny_path: Path, tmp_path: Path, way: str
) -> None:
    """Two with parts of the LLM, two with replicas, then one: each goes on where the one before stopped."""
    sections = {**WAYS[way], "losses": {"weights": {"lm": 1.0}}}
    plan = {"tokens_per_pack": 64, "packs_per_step": 4, "epochs": 3}
    one = config_of(tiny_path, tmp_path, "one", plan=plan, **sections)
    train(one)
    for done, sharding in ((1, "fsdp"), (2, "ddp"), (3, "fsdp")):
        machine = {"folder": str(tmp_path / "runs"), "checkpoint_every": 1, "sharding": sharding}
        many = config_of(tiny_path, tmp_path, "many", plan=plan, **{**sections, "machine": machine})
        assert pair(lambda dist, many=many: void(train(many, dist, stop=lambda: True))) == [0, 0]  # type: ignore[misc]
        newest = checkpoint.checkpoints(tmp_path / "runs" / "many" / "checkpoints")[-1]
        assert checkpoint.read_state(newest).step == done
    train(config_of(tiny_path, tmp_path, "many", plan=plan, **sections))
    folders = [tmp_path / "runs" / name for name in ("one", "many")]
    alone, shared = (journal.read(folder / journal.LOG) for folder in folders)
    assert len(alone) == len(shared) > 4
    for a, b in zip(alone, shared, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)
        assert (a["samples"], a["labels"], a["tokens"]) == (b["samples"], b["labels"], b["tokens"])
        assert a["by"]["modality"] == pytest.approx(b["by"]["modality"], rel=1e-5)
    told = [
        [sorted(key for key, *_ in line["samples"]) for line in journal.read(folder / journal.SAMPLES)]
        for folder in folders
    ]
    assert told[0] == told[1]
    learned = [load_file(checkpoint.resolve(str(folder)) / "model.safetensors") for folder in folders]
    assert learned[0].keys() == learned[1].keys()
    for name, value in learned[0].items():
        torch.testing.assert_close(learned[1][name], value, rtol=1e-3, atol=2e-5)


def test_parts_of_the_llm_and_replicas_give_the_same_with_every_loss_in_narrow_weights_too(
    tiny_path: Path, tmp_path: Path
) -> None:
    """Blocks that run several times a pack, and layers that are computed again for the gradient."""
    weights = {"lm": 1.0, "kl": 0.1, "masked_lm": 0.1, "info_nce": 0.1}
    for name, precision, tolerance in (("fp32", "fp32", 1e-5), ("bf16", "bf16", 2e-2)):
        found = []
        for sharding in ("ddp", "fsdp"):
            machine = {
                "folder": str(tmp_path / "runs"), "sharding": sharding, "precision": precision,
                "gradient_checkpointing": sharding == "fsdp",
            }  # fmt: skip
            plan = {"tokens_per_pack": 64, "packs_per_step": 4, "max_steps": 2}
            sections = {**WAYS["lora"], "losses": {"weights": weights}, "machine": machine, "plan": plan}
            config = config_of(tiny_path, tmp_path, f"{name}-{sharding}", **sections)
            assert pair(lambda dist, config=config: void(train(config, dist))) == [0, 0]  # type: ignore[misc]
            found.append(journal.read(tmp_path / "runs" / config.name / journal.LOG))
        for a, b in zip(*found, strict=True):
            assert a["losses"] == pytest.approx(b["losses"], rel=tolerance, abs=tolerance)
            assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=10 * tolerance)


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_after_a_kill_two_processes_go_on_bit_for_bit(tiny_path: Path, tmp_path: Path, sharding: str) -> None:
    machine = {"folder": str(tmp_path / "runs"), "sharding": sharding, "checkpoint_every": 2}
    sections = {**WAYS["lora"], "machine": machine}
    through, killed = (config_of(tiny_path, tmp_path, name, **sections) for name in ("through", "killed"))
    assert pair(lambda dist: void(train(through, dist))) == [0, 0]

    def die(dist: Dist) -> None:
        if dist.rank == 0:
            kill_after(2)
        train(killed, dist)

    codes = pair(die)
    assert codes[0] == -signal.SIGKILL
    assert codes[1] not in (0, None)  # the other one ends by itself
    assert pair(lambda dist: void(train(killed, dist))) == [0, 0]
    logs = [journal.read(tmp_path / "runs" / name / journal.LOG) for name in ("through", "killed")]
    assert len(logs[0]) > 3
    for a, b in zip(*logs, strict=True):
        assert (a["step"], a["losses"], a["grad_norm"]) == (b["step"], b["losses"], b["grad_norm"])


def kill_after(step: int) -> None:
    """End this process as kill -9 does once the line of a step is written."""
    write = journal.Journal.write

    def last(self: journal.Journal, name: str, line: dict[str, Any]) -> None:
        write(self, name, line)
        if name == journal.LOG and line["step"] == step:
            os.kill(os.getpid(), signal.SIGKILL)

    journal.Journal.write = last  # type: ignore[method-assign]


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_a_process_without_pictures_keeps_nobody_waiting(tiny_path: Path, tmp_path: Path, sharding: str) -> None:
    """Of seven samples one has a picture and one a broken one, the LLM is frozen: most packs have nothing to train."""
    machine = {"folder": str(tmp_path / "runs"), "sharding": sharding}
    plan = {"tokens_per_pack": 64, "packs_per_step": 2, "epochs": 2, "packing": False}
    sections = {"stage": "align", "machine": machine, "plan": plan}
    config = config_of(tiny_path, tmp_path, "few", pictures=(3, 5), corrupt=(5,), **sections)
    assert pair(lambda dist: void(train(config, dist))) == [0, 0]
    lines = journal.read(tmp_path / "runs" / "few" / journal.LOG)
    assert [sum(line[name] for line in lines) for name in ("samples", "bad")] == [12, 2]
    quarantined = journal.read(tmp_path / "runs" / "few" / journal.QUARANTINE)
    assert [line["key"] for line in quarantined] == ["made-000000000005"] * 2
    assert any(line["losses"]["info_nce"] == 0 for line in lines)


@pytest.mark.parametrize("weights", [{"lm": 1.0}, {"lm": 1.0, "info_nce": 0.1}], ids=["lm", "info_nce"])
def test_where_one_process_fails_all_end_and_what_was_learned_is_kept(
    tiny_path: Path, tmp_path: Path, weights: dict[str, float]
) -> None:
    machine = {"folder": str(tmp_path / "runs")}
    config = config_of(tiny_path, tmp_path, "fails", losses={"weights": weights}, machine=machine)
    # Where pairs are compared with those of others, what is left of the one that failed is a closed connection.
    told: Any = (MmdataError, "broken") if "info_nce" not in weights else (RuntimeError, "")
    begun = time.monotonic()

    def work(dist: Dist) -> None:
        hidden = MultimodalLM.hidden

        def failing(self: MultimodalLM, embeds_TE: torch.Tensor, batch: Batch, *args: Any) -> torch.Tensor:
            if dist.rank == 1 and batch.step == 1:
                raise ZeroDivisionError("broken")
            return hidden(self, embeds_TE, batch, *args)

        MultimodalLM.hidden = failing  # type: ignore[method-assign]
        error, text = told if dist.rank == 0 else (ZeroDivisionError, "broken")
        with pytest.raises(error, match=text):
            train(config, dist)

    assert pair(work) == [0, 0]
    assert time.monotonic() - begun < 50  # the limit of waiting for each other is 60
    kept = checkpoint.checkpoints(tmp_path / "runs" / "fails" / "checkpoints")
    assert [path.name for path in kept] == ["step-000001"]


def test_processes_that_see_different_checkpoints_say_so(tiny_path: Path, tmp_path: Path) -> None:
    config = config_of(tiny_path, tmp_path, "seen", machine={"folder": str(tmp_path / "runs")})

    def work(dist: Dist) -> None:
        train(config, dist, stop=lambda: True)
        if dist.rank == 1:
            # A disk that has not yet shown this machine what another one wrote.
            checkpoint.checkpoints = lambda folder: []  # type: ignore[assignment]
        with pytest.raises(MmdataError, match="see different newest checkpoints: step-000001, none"):
            train(config, dist)

    assert pair(work) == [0, 0]


def test_a_step_that_hangs_ends_with_stacks_and_its_samples(tiny_path: Path, tmp_path: Path) -> None:
    config = config_of(tiny_path, tmp_path, "hangs", machine={"folder": str(tmp_path / "runs"), "step_limit_s": 2.0})

    def hang() -> None:
        Run._losses = lambda *args: threading.Event().wait()  # type: ignore[method-assign, assignment, return-value]
        train(config)

    process = multiprocessing.get_context("fork").Process(target=hang)
    process.start()
    process.join(60)
    assert process.exitcode == 1
    stacks = (tmp_path / "runs" / "hangs" / "stacks-0.txt").read_text()
    assert stacks.startswith("step 0, samples made-")
    assert "threading.py" in stacks
    assert "_backward" in stacks


def void(_: object) -> None:
    """Forked work gives nothing back but its exit code."""
