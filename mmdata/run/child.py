"""The decoding child: runs isolated stages on batches from its standard input. Started by run/sandbox.py only.

Protocol, both ways: 4 bytes big-endian length of a JSON header, the header, then the bytes of all parts it lists.
A request is a batch of samples; each sample is answered by itself as soon as it is done, so that the parent knows which
one kills the child. Never pickle: what comes back from a child that a hostile file took over is only data.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import Any, BinaryIO

import orjson

from mmdata.counters import StageCount
from mmdata.errors import Reason, SampleError
from mmdata.sample import RAW, Sample, clean_detail

LENGTH = struct.Struct(">I")
OUT_OF_MEMORY_EXIT = 12  # exit code of a child for which one sample is too much before or after its stages
FILE_MODALITIES = {"video_text", "audio_text"}  # their decoders read files in memory, which count as written
FILE_PARTS = {RAW, "sound", "video"}
_PR_SET_PDEATHSIG = 1


def pack(samples: Sequence[Sample], extra: dict[str, Any] | None = None) -> bytes:
    """Samples, and a few plain values, as one message."""
    header = orjson.dumps(
        {
            "samples": [
                [s.key, s.columns, s.reason.value, s.detail, [[name, len(data)] for name, data in s.parts.items()]]
                for s in samples
            ],
            **(extra or {}),
        }
    )
    return b"".join([LENGTH.pack(len(header)), header, *(data for s in samples for data in s.parts.values())])


def unpack(read: Callable[[int], bytes]) -> tuple[list[Sample], dict[str, Any]]:
    """The samples and plain values of one message; `read(n)` gives exactly n bytes. Raises EOFError at the end."""
    (length,) = LENGTH.unpack(read(LENGTH.size))
    header = orjson.loads(read(length))
    samples = []
    for key, columns, reason, detail, parts in header.pop("samples"):
        data = {name: read(size) for name, size in parts}
        samples.append(Sample(key, data, columns, Reason(reason), detail))
    return samples, header


def run_stages(stages: Sequence[Any], sample: Sample) -> tuple[list[Sample], dict[str, StageCount]]:
    """One sample (and its children) through the stages; returns them, and what each stage took, by its name.

    What a stage raises becomes the reason of the sample: SampleError its own, MemoryError `decode.oom`, anything else
    `internal.error` with the error's name, since one stranger's file must not end the work on all others.
    """
    samples, counts = [sample], dict[str, StageCount]()
    for stage in stages:
        given = [s for s in samples if takes(stage, s)]
        rest = [s for s in samples if not takes(stage, s)]
        if not given:
            continue
        start = time.perf_counter()
        done = given
        try:
            made = stage.process(given)
            samples, done = made + rest, made
        except SampleError as error:
            _end_all(given, error.reason, error.detail)
        except MemoryError:
            _end_all(given, Reason.DECODE_OOM, "over the memory limit")
        except Exception as error:  # the one place where a stage's bug becomes a status
            _end_all(given, Reason.INTERNAL, f"{stage.name}: {type(error).__name__}: {error}")
        counts.setdefault(stage.name, StageCount()).add(StageCount.of(done, time.perf_counter() - start))
    return samples, counts


def takes(stage: Any, sample: Sample) -> bool:
    """True where the sample is ok, of the stage's modalities, and has the parts that it reads."""
    is_for = sample.is_ok and sample.columns.get("modality") in stage.modalities
    one_of = getattr(stage, "reads_any", ())
    has_one = not one_of or any(sample.has(name) for name in one_of)
    return is_for and has_one and all(sample.has(name) for name in stage.reads)


def _end_all(samples: Sequence[Sample], reason: Reason, detail: str) -> None:
    for sample in samples:
        sample.end(reason, detail)


def main() -> None:
    """Read one line of settings, then answer batches until the parent closes the pipe.

    A stage is named as in the catalogue, or `module:Class`; the latter comes from code only, since the pipeline file's
    names are looked up in the catalogue before.
    """
    from mmdata.run.catalog import STAGES, load_class

    _end_with_parent()
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", buffering=1 << 16)
    os.dup2(2, 1)  # whatever a native library prints must not get between the replies
    settings = orjson.loads(stdin.readline())
    stages = []
    try:
        for name, options in settings["stages"]:
            stage = load_class(STAGES.get(name, name))(**options)
            stage.setup()
            stages.append(stage)
    except Exception as error:  # the parent says it, since nobody reads what this process prints
        stdout.write(pack([], {"error": clean_detail(f"{type(error).__name__}: {error}")}))
        stdout.flush()
        return
    needs_files = any(stage.modalities & FILE_MODALITIES and stage.reads & FILE_PARTS for stage in stages)
    _limit(settings["memory_bytes"], settings["cpu_s"], settings["memory_bytes"] if needs_files else 0)
    try:
        _answer(stdin, stdout, stages)
    except MemoryError:
        os._exit(OUT_OF_MEMORY_EXIT)


def _answer(stdin: BinaryIO, stdout: BinaryIO, stages: Sequence[Any]) -> None:
    def read(size: int) -> bytes:
        data = stdin.read(size)
        if len(data) < size:
            raise EOFError
        return data

    stdout.write(pack([], {"ready": True}))
    stdout.flush()
    while True:
        try:
            samples, _ = unpack(read)
        except EOFError:
            return
        for sample in samples:
            columns = dict(sample.columns)
            done, counts = run_stages(stages, sample)
            told = {"stages": {name: astuple(count) for name, count in counts.items()}}
            for each in done:
                if len(each.parts) > 1:
                    each.parts.pop(RAW, None)  # decoded: the raw bytes need not travel back
            try:
                answer = pack(done, told)
            except (TypeError, ValueError) as error:  # a stage's bug: a column that is no plain value
                detail = clean_detail(f"{type(error).__name__}: {error}")
                answer = pack([Sample(sample.key, {}, columns, Reason.INTERNAL, detail)], told)
            stdout.write(answer)
            stdout.flush()


def _end_with_parent() -> None:
    """Have the system end this process when its parent is killed, even while a decoder hangs."""
    import ctypes

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _limit(memory_bytes: int, cpu_s: int, file_bytes: int) -> None:
    """Limits of this process from here on: memory beyond what it has now, CPU time, size of files, no core dump."""
    with open("/proc/self/statm") as file:
        now_bytes = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now_bytes + memory_bytes,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))


if __name__ == "__main__":
    main()
