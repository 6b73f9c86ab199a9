"""One driver a run: a file lock on a local folder, a heartbeat on an object store.

The lock only saves work: even with two drivers a shard has one commit record, since records are created if absent.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import threading
import time
import uuid
from collections.abc import Iterator

from mmdata.errors import OtherDriverError
from mmdata.shards import storage
from mmdata.shards.folders import RunFolder

HEARTBEAT_S = 15.0
STALE_S = 60.0


@contextlib.contextmanager
def driver_lock(run: RunFolder) -> Iterator[None]:
    """Hold the run while the block runs. Raises OtherDriverError where another driver is at work on it."""
    if storage.is_remote(run.root):
        with _heartbeat(run):
            yield
        return
    path = storage.local_path(run.driver)
    with storage.storage_errors(run.driver):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _other(run) from None
        yield


@contextlib.contextmanager
def _heartbeat(run: RunFolder) -> Iterator[None]:
    me = uuid.uuid4().hex
    first = _beat(run)
    if first is not None and first["beat"] >= 0:
        # Clocks of two machines differ: what counts is whether the beat moves while we watch.
        deadline = time.monotonic() + STALE_S
        while time.monotonic() < deadline and _beat(run) == first:
            time.sleep(1.0)
        if _beat(run) != first:
            raise _other(run)
    stop = threading.Event()

    def beat() -> None:
        number = 0
        while True:
            storage.write_whole(run.driver, json.dumps({"driver": me, "beat": number}).encode())
            number += 1
            if stop.wait(HEARTBEAT_S):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        storage.write_whole(run.driver, json.dumps({"driver": me, "beat": -1}).encode())


def _beat(run: RunFolder) -> dict[str, int] | None:
    try:
        beat: dict[str, int] = json.loads(storage.read_bytes(run.driver))
    except FileNotFoundError:
        return None
    return beat


def _other(run: RunFolder) -> OtherDriverError:
    return OtherDriverError(f"{run.root}: another driver is at work on this run; wait for it, or choose another RUN")
