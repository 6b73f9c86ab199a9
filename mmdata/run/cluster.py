"""The work of a run on Ray: one idempotent task a shard, a small pool of actors a scorer, a bounded number in flight.

Media bytes never enter the object store: a task reads and writes storage and returns its commit record. The driver
keeps the deadlines: a task over its time is cancelled by force and tried again, and so is one whose worker died.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdata.config import RunOptions
from mmdata.errors import BudgetError, ConfigError, StorageError
from mmdata.ray_token import use_token
from mmdata.run.local import Failed, wait_s
from mmdata.shards.arrow import start_without_pandas

POLL_S = 1.0
CONNECT_S = 5.0
OBJECT_STORE_BYTES = 100 << 20  # commit records only


@dataclass
class _Flight:
    """One attempt that is under way."""

    item: Any
    number: int
    started_s: float
    worker: Any = None


class RayExecutor:
    """Runs jobs on Ray: an embedded one on 127.0.0.1, or the cluster at `address`."""

    def __init__(self, options: RunOptions, address: str = "") -> None:
        self._options = options
        self._is_embedded = not address
        self._start(address)
        import ray

        cpus = int(ray.cluster_resources().get("CPU", 1))
        self.workers = cpus if options.workers == "auto" else options.workers
        self.gpus = int(ray.cluster_resources().get("GPU", 0))
        self.forbidden_ports = ray_ports(ray.nodes(), ray.get_runtime_context().gcs_address)

    def _start(self, address: str) -> None:
        # Set before Ray is imported: no usage statistics, and no GPU taken away from actors that ask for none.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        before = signal.getsignal(signal.SIGTERM)
        if address:
            use_token()
        import ray

        quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "configure_logging": True}
        if not address:
            workers = self._options.workers
            ray.init(
                address="local",
                num_cpus=(os.cpu_count() or 1) if workers == "auto" else workers,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
            signal.signal(signal.SIGTERM, before)  # Ray puts its own there, which ends with a stack and status 1
            return
        package = str(Path(__file__).parents[1])
        try:
            # A job's own driver runs in the working directory it was submitted with; its workers have the code already.
            environment = {} if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") else {"py_modules": [package]}
            ray.init(address=address, runtime_env=environment, **quiet)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            raise _unreachable(address, error) from None
        signal.signal(signal.SIGTERM, before)

    def tasks(
        self, function: Callable[[Any], Any], items: Sequence[Any], make_job: Callable[[Any, int], Any]
    ) -> Iterator[tuple[Any, Any]]:
        import ray

        remote = ray.remote(_in_worker).options(num_cpus=1, max_retries=0, name=function.__name__)

        def submit(flight: _Flight) -> Any:
            return remote.remote(function, make_job(flight.item, flight.number))

        yield from self._drive(items, submit, self.workers, lambda _: None)

    def actors(
        self, make_worker: Callable[[], Any], resources: Any, items: Sequence[Any], make_job: Callable[[Any, int], Any]
    ) -> Iterator[tuple[Any, Any]]:
        import ray

        wanted = self._actor_count(resources, len(items))
        largest = max((node["Resources"].get("CPU", 1.0) for node in ray.nodes()), default=1.0)
        actor = ray.remote(_Actor).options(
            num_cpus=min(resources.cpus, largest), num_gpus=resources.gpus, max_restarts=0
        )
        idle: deque[Any] = deque(actor.remote(make_worker) for _ in range(wanted))

        def submit(flight: _Flight) -> Any:
            flight.worker = idle.popleft()
            return flight.worker.score.remote(make_job(flight.item, flight.number))

        def release(flight: _Flight) -> None:
            if flight.worker is None:  # died with its attempt
                idle.append(actor.remote(make_worker))
            else:
                idle.append(flight.worker)

        try:
            yield from self._drive(items, submit, wanted, release)
        finally:
            for worker in idle:
                ray.kill(worker)

    def _actor_count(self, resources: Any, items: int) -> int:
        import ray

        have = ray.cluster_resources()
        by_cpu = int(have.get("CPU", 1) // max(resources.cpus, 0.01))
        by_gpu = int(have.get("GPU", 0) // resources.gpus) if resources.gpus else by_cpu
        wanted = items if self._options.score_workers == "auto" else self._options.score_workers
        return max(1, min(by_cpu, by_gpu, items, wanted))

    def _drive(
        self, items: Sequence[Any], submit: Callable[[_Flight], Any], slots: int, release: Callable[[_Flight], None]
    ) -> Iterator[tuple[Any, Any]]:
        """Keep `slots` attempts under way until every item has a result or has failed for good."""
        import ray

        waiting = deque((0.0, item, 1) for item in items)  # when the attempt may begin; retries stand at the end
        flights: dict[Any, _Flight] = {}
        last_s = time.monotonic()
        try:
            while waiting or flights:
                while waiting and len(flights) < slots and waiting[0][0] <= time.monotonic():
                    _, item, number = waiting.popleft()
                    flight = _Flight(item, number, time.monotonic())
                    flights[submit(flight)] = flight
                if not flights:  # all that is left waits for its next attempt
                    time.sleep(min(POLL_S, max(0.0, waiting[0][0] - time.monotonic())))
                    continue
                ready, _ = ray.wait(list(flights), num_returns=1, timeout=POLL_S)
                now_s = time.monotonic()
                overdue = [ref for ref, f in flights.items() if now_s - f.started_s > self._options.shard_timeout_s]
                for ref in [*ready, *(ref for ref in overdue if ref not in ready)]:
                    flight = flights.pop(ref)
                    result = _result(ref, flight, ref in ready, self._options.shard_timeout_s)
                    release(flight)
                    last_s = now_s
                    if isinstance(result, Failed) and flight.number < self._options.attempts:
                        waiting.append((now_s + wait_s(self._options, result), flight.item, flight.number + 1))
                    else:
                        yield flight.item, result
                # A shard may take shard_timeout_s: only after that does silence mean that nothing moves.
                stall_s = max(self._options.stall_timeout_s, self._options.shard_timeout_s + POLL_S)
                if now_s - last_s > stall_s:
                    raise BudgetError(f"no shard was finished for {stall_s:.0f} s; see the logs of Ray")
        finally:
            # An embedded Ray is shut down next; to cancel a task that finishes meanwhile can end this very process.
            for ref, flight in flights.items() if not self._is_embedded else ():
                _cancel(ref, flight)

    def close(self) -> None:
        """Leave the cluster; an embedded Ray ends with all its processes."""
        import ray

        ray.shutdown()


def _in_worker(function: Callable[[Any], Any], job: Any) -> Any:
    start_without_pandas()
    return function(job)


class _Actor:
    """A score worker that says why it could not be made, instead of dying without a word."""

    def __init__(self, make_worker: Callable[[], Any]) -> None:
        self._make_worker = make_worker
        self._worker: Any = None

    def score(self, job: Any) -> Any:
        if self._worker is None:
            self._worker = self._make_worker()
        return self._worker.score(job)


def _result(ref: Any, flight: _Flight, is_ready: bool, timeout_s: float) -> Any:
    """What an attempt came to: its commit, or Failed. StorageError is raised on."""
    import ray

    if not is_ready:
        _cancel(ref, flight)
        return Failed(TimeoutError(f"not finished within run.shard_timeout_s = {timeout_s:.0f} s"), flight.number)
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause if isinstance(error.cause, Exception) else error
        if isinstance(cause, (StorageError, ConfigError)):
            raise cause from None
        return Failed(cause, flight.number)
    except ray.exceptions.RayError as error:
        flight.worker = None
        first = str(error).strip().splitlines()[0]
        return Failed(RuntimeError(f"{type(error).__name__}: {first}"), flight.number)


def _cancel(ref: Any, flight: _Flight) -> None:
    import ray

    with contextlib.suppress(Exception):  # it may have ended meanwhile
        if flight.worker is None:
            ray.cancel(ref, force=True)
        else:
            ray.kill(flight.worker)
    flight.worker = None


def check_reachable(address: str) -> None:
    """Raise ConfigError at once where nothing listens at `host:port`; Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # `auto`, which Ray looks up by itself
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise _unreachable(address, error) from None


def _unreachable(address: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"RAY_ADDRESS={address}: no Ray cluster answers there ({str(error).splitlines()[0][:120]}); "
        "start one with `ray start --head`, or leave RAY_ADDRESS empty for an embedded Ray"
    )


def ray_ports(nodes: Sequence[dict[str, Any]], gcs_address: str) -> frozenset[int]:
    """Ports that Ray itself listens on; no fetched link may reach them, whatever networks are allowed."""
    ports = {6379, 8265, 10001, 52365}
    for node in nodes:
        ports |= {
            value for name, value in node.items() if name.endswith("Port") and isinstance(value, int) and value > 0
        }
    port = gcs_address.rpartition(":")[2]
    return frozenset(ports | ({int(port)} if port.isdigit() else set()))
