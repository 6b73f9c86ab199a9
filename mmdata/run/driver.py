"""The driver: opens a run, finds what is not done yet, has it done, decides what counts. Resume is running it again."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from mmdata.config import Pipeline
from mmdata.counters import Counters
from mmdata.errors import BudgetError, ChangedError, ShardError, SourceError
from mmdata.run.burial import bury_rows
from mmdata.run.catalog import Resolved, resolve
from mmdata.run.ingest import IngestJob, ingest_shard
from mmdata.run.local import Executor, Failed
from mmdata.run.lock import driver_lock
from mmdata.run.log_file import LogFile
from mmdata.run.plan import Plan, ShardPlan, extend_plan
from mmdata.run.record import Record
from mmdata.run.removals import rules_of
from mmdata.run.scoring import ScoreJob, ScoreWorker
from mmdata.run.status import Progress
from mmdata.shards import storage
from mmdata.shards.commits import Commit, CommitLog
from mmdata.shards.folders import DatasetFolder, RunFolder
from mmdata.stage import Resources, Stage

EMIT_PREFIX = "emit."
logger = logging.getLogger(__name__)


class Driver:
    """One run of one pipeline. `make_executor` is called only when there is work, so a finished run starts nothing."""

    def __init__(
        self, pipeline: Pipeline, run: RunFolder, make_executor: Callable[[], Executor], progress: Progress
    ) -> None:
        self.pipeline = pipeline
        self.run = run
        self.heed_removals()
        self.progress = progress
        self.did_work = False
        self._make_executor = make_executor
        self._executor: Executor | None = None
        self._closing: threading.Thread | None = None
        self._log = LogFile(run)
        self.plan = Plan([], [])

    def heed_removals(self) -> None:
        """Read the lists of what is removed, which are the first rules of every selection."""
        resolved = resolve(self.pipeline)
        self.removed = rules_of(self.run)
        self.resolved: Resolved = replace(resolved, rules=[*self.removed, *resolved.rules])
        self.record = Record(self.run, self.pipeline, self.resolved)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Driver]:
        """Hold the run; on the way out end the executor. A run that never got a plan leaves no folder behind."""
        is_new = not storage.exists(self.run.root)
        with driver_lock(self.run):
            try:
                self.heed_removals()
                self.record.check()
                self._roll_forward()
                if is_new:
                    self.record.write()  # before there is a plan: what was planned with another file must be seen
                try:
                    self.plan = extend_plan(self.run, self.pipeline, self.resolved, self.progress.planned)
                except SourceError:
                    if is_new:
                        storage.remove(self.run.root)
                    raise
                bury_rows(self.run, self.plan)
                self.record.write()
                yield self
            except Exception as error:
                logger.info("ends with %s: %s", type(error).__name__, error)
                raise
            finally:
                self._log.close()
                self.release_executor()
                if self._closing is not None:
                    self._closing.join()
                if self.did_work and not storage.is_remote(self.run.root):
                    storage.remove(self.run.attempts)

    def release_executor(self) -> None:
        """End the executor while other work goes on: what is left needs none, and Ray takes a second to end."""
        if self._executor is not None:
            self._closing = threading.Thread(target=self._executor.close)
            self._closing.start()
            self._executor = None

    @property
    def has_executor(self) -> bool:
        return self._executor is not None

    @property
    def executor(self) -> Executor:
        """What carries out the jobs, started at the first use."""
        if self._executor is None:
            self._log.open()
            start = time.perf_counter()
            self._executor = self._make_executor()
            self.progress.engine_start_s = time.perf_counter() - start
            self.did_work = True
        return self._executor

    def _roll_forward(self) -> None:
        """Publish what an earlier driver decided, set damaged shards aside, and clear what its attempts left."""
        for part in storage.list_names(self.run.commits("")):
            if not part.startswith(EMIT_PREFIX):  # the files of those lie in a dataset; emit rolls them forward
                for shard in CommitLog(self.run, part).roll_forward(self.run.root):
                    logger.warning("%s: shard %d lost its files and is done again", part, shard)
        storage.remove(self.run.attempts)

    def ingest(self) -> Counters:
        """Fetch and decode every shard that has no commit yet; returns the counts of all shards."""
        log = CommitLog(self.run, "ingest")
        pending = [shard for shard in self.plan.shards if shard.shard not in log.commits]
        self.progress.start("ingest", len(self.plan.shards), self.plan.rows, counts_of(log), len(log.commits))
        if pending:
            self.finish(log, self.run.root, "ingest", self.executor.tasks(ingest_shard, pending, self._ingest_job))
            log.roll_up()
        self.progress.end("ingest")
        return counts_of(log)

    def _ingest_job(self, shard: ShardPlan, attempt: int) -> IngestJob:
        return IngestJob(
            run=self.run,
            pipeline=self.pipeline,
            plan=shard,
            config_hash=self.record.ingest_hash,
            attempt=uuid.uuid4().hex,
            workers=self.executor.workers,
            forbidden_ports=self.executor.forbidden_ports,
        )

    def score(self) -> dict[str, Counters]:
        """Score every ingested shard with every scorer that has not done it yet."""
        counts = {}
        for name, scorer in self.resolved.scorers.items():
            part = f"score.{name}"
            ingested = CommitLog(self.run, "ingest").commits
            log = CommitLog(self.run, part)
            scored = {shard: commit.revision for shard, commit in log.commits.items()}
            done = {shard for shard, commit in ingested.items() if scored.get(shard) == commit.revision}
            pending = [shard for shard in sorted(ingested) if shard not in done]
            rows = sum(ingested[shard].counts["reasons"].get("ok", 0) for shard in ingested)
            self.progress.start(part, len(ingested), rows, counts_of(log, done), len(done))
            if pending:
                make_job = partial(self._score_job, name, ingested)
                make_worker = partial(ScoreWorker, self.pipeline, name)
                results = self.executor.actors(make_worker, self._resources(scorer), pending, make_job)
                self.finish(log, self.run.root, part, results)
                log.roll_up()
            self.progress.end(part)
            counts[name] = counts_of(log)
        return counts

    def _resources(self, scorer: Stage) -> Resources:
        """What an actor asks for: a processor a thread, and a GPU of its own where it may use one."""
        cpus = max(scorer.resources.cpus, float(getattr(scorer, "threads", 1)))
        may_use_gpu = self.executor.gpus > 0 and getattr(scorer, "device", "cpu") != "cpu"
        return Resources(cpus, 1.0 if may_use_gpu else scorer.resources.gpus)

    def _score_job(self, scorer: str, ingested: dict[int, Commit], shard: int, attempt: int) -> ScoreJob:
        return ScoreJob(
            run=self.run,
            pipeline=self.pipeline,
            scorer=scorer,
            shard=shard,
            revision=ingested[shard].revision,
            config_hash=self.record.scorer_hash(scorer),
            fingerprint=ingested[shard].files[0].sha256,
            attempt=uuid.uuid4().hex,
        )

    def finish(self, log: CommitLog, root: str, part: str, results: Iterator[tuple[Any, Any]]) -> None:
        """Decide and publish every result; raise ShardError or BudgetError at the end where shards failed."""
        failed: list[tuple[Any, Failed]] = []
        logger.info("%s: begins; %d shards are done", part, len(log.commits))
        attempts = self.run.attempts if root == self.run.root else DatasetFolder(root).attempts
        for item, result in results:
            if isinstance(result, Failed):
                failed.append((item, result))
                logger.warning("%s: %s failed after %d attempts: %s", part, item, result.attempts, result.cause)
                continue
            _check_facts(log, result)
            log.decide(result)
            log.publish(log.commits[result.shard], root)
            storage.remove(storage.join(attempts, result.attempt))
            self.progress.shard(part, Counters.from_json(result.counts))
        logger.info("%s: ends; %d shards are done, %d failed", part, len(log.commits), len(failed))
        if failed:
            self.progress.fail(part)
            names = ", ".join(str(getattr(item, "shard", item)) for item, _ in failed[:10])
            cause = failed[0][1].cause
            kind = BudgetError if any(isinstance(f.cause, BudgetError) for _, f in failed) else ShardError
            raise kind(
                f"{part}: {len(failed)} shards are not done after {failed[0][1].attempts} attempts each ({names}); "
                f"the first says: {type(cause).__name__}: {cause}. Run the same command again to try them once more."
            )


def _check_facts(log: CommitLog, result: Commit) -> None:
    """Raise ChangedError where a scorer works otherwise than it did for the shards that are done (CPU and CUDA)."""
    now = result.counts.get("facts")
    before = next((commit.counts["facts"] for commit in log.commits.values() if "facts" in commit.counts), now)
    if now != before:
        raise ChangedError(
            f"{log.part}: earlier shards were scored with {before}, this machine scores with {now}: their numbers do "
            "not compare; go on where it began, or choose another RUN"
        )


def counts_of(log: CommitLog, shards: Collection[int] | None = None) -> Counters:
    """The counts of the shards of a part that are done, or of some of them, added up."""
    total = Counters()
    for shard in sorted(log.commits if shards is None else shards):
        total.add(Counters.from_json(log.commits[shard].counts))
    return total
