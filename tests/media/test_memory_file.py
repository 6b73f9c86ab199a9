"""Memory files: readable by path here and in children, gone with the block, refused over the limit."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mmdata.media.memory_file import descriptor_of, memory_file, read_back


def test_what_is_written_can_be_read_by_path_here_and_in_a_child():
    data = os.urandom(300_000)
    with memory_file(data) as path:
        with open(path, "rb") as file:
            assert file.read() == data
        count = subprocess.run(["wc", "-c", path], close_fds=False, capture_output=True, check=True)
        assert count.stdout.split()[0] == b"300000"
        assert read_back(path) == data


def test_a_child_can_write_into_it():
    with memory_file() as path:
        subprocess.run(["cp", "/proc/self/cmdline", path], close_fds=False, check=True)
        assert read_back(path).startswith(b"cp\0")
    with memory_file() as path:
        assert read_back(path) == b""


def test_it_is_gone_with_the_block_even_after_an_error():
    with pytest.raises(ZeroDivisionError), memory_file(b"data") as path:
        _ = 1 // 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor_of(path))


def test_more_than_the_limit_on_files_is_a_memory_error():
    code = """
import resource
from mmdata.media.memory_file import memory_file
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with memory_file(bytes(1000)):
    pass
try:
    with memory_file(bytes(1001)):
        pass
except MemoryError as error:
    print("refused:", error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "refused: a memory file of 1001 bytes: File too large\n"
