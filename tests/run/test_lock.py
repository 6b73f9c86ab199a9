"""One driver a run: the second is told so, and the lock goes with its holder, however that one ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmdata.errors import OtherDriverError
from mmdata.run import lock
from mmdata.run.lock import driver_lock
from mmdata.shards import storage
from mmdata.shards.folders import RunFolder

DRIVER = """
import subprocess, sys
from mmdata.errors import OtherDriverError
from mmdata.run.lock import driver_lock
from mmdata.shards.folders import RunFolder
try:
    with driver_lock(RunFolder(sys.argv[1])):
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=sys.stdin)
        print("held", flush=True)
        sys.stdin.read()
except OtherDriverError as error:
    print(error, flush=True)
    sys.exit(error.exit_code)
"""


def _driver(run: RunFolder) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, run.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "runs" / "small"))


@pytest.fixture
def holder(run: RunFolder) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the run; it has a child of its own, as a driver has."""
    process = _driver(run)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate(timeout=30)


@pytest.mark.usefixtures("holder")
def test_a_second_driver_is_told_and_ends_with_7(run: RunFolder) -> None:
    says = f"{run.root}: another driver is at work on this run; wait for it, or choose another RUN"
    with pytest.raises(OtherDriverError) as caught, driver_lock(run):
        pass
    assert str(caught.value) == says
    second = _driver(run)
    out, _ = second.communicate(timeout=30)
    assert (out, second.returncode) == (f"{says}\n", 7)


def test_the_lock_goes_with_a_holder_that_is_killed(run: RunFolder, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait(timeout=30)
    with driver_lock(run):
        pass


def test_the_lock_is_free_after_the_block_and_after_an_error(run: RunFolder) -> None:
    with driver_lock(run):
        pass
    with pytest.raises(ZeroDivisionError), driver_lock(run):
        raise ZeroDivisionError
    with driver_lock(run):
        pass


def test_runs_do_not_lock_each_other(run: RunFolder) -> None:
    with driver_lock(run), driver_lock(RunFolder(f"{run.root}-2")):
        pass


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunFolder]:
    """A run behind fsspec, with a fast heartbeat."""
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.02)
    monkeypatch.setattr(lock, "STALE_S", 5.0)
    url = f"memory://{tmp_path.name}/run"
    yield RunFolder(url)
    storage.remove(url)


def test_a_heartbeat_keeps_a_second_driver_out_of_a_remote_run(remote: RunFolder) -> None:
    beats = threading.Event()
    original = lock.storage.write_whole

    def counted(path: str, data: bytes) -> None:
        original(path, data)
        beats.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock.storage, "write_whole", counted)
        with driver_lock(remote):
            assert beats.wait(timeout=30)
            with pytest.raises(OtherDriverError, match="another driver is at work on this run"), driver_lock(remote):
                pass
    with driver_lock(remote):
        pass


def test_a_remote_run_whose_driver_died_is_taken_over(remote: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "STALE_S", 0.5)
    storage.write_whole(remote.driver, b'{"driver": "dead", "beat": 41}')
    with driver_lock(remote):
        pass
