"""What several processes promise: they learn what one does, end together, and never wait for one that is gone."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

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


def config_of(tiny_path: Path, tmp_path: Path, name: str, **sections: Any) -> TrainConfig:
    """Seven samples, one of them words only, in packs that do not come out even."""
    data = tmp_path / "data"
    if not data.exists():
        samples = [shelf.captioned(number, 3 + number) for number in range(7)]
        samples[2].parts = {}
        shelf.write(data, "image_text", samples)
    return tiny.config(
        tiny_path, str(data), name=name, stage="joint",
        **{
            "plan": {"tokens_per_pack": 64, "packs_per_step": 4, "epochs": 2},
            "losses": {"weights": {"lm": 1.0, "info_nce": 0.1}},
            "optimizer": {"lr_projector": 1e-3, "lr_llm": 1e-3},
            "machine": {"folder": str(tmp_path / "runs"), "checkpoint_every": 1},
            **sections,
        },
    )  # fmt: skip


def test_two_processes_learn_what_one_does_and_either_goes_on_for_the_other(tiny_path: Path, tmp_path: Path) -> None:
    weights = {"lm": 1.0}
    one = config_of(tiny_path, tmp_path, "one", losses={"weights": weights})
    two = config_of(tiny_path, tmp_path, "two", losses={"weights": weights})
    calls: list[int] = []
    train(one)
    assert pair(lambda dist: void(train(two, dist, stop=lambda: bool(calls.append(1)) or len(calls) == 2))) == [0, 0]
    folders = [tmp_path / "runs" / name for name in ("one", "two")]
    assert checkpoint.read_state(checkpoint.checkpoints(folders[1] / "checkpoints")[-1]).step == 2
    train(two)
    alone, shared = (journal.read(folder / journal.LOG) for folder in folders)
    assert len(alone) == len(shared) > 2
    for a, b in zip(alone, shared, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)
        assert (a["samples"], a["labels"], a["tokens"]) == (b["samples"], b["labels"], b["tokens"])
    told = [
        [sorted(key for key, *_ in line["samples"]) for line in journal.read(folder / journal.SAMPLES)]
        for folder in folders
    ]
    assert told[0] == told[1]


def test_negatives_of_all_processes_and_ranks_without_pictures_do_not_hang(tiny_path: Path, tmp_path: Path) -> None:
    config = config_of(tiny_path, tmp_path, "nce")
    assert pair(lambda dist: void(train(config, dist))) == [0, 0]
    lines = journal.read(tmp_path / "runs" / "nce" / journal.LOG)
    assert any(line["losses"]["info_nce"] > 0 for line in lines)


def test_where_one_process_fails_all_end_and_what_was_learned_is_kept(tiny_path: Path, tmp_path: Path) -> None:
    config = config_of(
        tiny_path, tmp_path, "fails", losses={"weights": {"lm": 1.0}}, machine={"folder": str(tmp_path / "runs")}
    )

    def work(dist: Dist) -> None:
        hidden = MultimodalLM.hidden

        def failing(self: MultimodalLM, embeds_TE: torch.Tensor, batch: Batch, *args: Any) -> torch.Tensor:
            if dist.rank == 1 and batch.step == 1:
                raise ZeroDivisionError("broken")
            return hidden(self, embeds_TE, batch, *args)

        MultimodalLM.hidden = failing  # type: ignore[method-assign]
        with pytest.raises(MmdataError if dist.rank == 0 else ZeroDivisionError, match="broken"):
            train(config, dist)

    assert pair(work) == [0, 0]
    kept = checkpoint.checkpoints(tmp_path / "runs" / "fails" / "checkpoints")
    assert [path.name for path in kept] == ["step-000001"]


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
