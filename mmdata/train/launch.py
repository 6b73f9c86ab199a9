"""`mmdata train` on Ray: Ray Train places the processes and joins them; what they do is the same as under torchrun.

Data come from the plan, not from Ray Data, whose iterators cannot go on in the middle of an epoch. The training file,
the data and the run folder must be seen under the same paths by all machines.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmdata.errors import ConfigError, MmdataError
from mmdata.ray_token import use_token
from mmdata.train import command
from mmdata.train.config import TrainConfig, load

LOCAL = "local"
_STOP, _TOLD = ".stop", ".told"  # files in the run folder: asks its processes to stop, what they say
_POLL_S = 0.2


def start_on_ray(path: str, overrides: Sequence[str], address: str, processes: int, tell: Callable[[str], None]) -> int:
    """Train by a file in `processes` processes of the Ray at `address`; `local` starts one here. See `command.start`.

    processes: 0 for one on each GPU of the cluster, or one in all where it has none. Raises ConfigError where no Ray
    answers, and what `engine.train` raises.
    """
    # Processes of Ray have working directories of their own.
    given = [*overrides, f"machine.folder={Path(load(path, overrides).machine.folder).absolute()}"]
    config = load(path, given)
    folder = Path(config.machine.folder) / config.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _STOP).unlink(missing_ok=True)
    with _ray(address, processes), (folder / _TOLD).open("w+") as told, command.Stop(tell) as stop:
        failed: list[BaseException] = []

        def fit() -> None:
            try:
                _fit(config, {"path": str(Path(path).absolute()), "overrides": given}, processes, address == LOCAL)
            except BaseException as error:
                failed.append(error)

        # In a thread, so that Ray's own handling of Ctrl-C, which drops the running step, is not put in place.
        fitting = threading.Thread(target=fit, daemon=True)
        fitting.start()
        running = True
        while running:
            fitting.join(_POLL_S)
            running = fitting.is_alive()
            while line := told.readline():
                tell(line.rstrip("\n"))
            if stop():
                (folder / _STOP).touch()
        if failed:
            raise failed[0]
    for name in (_STOP, _TOLD):
        (folder / name).unlink(missing_ok=True)
    return 128 + stop.signal if stop.signal else 0


def _fit(config: TrainConfig, asked: dict[str, Any], processes: int, is_local: bool) -> None:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    made_by: Any = TorchTrainer

    class Trainer(made_by):  # type: ignore[misc]
        def _create_default_callbacks(self) -> list[Any]:
            # What frees places when the driver dies asks the dashboard; a Ray of our own has none, and ends with us.
            every = super()._create_default_callbacks()
            return [each for each in every if type(each).__name__ != "PlacementGroupCleanerCallback" or not is_local]

    cluster: Any = ray
    gpus = 0 if config.machine.device == "cpu" else int(cluster.cluster_resources().get("GPU", 0))
    count = processes or max(1, gpus)
    trainer = Trainer(
        _work,
        train_loop_config=asked,
        torch_config=TorchConfig(timeout_s=int(config.machine.step_limit_s) or 1800),
        scaling_config=ScalingConfig(num_workers=count, use_gpu=gpus >= count),
        run_config=RunConfig(
            name="ray",
            storage_path=str(Path(config.machine.folder) / config.name),
            failure_config=FailureConfig(max_failures=0),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        failures = getattr(error, "worker_failures", {}).values()
        raise next((found for found in failures if isinstance(found, MmdataError)), error) from error


def _work(asked: dict[str, Any]) -> None:
    """One process of the run."""
    config = load(asked["path"], asked["overrides"])
    folder = Path(config.machine.folder) / config.name

    def tell(text: str) -> None:
        with (folder / _TOLD).open("a") as file:
            file.write(text + "\n")

    command.run(config, tell, (folder / _STOP).exists)


@contextlib.contextmanager
def _ray(address: str, processes: int) -> Iterator[None]:
    """Ray at an address, or one of its own that ends with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    if address != LOCAL:
        use_token()
    import ray

    before = signal.getsignal(signal.SIGTERM)
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "configure_logging": True}
    if address == LOCAL:
        cpus = max(os.cpu_count() or 1, processes)
        ray.init(address=LOCAL, num_cpus=cpus, include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
    else:
        try:
            # A job's own driver runs in the working directory it was submitted with; its workers have the code already.
            package = str(Path(__file__).parents[1])
            environment = {} if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") else {"py_modules": [package]}
            ray.init(address=address, runtime_env=environment, **quiet)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            first = str(error).splitlines()[0][:120]
            remedy = "start one with `ray start --head`, or give `local`"
            raise ConfigError(f"--ray-address {address}: no Ray cluster answers there ({first}); {remedy}") from error
    signal.signal(signal.SIGTERM, before)  # Ray puts its own there, which ends with a stack and status 1
    try:
        yield
    finally:
        ray.shutdown()
