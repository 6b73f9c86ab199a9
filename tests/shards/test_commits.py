"""Commit records: one attempt counts, what was decided is published, damage is done again, late ones change nothing."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mmdata.errors import DamageError
from mmdata.shards import commits as commits_module
from mmdata.shards import storage
from mmdata.shards.commits import Commit, CommitLog, FileRecord
from mmdata.shards.folders import RunFolder

ROUNDS = 50


@pytest.fixture(params=["local", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunFolder]:
    """A run folder on the disk and behind fsspec."""
    if request.param == "local":
        yield RunFolder(str(tmp_path / "run"))
        return
    url = f"memory://{tmp_path.name}/run"
    yield RunFolder(url)
    storage.remove(url)


def _attempt(
    run: RunFolder, shard: int, attempt: str = "a", data: bytes = b"staged bytes", revision: int = 0
) -> Commit:
    """An attempt that wrote its one file, and the record it proposes."""
    path = run.relative(run.staged(shard, revision))
    left = run.relative(storage.join(run.attempt(attempt), f"{shard}.{revision}.tar"))
    storage.write_whole(storage.join(run.root, left), data)
    file = FileRecord(path, len(data), hashlib.sha256(data).hexdigest(), left)
    return Commit("ingest", shard, revision, attempt, "c0nf", "f1ng", "run", (file,), {"samples": 3})


def _tree(root: str) -> dict[str, bytes]:
    return {name: storage.read_bytes(storage.join(root, name)) for name in storage.list_files(root)}


def test_a_record_comes_back_from_its_json(run: RunFolder) -> None:
    commit = _attempt(run, 3)
    assert Commit.from_json(commit.to_json()) == commit
    assert commit.to_json() == Commit.from_json(commit.to_json()).to_json()


def test_the_first_decision_counts_and_a_later_log_knows_it(run: RunFolder) -> None:
    first, second = _attempt(run, 0, "a"), _attempt(run, 0, "b", b"other bytes")
    log = CommitLog(run, "ingest")
    assert log.decide(first)
    assert not log.decide(second)
    assert not CommitLog(run, "ingest").decide(second)
    assert CommitLog(run, "ingest").commits == {0: first}
    assert CommitLog(run, "score.image_text").commits == {}


def test_a_log_that_was_read_earlier_learns_of_the_winner(run: RunFolder) -> None:
    late = CommitLog(run, "ingest")
    first = _attempt(run, 0, "a")
    assert CommitLog(run, "ingest").decide(first)
    assert not late.decide(_attempt(run, 0, "b", b"other bytes"))
    assert late.commits == {0: first}


def test_of_two_drivers_exactly_one_decides(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "run"))
    logs = {name: CommitLog(run, "ingest") for name in "ab"}
    for shard in range(ROUNDS):
        proposals = {name: _attempt(run, shard, name, name.encode()) for name in "ab"}
        start = threading.Barrier(2)
        won: dict[str, bool] = {}

        def decide(
            name: str,
            proposals: dict[str, Commit] = proposals,
            start: threading.Barrier = start,
            won: dict[str, bool] = won,
        ) -> None:
            start.wait(timeout=30)
            won[name] = logs[name].decide(proposals[name])

        threads = [threading.Thread(target=decide, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        assert sorted(won.values()) == [False, True]
        winner = proposals[max(won, key=lambda name: won[name])]
        assert logs["a"].commits[shard] == logs["b"].commits[shard] == winner


def test_a_higher_revision_takes_the_place_of_a_lower_one(run: RunFolder) -> None:
    log = CommitLog(run, "ingest")
    first, refetched = _attempt(run, 0), _attempt(run, 0, "b", b"more", revision=1)
    assert log.decide(first)
    assert log.decide(refetched)
    assert not log.decide(first)
    assert CommitLog(run, "ingest").commits == {0: refetched}


def test_publishing_gives_the_final_name_and_again_changes_nothing(run: RunFolder) -> None:
    log, commit = CommitLog(run, "ingest"), _attempt(run, 0)
    log.decide(commit)
    assert log.unfinished(run.root) == [commit]
    for _ in range(2):
        log.publish(commit, run.root)
    assert log.unfinished(run.root) == []
    assert storage.read_bytes(run.staged(0)) == b"staged bytes"


def test_what_was_decided_but_not_published_is_rolled_forward(run: RunFolder) -> None:
    commits = [_attempt(run, shard, data=f"shard {shard}".encode()) for shard in range(3)]
    log = CommitLog(run, "ingest")
    for commit in commits:
        log.decide(commit)
    log.publish(commits[1], run.root)
    assert CommitLog(run, "ingest").roll_forward(run.root) == []
    assert [storage.read_bytes(run.staged(shard)) for shard in range(3)] == [b"shard 0", b"shard 1", b"shard 2"]
    assert CommitLog(run, "ingest").unfinished(run.root) == []


def test_a_shard_whose_files_are_gone_is_done_again(run: RunFolder) -> None:
    log, commit = CommitLog(run, "ingest"), _attempt(run, 0)
    log.decide(commit)
    storage.remove(run.attempts)
    again = CommitLog(run, "ingest")
    assert again.roll_forward(run.root) == [0]
    assert again.commits == CommitLog(run, "ingest").commits == {}
    assert again.decide(_attempt(run, 0, "b"))


def test_a_damaged_file_is_set_aside_with_its_record(run: RunFolder) -> None:
    log = CommitLog(run, "ingest")
    good, bad = _attempt(run, 0), _attempt(run, 1)
    for commit in (good, bad):
        log.decide(commit)
        log.publish(commit, run.root)
    storage.write_whole(run.staged(1), b"cut")
    assert CommitLog(run, "ingest").roll_forward(run.root) == [1]
    assert not storage.exists(run.staged(1))
    assert storage.read_bytes(run.staged(0)) == b"staged bytes"
    assert CommitLog(run, "ingest").commits == {0: good}
    redone = _attempt(run, 1, "b")
    log = CommitLog(run, "ingest")
    assert log.decide(redone)
    log.publish(redone, run.root)
    assert CommitLog(run, "ingest").commits == {0: good, 1: redone}


def test_setting_aside_keeps_files_that_are_sound(run: RunFolder) -> None:
    log, commit = CommitLog(run, "ingest"), _attempt(run, 0)
    data = b"a ledger"
    storage.write_whole(run.ledger(0), data)
    ledger = FileRecord("ledger/00000.parquet", len(data), hashlib.sha256(data).hexdigest(), "attempts/a/l")
    commit = replace(commit, files=(*commit.files, ledger))
    log.decide(commit)
    storage.write_whole(run.staged(0), b"cut")
    log.set_aside(commit, run.root)
    assert storage.read_bytes(run.ledger(0)) == data
    assert not storage.exists(run.staged(0))


def test_a_late_attempt_cannot_change_anything_that_counts(run: RunFolder) -> None:
    """It woke up after another attempt was committed and its folder cleared: vane #405 saw such a file appear."""
    log, first = CommitLog(run, "ingest"), _attempt(run, 0, "first")
    log.decide(first)
    log.publish(first, run.root)
    storage.remove(run.attempts)
    before = _tree(run.root)
    late = _attempt(run, 0, "late", b"late bytes")
    for knower in (log, CommitLog(run, "ingest")):
        assert not knower.decide(late)
        with pytest.raises(DamageError, match=r"staged/00000\.tar: sha256 is "):
            knower.publish(late, run.root)
    storage.remove(run.attempts)
    assert _tree(run.root) == before


def _many(run: RunFolder, shards: range) -> dict[int, Commit]:
    log = CommitLog(run, "ingest")
    commits = {shard: replace(_attempt(run, 0), shard=shard, files=()) for shard in shards}
    for commit in commits.values():
        assert log.decide(commit)
    return commits


def test_every_thousand_records_become_one_file(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "run"))
    commits = {shard: replace(_attempt(run, 0), shard=shard, files=()) for shard in (0, 1, 999, 1000, 1002)}
    commits |= {shard: replace(commits[0], shard=shard) for shard in range(1003) if shard not in commits}
    Path(run.commits("ingest")).mkdir(parents=True)
    for shard, commit in commits.items():
        Path(run.commit("ingest", shard)).write_bytes(
            commit.to_json()
        )  # `decide` syncs each to the disk, which is slow
    CommitLog(run, "ingest").roll_up()
    assert storage.list_names(run.commits("ingest")) == [
        "00000.0-00999.0.parquet",
        "01000.0.json",
        "01001.0.json",
        "01002.0.json",
    ]
    assert CommitLog(run, "ingest").commits == commits


@pytest.fixture
def rolled_by_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits_module, "ROLL_UP_EVERY", 4)


@pytest.mark.usefixtures("rolled_by_four")
def test_rolling_up_changes_no_record_and_again_nothing(run: RunFolder) -> None:
    commits = _many(run, range(10))
    CommitLog(run, "ingest").roll_up()
    after = _tree(run.commits("ingest"))
    assert sorted(after) == ["00000.0-00003.0.parquet", "00004.0-00007.0.parquet", "00008.0.json", "00009.0.json"]
    CommitLog(run, "ingest").roll_up()
    assert _tree(run.commits("ingest")) == after
    assert CommitLog(run, "ingest").commits == commits


@pytest.mark.usefixtures("rolled_by_four")
def test_a_kill_in_the_middle_of_rolling_up_loses_and_doubles_nothing(run: RunFolder) -> None:
    commits = _many(run, range(6))
    left = _tree(run.commits("ingest"))
    CommitLog(run, "ingest").roll_up()
    for name in ("00002.0.json", "00003.0.json"):  # the Parquet was written, two of the four records not yet removed
        storage.write_whole(storage.join(run.commits("ingest"), name), left[name])
    assert CommitLog(run, "ingest").commits == commits
    CommitLog(run, "ingest").roll_up()
    assert CommitLog(run, "ingest").commits == commits


@pytest.mark.usefixtures("rolled_by_four")
def test_a_rolled_up_record_still_refuses_late_attempts(run: RunFolder) -> None:
    commits = _many(run, range(4))
    CommitLog(run, "ingest").roll_up()
    log = CommitLog(run, "ingest")
    assert not log.decide(_attempt(run, 2, "late"))
    assert CommitLog(run, "ingest").commits == commits


@pytest.mark.usefixtures("rolled_by_four")
def test_a_rolled_up_record_that_is_set_aside_does_not_come_back(run: RunFolder) -> None:
    commits = _many(run, range(8))
    CommitLog(run, "ingest").roll_up()
    log = CommitLog(run, "ingest")
    for shard in (2, 5):
        log.set_aside(commits[shard], run.root)
    left = {shard: commit for shard, commit in commits.items() if shard not in (2, 5)}
    assert CommitLog(run, "ingest").commits == left
    redone = [replace(commits[shard], attempt="again") for shard in (2, 5)]
    log = CommitLog(run, "ingest")
    assert all(log.decide(commit) for commit in redone)
    more = _many(run, range(8, 10))
    CommitLog(run, "ingest").roll_up()
    assert CommitLog(run, "ingest").commits == left | {2: redone[0], 5: redone[1]} | more
