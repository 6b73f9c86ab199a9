"""The last parts of a run: selection over all shards, and the dataset version that it and the emit config make."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from mmdata.counters import Counters
from mmdata.emit.augment import is_derived
from mmdata.emit.manifest import DatasetFacts, write_manifest
from mmdata.emit.plan import StagedShard, WindowJob, plan_windows
from mmdata.emit.space import check_space, needed_bytes
from mmdata.emit.window import emit_window
from mmdata.run.driver import EMIT_PREFIX, Driver, counts_of
from mmdata.run.hashes import hash_of
from mmdata.run.local import LocalExecutor
from mmdata.run.release import check_staged, release_done, releasing
from mmdata.run.versions import Version, version_for
from mmdata.select.counts import SelectionCounts
from mmdata.select.selection import select
from mmdata.select.tables import ShardTables
from mmdata.shards import ledger, storage
from mmdata.shards.attempt import AttemptFiles, scratch_for
from mmdata.shards.commits import Commit, CommitLog
from mmdata.shards.folders import ATTEMPTS, DatasetFolder

SELECT_PREFIX = "select."


@dataclass(frozen=True)
class Selection:
    """What was decided: `key` names the selection's folder."""

    key: str
    counts: SelectionCounts
    shards: tuple[StagedShard, ...]


@dataclass(frozen=True)
class EmitJob:
    """All that a worker needs to emit one window."""

    window: WindowJob
    dataset: str
    config_hash: str
    attempt: str


def emit_one(job: EmitJob) -> Commit:
    """Do one window; returns what its commit record would say."""
    start = time.perf_counter()
    with scratch_for(job.dataset, f"{ATTEMPTS}/{job.attempt}") as scratch:
        result = emit_window(job.window, job.dataset, job.attempt, scratch)
    samples = sum(sum(output.sizes) for output in job.window.outputs)
    counters = Counters(samples=samples, bytes_out=sum(file.bytes for file in result.files))
    counters.reasons["ok"] = samples
    counters.seconds = time.perf_counter() - start
    counts = {**result.counts, **counters.to_json()}
    part = EMIT_PREFIX + job.config_hash
    fingerprint = job.window.fingerprint
    return Commit(
        part, job.window.window, 0, job.attempt, job.config_hash, fingerprint, "dataset", result.files, counts
    )


def select_part(driver: Driver) -> Selection:
    """Decide about every row, or read what was decided of the same shards by the same rules."""
    ingested = CommitLog(driver.run, "ingest").commits
    scored = {name: CommitLog(driver.run, f"score.{name}").commits for name in driver.resolved.scorers}
    shards = sorted(ingested)
    key = hash_of(
        [
            driver.record.select_hash,
            [[file.sha256 for file in ingested[shard].files] for shard in shards],
            {name: [commits[shard].files[0].sha256 for shard in shards] for name, commits in scored.items()},
        ]
    )
    log = CommitLog(driver.run, SELECT_PREFIX + key)
    tables = [
        ShardTables(
            shard,
            driver.run.ledger(shard, ingested[shard].revision),
            {name: driver.run.scores(name, shard, commits[shard].revision) for name, commits in scored.items()},
        )
        for shard in shards
    ]
    driver.progress.start("select", 1, driver.plan.rows)
    if 0 not in log.commits:
        driver.did_work = True
        commit = _decide(driver, tables, key)
        log.decide(commit)
        log.publish(log.commits[0], driver.run.root)
        storage.remove(driver.run.attempt(commit.attempt))
    counts = SelectionCounts.from_json(log.commits[0].counts)
    driver.progress.end("select", Counters(samples=counts.rows, reasons=counts.reasons))
    modalities = {shard.shard: shard.modality for shard in driver.plan.shards}
    staged = tuple(
        StagedShard(
            table.shard,
            driver.run.staged(table.shard, ingested[table.shard].revision),
            table.ledger,
            driver.run.selection(key, table.shard),
            {
                name: path
                for name, path in table.scores.items()
                if modalities[table.shard] in driver.resolved.scorers[name].modalities
            },
        )
        for table in tables
    )
    return Selection(key, counts, staged)


def _decide(driver: Driver, tables: Sequence[ShardTables], key: str) -> Commit:
    attempt = uuid.uuid4().hex
    folder = driver.run.relative(driver.run.attempt(attempt))
    with scratch_for(driver.run.root, folder) as scratch:
        files = AttemptFiles(driver.run.root, folder, scratch / "files")
        counts = select(
            tables,
            driver.resolved.rules,
            seed=driver.pipeline.seed,
            val_share=driver.pipeline.emit.val_share,
            scratch=scratch / "duckdb",
            write=lambda shard, table: files.put(
                driver.run.relative(driver.run.selection(key, shard)), ledger.parquet_bytes(table)
            ),
        )
    part, config_hash = SELECT_PREFIX + key, driver.record.select_hash
    return Commit(part, 0, 0, attempt, config_hash, key, "run", tuple(files.records), counts.to_json())


def emit_part(driver: Driver, selection: Selection, dataset: str) -> tuple[Version, str]:
    """Write the dataset of a selection, or find it written; returns its version and digest."""
    config_hash = hash_of([selection.key, driver.record.emit_hash])
    version = version_for(driver.run, config_hash, dataset)
    folder = DatasetFolder(version.dataset)
    part = EMIT_PREFIX + config_hash
    log = CommitLog(driver.run, part)
    log.roll_forward(version.dataset)
    options, resolved = driver.pipeline.emit, driver.resolved
    jobs = plan_windows(
        selection.shards,
        selection.counts,
        options,
        seed=driver.pipeline.seed,
        stages=resolved.stages,
        rules=resolved.rules,
    )
    pending = [job for job in jobs if job.window not in log.commits]
    driver.progress.start("emit", len(jobs), selection.counts.num_kept, counts_of(log), len(log.commits))
    storage.remove(folder.attempts)
    if options.release_staged:
        release_done(driver.run, log, version.dataset, jobs)
    if pending:
        check_staged(driver.run, {s.shard: s.staged for job in pending for s in job.shards}, "this selection and emit")
        ingested = CommitLog(driver.run, "ingest").commits
        ok = {shard: commit.counts["reasons"].get("ok", 0) for shard, commit in ingested.items()}
        check_space(version.dataset, needed_bytes(pending, ok))

        def make_job(window: WindowJob, _attempt: int) -> EmitJob:
            return EmitJob(window, version.dataset, config_hash, uuid.uuid4().hex)

        # One window is written before an engine would have started.
        alone = len(pending) == 1 and not driver.has_executor
        executor = LocalExecutor(driver.pipeline.run) if alone else driver.executor
        driver.did_work = True
        results = executor.tasks(emit_one, pending, make_job)
        if options.release_staged:
            results = releasing(driver.run, log, version.dataset, results)
        driver.finish(log, version.dataset, part, results)
        storage.remove(folder.attempts)
    digest = _finish_manifest(driver, selection, version, [log.commits[job.window] for job in jobs])
    driver.progress.end("emit")
    return version, digest


def _finish_manifest(driver: Driver, selection: Selection, version: Version, commits: Sequence[Commit]) -> str:
    """Write manifest, card and sizes unless they are there; returns the digest."""
    record, emit = driver.record, driver.pipeline.emit
    facts = DatasetFacts(
        name=driver.pipeline.name,
        seed=driver.pipeline.seed,
        formats=emit.formats,
        normalise=emit.normalise,
        selection=selection.counts,
        rules=[
            *((rule.name, {"list": driver.run.relative(rule.list)}) for rule in driver.removed),
            *((entry.name, dict(entry.options)) for entry in driver.pipeline.select),
        ],
        hashes={
            "ingest": record.ingest_hash,
            "score": {name: record.scorer_hash(name) for name in driver.resolved.scorers},
            "select": record.select_hash,
            "emit": record.emit_hash,
        },
        derived=[
            (tree["name"], {name: value for name, value in tree.items() if name not in ("name", "version")})
            for tree, stage in zip(record.tree["ingest"]["stages"], driver.resolved.stages, strict=True)
            if is_derived(stage)
        ],
    )
    files = [file for commit in commits for file in commit.files]
    return write_manifest(version.dataset, files, [commit.counts for commit in commits], facts)
