"""Storage: one winner of a race, nothing half there, the same on a disk and a URL, errors that name the file."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmdata.errors import DamageError, StorageError
from mmdata.shards import storage

ROUNDS = 50
RACER = """
import sys
from mmdata.shards.storage import create_if_absent
for line in sys.stdin:
    print(int(create_if_absent(line.strip(), sys.argv[1].encode() * 1000)), flush=True)
"""
LIMITED = """
import resource, sys
from mmdata.errors import StorageError
from mmdata.shards import storage
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    {call}
except StorageError as error:
    print(error)
"""


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A folder that does not exist yet, on the disk and behind fsspec."""
    if request.param == "local":
        yield str(tmp_path / "run")
        return
    url = f"memory://{tmp_path.name}/run"
    yield url
    storage.remove(url)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)


def test_a_file_is_read_back_as_it_was_written(root: str) -> None:
    path = storage.join(root, "a", "b.bin")
    for data in (b"one", b"", b"three" * 100_000):
        storage.write_whole(path, data)
        assert storage.read_bytes(path) == data
        assert storage.size_bytes(path) == len(data)
        assert storage.sha256_of(path) == _sha256(data)
        with storage.open_input(path) as file:
            assert file.seek(0, 2) == len(data)


def test_what_is_not_there_is_said_as_such(root: str) -> None:
    path = storage.join(root, "none")
    assert not storage.exists(path)
    assert storage.size_bytes(path) is None
    assert storage.list_names(path) == storage.list_files(path) == []
    storage.remove(path)
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(path)
    with pytest.raises(FileNotFoundError), storage.open_input(path):
        pass


def test_names_and_files_are_listed_in_order(root: str) -> None:
    for name in ("b.json", "a.json", "sub/c.json"):
        storage.write_whole(storage.join(root, name), b"1")
    assert storage.list_names(root) == ["a.json", "b.json", "sub"]
    assert storage.list_files(root) == ["a.json", "b.json", "sub/c.json"]
    assert storage.exists(storage.join(root, "sub"))


def test_a_folder_is_removed_with_all_below_it(root: str) -> None:
    storage.write_whole(storage.join(root, "sub", "deep", "c.json"), b"1")
    storage.write_whole(storage.join(root, "kept.json"), b"1")
    storage.remove(storage.join(root, "sub"))
    assert storage.list_files(root) == ["kept.json"]


def test_only_the_first_creates(root: str) -> None:
    path = storage.join(root, "commits", "00000.0.json")
    assert storage.create_if_absent(path, b"first")
    assert not storage.create_if_absent(path, b"second")
    assert storage.read_bytes(path) == b"first"
    assert storage.list_names(storage.join(root, "commits")) == ["00000.0.json"]


def test_of_two_threads_exactly_one_creates(tmp_path: Path) -> None:
    for number in range(ROUNDS):
        path = str(tmp_path / f"{number}.json")
        start = threading.Barrier(2)
        won: dict[bytes, bool] = {}

        def create(
            data: bytes, path: str = path, start: threading.Barrier = start, won: dict[bytes, bool] = won
        ) -> None:
            start.wait(timeout=30)
            won[data] = storage.create_if_absent(path, data)

        threads = [threading.Thread(target=create, args=(data,)) for data in (b"a" * 5000, b"b" * 5000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        (winner,) = [data for data, first in won.items() if first]
        assert len(won) == 2
        assert storage.read_bytes(path) == winner
    assert len(os.listdir(tmp_path)) == ROUNDS, "a loser left its temporary file"


def test_of_two_processes_exactly_one_creates(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    try:
        for number in range(ROUNDS):
            path = tmp_path / f"{number}.json"
            for racer in racers:
                racer.stdin.write(f"{path}\n")  # type: ignore[union-attr]
                racer.stdin.flush()  # type: ignore[union-attr]
            won = [racer.stdout.readline().strip() == "1" for racer in racers]  # type: ignore[union-attr]
            assert sorted(won) == [False, True]
            assert path.read_bytes() == (b"a" if won[0] else b"b") * 1000
        assert len(os.listdir(tmp_path)) == ROUNDS, "a loser left its temporary file"
    finally:
        for racer in racers:
            racer.communicate(timeout=30)


def test_a_reader_sees_the_old_bytes_or_the_new_ones(tmp_path: Path) -> None:
    path = str(tmp_path / "status.json")
    versions = [bytes([65 + number]) * 200_000 for number in range(20)]
    storage.write_whole(path, versions[0])
    seen: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(storage.read_bytes(path))

    reader = threading.Thread(target=read)
    reader.start()
    for data in versions:
        storage.write_whole(path, data)
    done.set()
    reader.join(timeout=30)
    assert set(seen) <= set(versions)


def test_publishing_again_changes_nothing(root: str) -> None:
    attempt, final = storage.join(root, "attempts", "x", "00000.tar"), storage.join(root, "staged", "00000.tar")
    storage.write_whole(attempt, b"bytes")
    for _ in range(3):
        storage.publish(attempt, final, _sha256(b"bytes"))
    assert storage.read_bytes(final) == b"bytes"
    storage.remove(storage.join(root, "attempts"))
    storage.publish(attempt, final, _sha256(b"bytes"))
    assert storage.read_bytes(final) == b"bytes"


def test_publishing_over_other_bytes_is_damage_and_leaves_them(root: str) -> None:
    attempt, final = storage.join(root, "attempts", "x", "00000.tar"), storage.join(root, "staged", "00000.tar")
    storage.write_whole(attempt, b"new bytes")
    storage.write_whole(final, b"other")
    with pytest.raises(DamageError) as caught:
        storage.publish(attempt, final, _sha256(b"new bytes"))
    assert str(caught.value) == (
        f"{final}: sha256 is {_sha256(b'other')[:12]}, but its commit record says {_sha256(b'new bytes')[:12]}"
    )
    assert storage.read_bytes(final) == b"other"


def test_publishing_what_is_nowhere_says_so(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.publish(storage.join(root, "attempts", "x"), storage.join(root, "staged", "x"), _sha256(b""))
    assert not storage.exists(storage.join(root, "staged", "x"))


def test_a_late_writer_of_the_attempt_file_cannot_reach_the_published_one(root: str) -> None:
    """A replaced attempt file is another file; the published name keeps its bytes."""
    attempt, final = storage.join(root, "attempts", "x"), storage.join(root, "staged", "x")
    storage.write_whole(attempt, b"decided")
    storage.publish(attempt, final, _sha256(b"decided"))
    storage.write_whole(attempt, b"late")
    assert storage.read_bytes(final) == b"decided"


def test_an_upload_moves_the_file(root: str, tmp_path: Path) -> None:
    file = tmp_path / "scratch.bin"
    file.write_bytes(b"123")
    target = storage.join(root, "attempts", "x", "a.tar")
    storage.upload(file, target)
    assert storage.read_bytes(target) == b"123"
    assert not file.exists()


def test_a_local_copy_is_the_file_itself_on_a_disk_and_a_copy_elsewhere(root: str, tmp_path: Path) -> None:
    path = storage.join(root, "a.tar")
    storage.write_whole(path, b"123")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    copy = storage.local_copy(path, scratch)
    assert copy.read_bytes() == b"123"
    assert (copy.parent == scratch) == storage.is_remote(path)


def test_a_file_url_is_a_local_path(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/a.json"
    assert not storage.is_remote(url)
    assert storage.create_if_absent(url, b"1")
    assert (tmp_path / "a.json").read_bytes() == b"1"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_named_with_the_file_and_what_to_do() -> None:
    def fill() -> None:
        with storage.storage_errors("runs/a/staged/00000.tar"), open("/dev/full", "wb") as file:
            file.write(b"1")
            storage.fsync_file(file)

    with pytest.raises(StorageError) as caught:
        fill()
    assert str(caught.value) == (
        "runs/a/staged/00000.tar: storage is full; free space or fix access, then run the same command again"
    )
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    "call", ["storage.write_whole(sys.argv[1], bytes(5000))", "storage.create_if_absent(sys.argv[1], bytes(5000))"]
)
def test_a_file_over_the_limit_leaves_nothing_and_names_itself(tmp_path: Path, call: str) -> None:
    path = tmp_path / "folder" / "a.parquet"
    said = _python(LIMITED.format(call=call), str(path)).stdout
    assert said.startswith(f"{path}: a file grew over the limit of this system; free space")
    assert os.listdir(path.parent) == []


def test_a_failed_write_keeps_the_old_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    assert (
        "over the limit"
        in _python(LIMITED.format(call="storage.write_whole(sys.argv[1], bytes(5000))"), str(path)).stdout
    )
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_free_space_is_told_for_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert (storage.free_bytes(str(tmp_path / "a" / "b")) or 0) > 0
    assert storage.free_bytes("memory://a") is None
