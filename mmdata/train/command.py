"""`mmdata train` from the file to the last line, alone or as one of several processes; stopping by signals."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any

import torch

from mmdata.train.config import TrainConfig, load
from mmdata.train.dist import Dist
from mmdata.train.engine import begin
from mmdata.train.quiet import quiet_libraries
from mmdata.train.report import dry_run, render


class Stop:
    """Whether SIGTERM or Ctrl-C asked to stop. The running step ends first; the second time nothing is waited for."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.signal = 0
        self._tell = tell
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return bool(self.signal)

    def __enter__(self) -> Stop:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._asked)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            self._before[number](number, frame)
        self.signal = number
        self._tell(f"{signal.Signals(number).name}: a checkpoint is written after this step; once more ends at once")


def start(path: str, overrides: Sequence[str], dry: bool, tell: Callable[[str], None]) -> int:
    """Train by a file, or only say what it would do; the exit code: 0, or 128 and the signal that stopped it.

    Started by torchrun it is one of its processes, and the first one tells. Raises ConfigError and what `engine.train`
    raises.
    """
    config = load(path, overrides)
    if dry:
        quiet_libraries()
        tell(render(dry_run(config)))
        return 0
    return run(config, tell)


def run(config: TrainConfig, tell: Callable[[str], None], asked: Callable[[], bool] | None = None) -> int:
    """Be one process of a run, by the environment; its exit code. The first process tells.

    asked: whether to stop; by signals to this process where left out.
    """
    device = "cuda" if torch.cuda.is_available() and config.machine.device != "cpu" else "cpu"
    quiet_libraries()
    with Dist.from_environment(device, config.machine.step_limit_s) as dist:
        say = tell if dist.rank == 0 else lambda text: None
        begun = begin(config, dist)
        done, steps = begun.state.step, begun.plan.num_steps
        say(f"{begun.prepared.folder}: {steps - done:,} of {steps:,} steps to do on {begun.device}")
        with Stop(say) if asked is None else contextlib.nullcontext(asked) as stop:
            result = begun.steps(stop, say)
        is_done = result.steps == result.num_steps
        after = "" if is_done else "; the same command goes on from here"
        say(f"{result.folder}: {result.steps:,} of {result.num_steps:,} steps done{after}")
        # Another process may have been the one that was asked.
        return 0 if is_done else 128 + (getattr(stop, "signal", 0) or signal.SIGTERM)
