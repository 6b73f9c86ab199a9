"""The sandbox: isolated stages run in a disposable child process; a file that kills it costs that sample only."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mmdata
from mmdata.counters import StageCount
from mmdata.errors import MmdataError, Reason
from mmdata.run.child import OUT_OF_MEMORY_EXIT, pack, unpack
from mmdata.sample import Sample

START_S = 60.0
EXIT_S = 5.0  # for a child that closed its pipe to end
RECYCLE_SAMPLES = 50_000  # decoders leak; a fresh child now and then costs nothing
PIPE_BYTES = 1 << 20
READ_BYTES = 1 << 17
BATCH_BYTES = 16 << 20  # a message ends with the sample that reaches it: what waits counts against the child's memory


class ChildDied(Exception):
    """The child ended or was ended; `reason` is what that means for the sample it was at."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Sandbox:
    """Runs stages in a child process with a cleared environment and limits; replaces a child that died.

    stages: (name, options) pairs as the child builds them; a name is one of the catalogue or `module:Class`.
    timeout_s: wall time of one sample. memory_mb: what the child may take beyond its start.
    """

    def __init__(self, stages: Sequence[tuple[str, Mapping[str, Any]]], *, timeout_s: float, memory_mb: int) -> None:
        self._stages = [(name, dict(options)) for name, options in stages]
        self._timeout_s = timeout_s
        self._memory_mb = memory_mb
        self._child: _Child | None = None
        self.restarts = 0
        # By stage. Where a sample kills the child, the first stage of the child stands for the one that was at it.
        self.counts: dict[str, StageCount] = {}

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def process(self, samples: Sequence[Sample]) -> list[Sample]:
        """All samples (and their children), in order, done or with the reason why not."""
        done: list[Sample] = []
        waiting = list(samples)
        suspect = ""
        while waiting:
            # After a death the sample it happened at goes alone, into a fresh child: a second death is its own.
            batch = waiting[:1] if suspect else _message(waiting)
            answered = 0
            try:
                for group, counts in self._exchange(batch):
                    if not suspect and any(sample.reason is Reason.DECODE_OOM for sample in group):
                        # Its neighbours, or what the decoder leaked before, may have taken the memory.
                        raise ChildDied(Reason.DECODE_OOM, "over the memory limit")
                    for name, count in counts.items():
                        self.counts.setdefault(name, StageCount()).add(count)
                    done += group
                    answered += 1
                suspect = ""
            except ChildDied as death:
                self.close()
                self.restarts += 1
                sample = batch[answered]
                if sample.key == suspect or death.reason is Reason.DECODE_TIMEOUT:
                    sample.end(death.reason, death.detail)
                    took_s = self._timeout_s if death.reason is Reason.DECODE_TIMEOUT else 0.0
                    self.counts.setdefault(self._stages[0][0], StageCount()).add(StageCount.of([sample], took_s))
                    done.append(sample)
                    answered += 1
                    suspect = ""
                else:
                    suspect = sample.key
            waiting = waiting[answered:]
        return done

    def _exchange(self, batch: Sequence[Sample]) -> Any:
        child = self._ready_child()
        child.send(pack(batch), time.monotonic() + self._timeout_s)
        for sample in batch:
            samples, extra = child.receive(time.monotonic() + self._timeout_s)
            if not samples or not all(s.key == sample.key or s.key.startswith(f"{sample.key}_") for s in samples):
                raise ChildDied(Reason.DECODE_CRASHED, "the decoder answered for another sample")
            counts = _counts_of(extra)
            child.served += 1
            yield samples, counts

    def _ready_child(self) -> _Child:
        if self._child is not None and self._child.served >= RECYCLE_SAMPLES:
            self.close()
        if self._child is None:
            self._child = _Child(self._stages, self._memory_mb)
        return self._child


def _counts_of(extra: Mapping[str, Any]) -> dict[str, StageCount]:
    """What the child says of its stages. Raises ChildDied where that makes no sense."""
    try:
        return {
            str(name): StageCount(int(given), int(ok), int(failed), int(dropped), float(seconds))
            for name, (given, ok, failed, dropped, seconds) in extra["stages"].items()
        }
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        raise ChildDied(Reason.DECODE_CRASHED, "the decoder gave an answer that makes no sense") from None


def _message(samples: list[Sample]) -> list[Sample]:
    """The first samples, as many as go in one message; at least one."""
    size = 0
    for number, sample in enumerate(samples, 1):
        size += sum(map(len, sample.parts.values()))
        if size >= BATCH_BYTES:
            return samples[:number]
    return samples


_kept: dict[str, list[Sandbox]] = {}


def kept_sandboxes(
    groups: Sequence[Sequence[tuple[str, Mapping[str, Any]]]], *, timeout_s: float, memory_mb: int
) -> list[Sandbox]:
    """The sandboxes of these settings that this process keeps, one a group: children start once a worker, not a shard.

    Those of other settings are closed.
    """
    key = json.dumps([[list(group) for group in groups], timeout_s, memory_mb], sort_keys=True, default=str)
    if key not in _kept:
        for sandbox in (sandbox for kept in _kept.values() for sandbox in kept):
            sandbox.close()
        _kept.clear()
        _kept[key] = [Sandbox(group, timeout_s=timeout_s, memory_mb=memory_mb) for group in groups]
    return _kept[key]


class _Child:
    """One child process and its two pipes, written and read with deadlines."""

    def __init__(self, stages: Sequence[tuple[str, Mapping[str, Any]]], memory_mb: int) -> None:
        package = str(Path(mmdata.__file__).parents[1])
        code = f"import sys; sys.path.insert(0, {package!r}); from mmdata.run.child import main; main()"
        environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment |= {k: v for k, v in os.environ.items() if k.startswith("OPENBLAS_") and k not in environment}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            bufsize=0,
            start_new_session=True,  # programs that it starts end with it
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin.fileno(), self._process.stdout.fileno()
        for pipe in (self._stdin, self._stdout):
            os.set_blocking(pipe, False)
            try:
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            except (AttributeError, PermissionError):
                pass  # a small pipe works too
        self._buffer = bytearray()
        self._answer_bytes = memory_mb << 20  # an answer was in the child's memory, so it is no longer than that
        self._left_bytes = 0
        self.served = 0
        settings = {"stages": stages, "memory_bytes": memory_mb << 20, "cpu_s": 24 * 3600}
        deadline = time.monotonic() + START_S
        try:
            self.send(json.dumps(settings).encode() + b"\n", deadline)
            _, said = self.receive(deadline)
        except ChildDied as death:
            self.close()
            raise MmdataError(f"the decoding child does not start: {death.detail}; try: mmdata doctor") from None
        if "error" in said:
            self.close()
            raise MmdataError(f"a stage cannot be set up in the decoding child: {said['error']}")

    def send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            if not _is_ready(self._stdin, select.POLLOUT, deadline):
                raise ChildDied(Reason.DECODE_TIMEOUT, "took no more input in time")
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._death() from None

    def receive(self, deadline: float) -> tuple[list[Sample], dict[str, Any]]:
        self._left_bytes = self._answer_bytes
        try:
            return unpack(lambda size: self._read(size, deadline))
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
            raise ChildDied(Reason.DECODE_CRASHED, "the decoder gave an answer that makes no sense") from None

    def _read(self, size: int, deadline: float) -> bytes:
        self._left_bytes -= size
        if size < 0 or self._left_bytes < 0:
            raise ValueError("no answer is that long")
        while len(self._buffer) < size:
            if not _is_ready(self._stdout, select.POLLIN, deadline):
                raise ChildDied(Reason.DECODE_TIMEOUT, "gave no answer in time")
            data = os.read(self._stdout, READ_BYTES)
            if not data:
                raise self._death()
            self._buffer += data
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _death(self) -> ChildDied:
        try:
            code = self._process.wait(timeout=EXIT_S)
        except subprocess.TimeoutExpired:
            return ChildDied(Reason.DECODE_CRASHED, "the decoder closed its pipe")
        if code == OUT_OF_MEMORY_EXIT:
            return ChildDied(Reason.DECODE_OOM, "over the memory limit")
        if code == -signal.SIGKILL:
            return ChildDied(Reason.DECODE_OOM, "the system ended the decoder, most likely out of memory")
        if code == -signal.SIGXCPU:
            return ChildDied(Reason.DECODE_TIMEOUT, "used up its CPU time")
        name = signal.Signals(-code).name if code < 0 else f"exit {code}"
        return ChildDied(Reason.DECODE_CRASHED, f"the decoder ended with {name}")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _is_ready(descriptor: int, event: int, deadline: float) -> bool:
    """Wait until the pipe can be used (or has ended), or the deadline. `select` would refuse descriptors above 1023."""
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
