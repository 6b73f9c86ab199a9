"""Purging: what recorded purges name goes from plan, ledgers, staged tars, scores, selections and older datasets.

Every shard that holds any of it gets a new revision under the commit rules, as a refetch does, and older revisions go.
The order makes a kill harmless: what is found by its link goes from the plan last, and doing it again changes nothing.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import partial

import pyarrow.compute as pc

from mmdata.counters import Counters
from mmdata.run.burial import buried, buried_ledger, bury_in_plan, is_buried
from mmdata.run.driver import EMIT_PREFIX, Driver
from mmdata.run.removals import Removals, forget_listed, purges
from mmdata.run.versions import versions_of
from mmdata.sample import root_key
from mmdata.shards import ledger, storage, tar
from mmdata.shards.attempt import AttemptFiles, scratch_for
from mmdata.shards.commits import Commit, CommitLog
from mmdata.shards.folders import RunFolder

PURGED_FROM = "purged_from"  # count of a commit: the revision that it was made from, with nothing scored anew
_REVISED = re.compile(r"(\d+)(?:\.(\d+))?\.(?:tar|parquet)")


@dataclass(frozen=True)
class PurgeJob:
    """All that a worker needs to make the revision of a shard without what is listed; `of` is the one before."""

    run: RunFolder
    of: Commit
    ledger: str  # as the removed rows are told by: for a scorer's table, of the new revision
    roots: frozenset[str]
    attempt: str
    fingerprint: str


def purge_part(driver: Driver) -> None:
    """Carry out what is recorded and not done, up to what selection makes from it."""
    run = driver.run
    if all(purge.done for purge in purges(run)):
        return
    removals = Removals.of(run, purged_only=True)
    for path in (run.report, run.logs, run.status):
        storage.remove(path)
    log = CommitLog(run, "ingest")
    roots = _roots(driver, log, removals)
    driver.progress.start("purge", len(roots), sum(driver.plan.shards[shard].rows for shard in roots))
    if roots:
        results = driver.executor.tasks(purge_shard, list(roots), partial(_ledger_job, driver, log, roots))
        driver.finish(log, run.root, "purge", results)
    driver.progress.end("purge")
    for part in storage.list_names(run.commits("")):
        if part.startswith("score."):
            _purge_scores(driver, part, log)
    for shard in driver.plan.shards:
        listed = removals.input_roots(ledger.read(run.rows(shard.shard)), shard.source)
        commit = log.commits.get(shard.shard)
        bury_in_plan(
            run, shard, listed | (_removed_roots(run.ledger(shard.shard, commit.revision)) if commit else set())
        )
    forget_listed(run)
    driver.heed_removals()
    _remove_leftovers(run, log)


def forget_versions(driver: Driver, selection: str, emitted: str) -> None:
    """The end of a purge, once the new version is there: older selections and versions go, and it is noted as done."""
    run = driver.run
    pending = [purge for purge in purges(run) if not purge.done]
    if not pending:
        return
    numbers = {number for purge in pending for number in purge.versions}
    for version in versions_of(run):
        if version.number in numbers and version.key != emitted:
            storage.remove(version.dataset)
            storage.remove(run.commits(EMIT_PREFIX + version.key))
            gone = asdict(replace(version, key="purged"))  # its number and place are not given again
            storage.write_whole(storage.join(run.versions, f"{version.number:06d}.json"), json.dumps(gone).encode())
    for name in storage.list_names(storage.join(run.root, "selection")):
        if name != selection:
            storage.remove(storage.join(run.root, "selection", name))
            storage.remove(run.commits(f"select.{name}"))
    for purge in pending:
        purge.write(done=True)


def _roots(driver: Driver, log: CommitLog, removals: Removals) -> dict[int, frozenset[str]]:
    """Shards whose ledgers still hold something listed, and the keys of input rows that are listed in their plan."""
    found = {}
    for plan in driver.plan.shards:
        commit = log.commits.get(plan.shard)
        if commit is not None:
            roots = frozenset(removals.input_roots(ledger.read(driver.run.rows(plan.shard)), plan.source))
            table = ledger.read(driver.run.ledger(plan.shard, commit.revision))
            mask = removals.ledger_mask(table, roots)
            if (mask & ~is_buried(table)).any():
                found[plan.shard] = roots
    return found


def _removed_roots(path: str) -> set[str]:
    """The input rows of which a ledger has nothing but removed rows."""
    table = ledger.read(path, ["key", "reason"])
    gone = is_buried(table)
    keys = [root_key(key) for key in table["key"].to_pylist()]
    return set(keys) - {key for key, is_gone in zip(keys, gone, strict=True) if not is_gone}


def _ledger_job(
    driver: Driver, log: CommitLog, roots: dict[int, frozenset[str]], shard: int, _attempt: int
) -> PurgeJob:
    commit = log.commits[shard]
    path = driver.run.ledger(shard, commit.revision)
    return PurgeJob(driver.run, commit, path, roots[shard], uuid.uuid4().hex, commit.input_fingerprint)


def purge_shard(job: PurgeJob) -> Commit:
    """Ledger and staged tar of a shard without what is listed; returns what its commit record would say."""
    of, run, revision = job.of, job.run, job.of.revision + 1
    table = ledger.read(job.ledger)
    removals = Removals.of(run, purged_only=True)
    mask = removals.ledger_mask(table, job.roots) | is_buried(table)
    gone = {key for key, listed in zip(table["key"].to_pylist(), mask, strict=True) if listed}
    table = buried_ledger(table, mask)
    counters = Counters.from_json(of.counts)
    folder = run.relative(run.attempt(job.attempt))
    with scratch_for(run.root, folder) as scratch:
        files = AttemptFiles(run.root, folder, scratch)
        staged = run.staged(of.shard, of.revision)
        with (
            storage.local_copy(staged, scratch).open("rb") as source,
            files.open(run.relative(run.staged(of.shard, revision))) as target,
        ):
            writer = tar.TarWriter(target.unhashed())
            for key, parts in tar.read_samples(source, staged):
                if key not in gone:
                    writer.add(key, parts)
            counters.bytes_out, sha256 = writer.close()
            target.trust(counters.bytes_out, sha256)
        files.put(run.relative(run.ledger(of.shard, revision)), ledger.parquet_bytes(table))
    counters.samples = table.num_rows
    counters.reasons = Counter(table["reason"].to_pylist())
    counters.bytes_in = pc.sum(table["bytes"]).as_py() or 0
    counts = {**of.counts, **counters.to_json(), PURGED_FROM: of.revision}
    return replace(of, revision=revision, attempt=job.attempt, files=tuple(files.records), counts=counts)


def _purge_scores(driver: Driver, part: str, ingested: CommitLog) -> None:
    """Copy a scorer's tables for shards that were purged, without the removed rows; others it would score again."""
    log = CommitLog(driver.run, part)
    pending = [
        shard
        for shard, commit in sorted(log.commits.items())
        if shard in ingested.commits and ingested.commits[shard].counts.get(PURGED_FROM) == commit.revision
    ]
    if not pending:
        return

    def make_job(shard: int, _attempt: int) -> PurgeJob:
        of = ingested.commits[shard]
        path = driver.run.ledger(shard, of.revision)
        return PurgeJob(driver.run, log.commits[shard], path, frozenset(), uuid.uuid4().hex, of.files[0].sha256)

    name = f"purge.{part}"
    driver.progress.start(name, len(pending), sum(log.commits[shard].counts["samples"] for shard in pending))
    driver.finish(log, driver.run.root, name, driver.executor.tasks(purge_scores, pending, make_job))
    driver.progress.end(name)


def purge_scores(job: PurgeJob) -> Commit:
    """The table of a scorer without the rows that the ledger says are removed."""
    of, run, revision = job.of, job.run, job.of.revision + 1
    scorer = of.part.partition(".")[2]
    table = buried(ledger.read(run.scores(scorer, of.shard, of.revision)), is_buried(ledger.read(job.ledger)), {})
    counters = Counters.from_json(of.counts)
    counters.reasons = Counter(reason for reason in table["reason"].to_pylist() if reason is not None)
    counters.samples = counters.reasons.total()
    folder = run.relative(run.attempt(job.attempt))
    with scratch_for(run.root, folder) as scratch:
        files = AttemptFiles(run.root, folder, scratch)
        files.put(run.relative(run.scores(scorer, of.shard, revision)), ledger.parquet_bytes(table))
    counts = {**of.counts, **counters.to_json()}
    fingerprint, made = job.fingerprint, tuple(files.records)
    return replace(of, revision=revision, attempt=job.attempt, input_fingerprint=fingerprint, files=made, counts=counts)


def _remove_leftovers(run: RunFolder, log: CommitLog) -> None:
    """Files of revisions that are not the newest of their shard, of none, and what a killed writer left half-way."""
    for path in storage.list_files(run.root):
        folder, _, name = path.rpartition("/")
        match = _REVISED.fullmatch(name) if folder.partition("/")[0] in ("staged", "ledger", "scores") else None
        commit = log.commits.get(int(match[1])) if match else None
        is_old = match is not None and (commit is None or int(match[2] or 0) < commit.revision)
        if is_old or name.startswith("."):
            storage.remove(storage.join(run.root, path))
