"""The work of a run in this process, one shard after the other: the reference meaning of a pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from mmdata.config import RunOptions
from mmdata.errors import BudgetError, ConfigError, MmdataError, StorageError
from mmdata.run.scoring import ScoreWorker

MAX_WAIT_S = 60.0


class Failed(Exception):
    """A shard that could not be done; `cause` says why, `attempts` how often it was tried."""

    def __init__(self, cause: Exception, attempts: int) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.attempts = attempts


class Executor(Protocol):
    """Carries out jobs; `make_job(item, attempt_number)` makes a fresh job for every attempt at an item.

    Gives (item, result) as they finish, in any order; the result is a Commit, or Failed after the last attempt.
    StorageError ends everything at once: another attempt would meet the same full disk.
    """

    workers: int
    gpus: int  # that actors may ask for
    forbidden_ports: frozenset[int]

    def tasks(
        self, function: Callable[[Any], Any], items: Sequence[Any], make_job: Callable[[Any, int], Any]
    ) -> Iterator[tuple[Any, Any]]:
        """Run `function(job)` for every item."""

    def actors(
        self,
        make_worker: Callable[[], ScoreWorker],
        resources: Any,
        items: Sequence[Any],
        make_job: Callable[[Any, int], Any],
    ) -> Iterator[tuple[Any, Any]]:
        """Run `worker.score(job)` for every item on workers that are made once."""

    def close(self) -> None:
        """End what was started."""


def wait_s(options: RunOptions, failed: Failed) -> float:
    """Seconds to wait before the next attempt at a shard: an outage is not over the moment it is met."""
    if not isinstance(failed.cause, BudgetError):
        return 0.0
    return min(MAX_WAIT_S, options.retry_wait_s * 2.0 ** (failed.attempts - 1))


class LocalExecutor:
    """Runs jobs one after the other in this process."""

    workers = 1
    gpus = 0
    forbidden_ports = frozenset({6379, 8265, 10001})  # where a Ray beside us would listen

    def __init__(self, options: RunOptions) -> None:
        self._options = options

    def tasks(
        self, function: Callable[[Any], Any], items: Sequence[Any], make_job: Callable[[Any, int], Any]
    ) -> Iterator[tuple[Any, Any]]:
        for item in items:
            yield item, self._try(function, item, make_job)

    def actors(
        self,
        make_worker: Callable[[], ScoreWorker],
        resources: Any,
        items: Sequence[Any],
        make_job: Callable[[Any, int], Any],
    ) -> Iterator[tuple[Any, Any]]:
        worker = make_worker()
        yield from self.tasks(worker.score, items, make_job)

    def _try(self, function: Callable[[Any], Any], item: Any, make_job: Callable[[Any, int], Any]) -> Any:
        for attempt in range(1, self._options.attempts + 1):
            try:
                return function(make_job(item, attempt))
            except (StorageError, ConfigError):
                raise
            except MmdataError as error:
                failed = Failed(error, attempt)
                if attempt < self._options.attempts:
                    time.sleep(wait_s(self._options, failed))
        return failed

    def close(self) -> None:
        """Nothing was started."""
