"""FFmpeg as a program: a graph of ffmpeg-python over bytes in memory files, run by the binary of imageio-ffmpeg.

The demuxer is forced and the input may use the protocol `fd` only: nothing that bytes name, no file and no address, can
be opened. One thread, bit-exact flags, no metadata, so that the same bytes and options give the same bytes.
"""

from __future__ import annotations

import functools
import os
import re
import resource
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from mmdata.errors import Reason, SampleError
from mmdata.media.memory_file import descriptor_of, memory_file, read_back

Graph = Any  # a stream of ffmpeg-python

_GLOBAL = ("-nostdin", "-hide_banner", "-nostats", "-loglevel", "error", "-y")
_ONE_THREAD = ("-filter_threads", "1", "-filter_complex_threads", "1")
_KEEP_TIMES = ("-copyts",)
_MAX_BYTES = 1 << 30
_PLACE = re.compile(r"^\[[^\]]*\]\s*|\s*@ 0x[0-9a-f]+")  # `[mov,mp4 @ 0x55d0]`: another number each time
_REASON_OF_SIGNAL = {signal.SIGXCPU: Reason.DECODE_TIMEOUT, signal.SIGXFSZ: Reason.TOO_LARGE_OUTPUT}


@functools.cache
def executable() -> str:
    """Path of the FFmpeg binary. Stages ask for it in `setup`, since the first call tries the binary."""
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def source(path: str, demuxer: str, **options: Any) -> Graph:
    """The input of a graph: what lies in a memory file, read by `demuxer` (see container.sniff).

    options: FFmpeg's input options (`ss`, `t`, `ar` ...). A memory file can be the source of one run at a time.
    """
    import ffmpeg

    descriptor = descriptor_of(path)
    os.lseek(descriptor, 0, os.SEEK_SET)  # the position is shared with whoever wrote or read before
    safe = {"f": demuxer, "fd": descriptor, "protocol_whitelist": "fd", "format_whitelist": demuxer, "threads": 1}
    return ffmpeg.input("fd:", **safe, **options)


def run(
    streams: Graph | Sequence[Graph],
    container: str,
    *,
    timeout_s: float = 120.0,
    max_bytes: int = _MAX_BYTES,
    keep_times: bool = False,
    **options: Any,
) -> bytes:
    """Bytes of the file, of the kind `container`, that FFmpeg writes of one or several streams of a graph.

    The output lies in a memory file, so lengths and sums in its header are right and `movflags=faststart` works.
    keep_times: time stamps in the graph are those of the container, even behind a seek (`ss`), so that `trim` cuts at
    the right place where a seek is not exact. options: FFmpeg's output options. Raises SampleError:
    decode.corrupt with the first useful line that FFmpeg says, decode.timeout, decode.oom, decode.crashed,
    decode.too_large_output over max_bytes.
    """
    import ffmpeg

    chosen = [streams] if not isinstance(streams, (list, tuple)) else list(streams)
    same = {"map_metadata": -1, "map_chapters": -1, "fflags": "+bitexact", "threads": 1}
    exact = {"flags:v": "+bitexact", "flags:a": "+bitexact"}
    with memory_file() as path:
        node = ffmpeg.output(*chosen, path, **{"f": container, **same, **exact, **options})
        times = _KEEP_TIMES if keep_times else ()
        _run([executable(), *_GLOBAL, *times, *_ONE_THREAD, *ffmpeg.get_args(node)], timeout_s, max_bytes)
        return read_back(path)


def _run(command: list[str], timeout_s: float, max_bytes: int) -> None:
    # Only descriptors made to be inherited, the memory files, go to the child: Python's own are all closed on exec.
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "AV_LOG_FORCE_NOCOLOR": "1"},
        close_fds=False,
    ) as process:
        # Should this process be killed, its child ends for want of processor seconds.
        _lower(process.pid, resource.RLIMIT_CPU, int(timeout_s) + 1)
        _lower(process.pid, resource.RLIMIT_FSIZE, max_bytes)
        _lower(process.pid, resource.RLIMIT_CORE, 0)
        try:
            _, said = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise SampleError(Reason.DECODE_TIMEOUT, f"ffmpeg took longer than {timeout_s:g} s") from None
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise _failure(process.returncode, said.decode("utf-8", "replace"))


def _lower(pid: int, limit: int, value: int) -> None:
    try:
        _, hard = resource.prlimit(pid, limit)
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.prlimit(pid, limit, (allowed, allowed))
    except ProcessLookupError:
        pass  # it has ended already


def _failure(code: int, said: str) -> SampleError:
    line = first_useful_line(said)
    if code < 0:
        name = signal.Signals(-code).name
        return SampleError(_REASON_OF_SIGNAL.get(signal.Signals(-code), Reason.DECODE_CRASHED), f"ffmpeg: {name}")
    if "Cannot allocate memory" in said:
        return SampleError(Reason.DECODE_OOM, line)
    if "File too large" in said:
        return SampleError(Reason.TOO_LARGE_OUTPUT, line)
    return SampleError(Reason.CORRUPT, line)


def first_useful_line(said: str) -> str:
    """The first line of FFmpeg's messages, without the addresses in memory that differ from run to run."""
    for line in said.splitlines():
        while _PLACE.search(line):
            line = _PLACE.sub("", line)
        if line.strip():
            return line.strip()
    return "ffmpeg failed and said nothing"
