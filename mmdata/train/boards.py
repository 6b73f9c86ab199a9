"""Curves of a run elsewhere than in its log: TensorBoard's event files, Weights & Biases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmdata.errors import ConfigError
from mmdata.train.config import TrainConfig

_CLOCK_SKEW_S = 3  # files of a clock that is further ahead are not waited for


class Boards:
    """What `watch` asks for. Each line of the log becomes points at its step; a run that goes on continues its curves.

    Raises ConfigError where a package is missing.
    """

    def __init__(self, config: TrainConfig, folder: Path, start_step: int) -> None:
        self._writers: list[Callable[[dict[str, float], int], None]] = []
        self._closers: list[Callable[[], None]] = []
        if config.watch.tensorboard:
            self._tensorboard(folder / "tensorboard", start_step)
        if config.watch.wandb:
            self._wandb(config, folder)

    def write(self, line: Mapping[str, Any]) -> None:
        """A line of `log.jsonl`."""
        if self._writers:
            points = dict(_points(line))
            for write in self._writers:
                write(points, line["step"])

    def close(self) -> None:
        for close in self._closers:
            close()

    def _tensorboard(self, folder: Path, start_step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError("watch.tensorboard: needs the package tensorboard: pip install tensorboard") from error
        _wait_for_a_later_second(folder)
        make: Any = SummaryWriter
        # Points of steps that are done again after a kill are taken out.
        writer = make(str(folder), purge_step=start_step)

        def write(points: dict[str, float], step: int) -> None:
            for name, value in points.items():
                writer.add_scalar(name, value, step)
            writer.flush()  # what a kill takes away must not be of steps that a checkpoint holds

        self._writers.append(write)
        self._closers.append(writer.close)

    def _wandb(self, config: TrainConfig, folder: Path) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError("watch.wandb: needs the package wandb: pip install wandb") from error
        package: Any = wandb
        run = package.init(
            project=config.watch.wandb, name=config.name, id=f"{config.name}-{config.hash[:12]}", resume="allow",
            dir=str(folder), config=config.to_yaml(),
        )  # fmt: skip
        self._writers.append(lambda points, step: run.log(points, step=step))
        self._closers.append(run.finish)


def _wait_for_a_later_second(folder: Path) -> None:
    """Until a new event file sorts after those that are there: TensorBoard reads them by the second in their names."""
    written = [path.name.split(".")[3] for path in folder.glob("events.out.tfevents.*")]
    newest_s = max((int(second) for second in written if second.isdigit()), default=0)
    while 0 <= newest_s - int(time.time()) < _CLOCK_SKEW_S:
        time.sleep(0.05)


def _points(line: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Numbers of a line, those of sections by their path: `losses/lm`, `by_source/demo/lm`."""
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from _points(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and name != "step":
            yield prefix + name, float(value)
