"""Refetch: rows of a run that failed for some reasons are tried again, and merged in place as a new revision."""

from __future__ import annotations

import uuid

from mmdata.errors import ConfigError, Reason
from mmdata.options import nearest
from mmdata.run.before import keys_to_try
from mmdata.run.driver import Driver, counts_of
from mmdata.run.ingest import IngestJob, ingest_shard
from mmdata.run.plan import ShardPlan
from mmdata.shards import ledger
from mmdata.shards.commits import CommitLog


def reasons_of(text: str) -> frozenset[str]:
    """The reasons of `fetch.timeout,fetch.http_5xx`; a group such as `fetch` means all of its reasons.

    Empty: those that a later try may cure. Raises ConfigError for an unknown one, naming the nearest.
    """
    lost = [reason for reason in Reason if reason is not Reason.OK]
    if not text.strip():
        return frozenset(reason.value for reason in lost if reason.is_transient)
    found: set[str] = set()
    for name in (part.strip() for part in text.split(",")):
        chosen = {reason.value for reason in lost if name in (reason.value, reason.group)}
        if not chosen:
            names = [reason.value for reason in lost]
            raise ConfigError(f"--reason {name}: no such reason{nearest(name, names)}; allowed: {', '.join(names)}")
        found |= chosen
    return frozenset(found)


def refetch_part(driver: Driver, reasons: frozenset[str]) -> str:
    """Try the rows again, shard by shard; returns one line about what came of it."""
    log = CommitLog(driver.run, "ingest")
    pending, rows = _pending(driver, log, reasons)
    before = counts_of(log)
    driver.progress.start("refetch", len(pending), rows)
    if pending:
        results = driver.executor.tasks(ingest_shard, pending, _Jobs(driver, log, reasons))
        driver.finish(log, driver.run.root, "refetch", results)
    driver.progress.end("refetch")
    had = counts_of(log).reasons["ok"] - before.reasons["ok"]
    return f"refetch: {rows:,} rows in {len(pending):,} shards tried again, {had:,} more samples"


def _pending(driver: Driver, log: CommitLog, reasons: frozenset[str]) -> tuple[list[ShardPlan], int]:
    """Shards with such rows, known from their counts or, for media of documents, their ledgers; and how many rows."""
    pending, rows = [], 0
    for plan in driver.plan.shards:
        commit = log.commits.get(plan.shard)
        has_media = plan.modality in ("interleaved", "instruct")
        if commit is None or not (has_media or reasons & set(commit.counts["reasons"])):
            continue
        found = len(keys_to_try(ledger.read(driver.run.ledger(plan.shard, commit.revision)), reasons))
        if found:
            pending.append(plan)
            rows += found
    return pending, rows


class _Jobs:
    """Makes the job for every attempt at a shard."""

    def __init__(self, driver: Driver, log: CommitLog, reasons: frozenset[str]) -> None:
        self._driver, self._log, self._reasons = driver, log, reasons

    def __call__(self, plan: ShardPlan, _attempt: int) -> IngestJob:
        return IngestJob(
            run=self._driver.run,
            pipeline=self._driver.pipeline,
            plan=plan,
            config_hash=self._driver.record.ingest_hash,
            attempt=uuid.uuid4().hex,
            workers=self._driver.executor.workers,
            forbidden_ports=self._driver.executor.forbidden_ports,
            revision=self._log.commits[plan.shard].revision + 1,
            again=self._reasons,
        )
