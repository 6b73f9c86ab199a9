"""Freeing staged media: once a window of the dataset is written and verified, its staged tars may go.

A record in `commits/released/` says which tar went, before it goes; so ingest's record stays valid and a resume fetches
nothing again. What needs the media later - another selection, another emit, a new scorer - is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmdata.emit.verify import files_problems
from mmdata.errors import ChangedError, DamageError
from mmdata.shards import storage
from mmdata.shards.commits import RELEASED, Commit, CommitLog, released_paths
from mmdata.shards.folders import RunFolder

if TYPE_CHECKING:
    from mmdata.emit.plan import StagedShard, WindowJob


def releasing(
    run: RunFolder, log: CommitLog, dataset: str, results: Iterable[tuple[WindowJob, Any]]
) -> Iterator[tuple[WindowJob, Any]]:
    """The same results; each window's tars are freed when the next is asked for, thus after the driver published it."""
    for job, result in results:
        yield job, result
        if job.window in log.commits:
            release(run, log.commits[job.window], job.shards, dataset)


def release_done(run: RunFolder, log: CommitLog, dataset: str, jobs: Sequence[WindowJob]) -> None:
    """Free what windows that were written earlier still hold: by a driver that was killed, or with another option."""
    gone = released_paths(run)
    for job in jobs:
        held = [shard for shard in job.shards if run.relative(shard.staged) not in gone or storage.exists(shard.staged)]
        if held and job.window in log.commits:
            release(run, log.commits[job.window], held, dataset)


def release(run: RunFolder, commit: Commit, shards: Sequence[StagedShard], dataset: str) -> None:
    """Free the staged tars of one window. Raises DamageError, and frees none, where its files are not as recorded."""
    problems = files_problems(dataset, commit.files)
    if problems:
        raise DamageError(f"{dataset}: staged media are kept, since the dataset is damaged: {'; '.join(problems[:10])}")
    records = CommitLog(run, RELEASED)
    ingested = CommitLog(run, "ingest").commits
    for shard in shards:
        of = ingested[shard.shard]
        counts = {"path": run.relative(shard.staged), "window": commit.shard, "by": commit.part}
        fingerprint = of.files[0].sha256
        record = Commit(
            RELEASED, shard.shard, of.revision, commit.attempt, commit.config_hash, fingerprint, "run", (), counts
        )
        records.decide(record)
        storage.remove(shard.staged)


def check_staged(run: RunFolder, staged: Mapping[int, str], what: str) -> None:
    """Raise ChangedError where media that `what` needs were freed. staged: path of the tar by shard."""
    gone = released_paths(run)
    missing = sorted(shard for shard, path in staged.items() if run.relative(path) in gone and not storage.exists(path))
    if missing:
        raise ChangedError(
            f"{run.root}: {what} needs the staged media of {len(missing)} shards ({missing[0]} ...), which "
            "emit.release_staged freed when an earlier dataset was written. Take the change back, or choose another "
            "RUN to fetch them again."
        )
