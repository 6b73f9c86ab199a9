"""`mmdata remove`: a list is recorded in the run; every later selection heeds it, and it is purged where so asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdata.errors import ConfigError
from mmdata.run import removals
from mmdata.run.driver import Driver
from mmdata.run.release import check_staged
from mmdata.run.removals import Entry, Removals, plain_url, read_entries
from mmdata.run.versions import versions_of
from mmdata.sample import sample_key
from mmdata.shards import ledger, storage
from mmdata.shards.commits import CommitLog


def entries_for(driver_stages: Sequence[Any], path: str) -> list[Entry]:
    """The entries of a list. Raises ConfigError where there is none, or hashes that no stage of the run computes."""
    entries = read_entries(path)
    if not entries:
        raise ConfigError(f"--list {path}: found no entry, allowed are keys, URLs, domains, sha256; one a line")
    if any(kind == "phash" for kind, _ in entries) and not any("phash" in stage.writes for stage in driver_stages):
        raise ConfigError(f"--list {path}: has perceptual hashes, but no stage of this run computes any (hash_image)")
    return entries


def record(driver: Driver, entries: Sequence[Entry], purge: bool) -> None:
    """Note what is to go before anything is done. Raises ChangedError where a dataset cannot be made anew."""
    run = driver.run
    ingested = CommitLog(run, "ingest").commits
    staged = {shard: run.staged(shard, commit.revision) for shard, commit in ingested.items()}
    check_staged(run, staged, "a dataset without what is listed")
    if purge:
        removals.record_purge(run, entries, [version.number for version in versions_of(run)])
    else:
        storage.remove(run.report)  # it may show what is listed
        removals.record_list(run, [*entries, *_keys_by_other_names(driver, entries)])
    driver.heed_removals()


def _keys_by_other_names(driver: Driver, entries: Sequence[Entry]) -> list[Entry]:
    """Keys of rows that the rule cannot know by a ledger: links written otherwise, media of documents."""
    listed = Removals()
    listed.add(entries)
    found: list[Entry] = []
    for shard in driver.plan.shards:
        for row in ledger.read(driver.run.rows(shard.shard)).to_pylist():
            key, url = sample_key(shard.source, row["number"]), row["url"] or ""
            if (row["media_list"] or plain_url(url) != url) and listed.has_row(key, row):
                found.append(("key", key))
    return found
