"""Media that FFmpeg makes for tests: containers, codecs, streams of its own test sources."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mmdata.media.ffmpeg import executable


def make(path: Path, *arguments: str) -> bytes:
    """Bytes of the file that `ffmpeg ARGUMENTS path` writes."""
    command = [executable(), "-nostdin", "-v", "error", "-y", *arguments, str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return path.read_bytes()


def tone(seconds: float = 0.5, rate: int = 16000) -> list[str]:
    """Input arguments: a sine tone."""
    return ["-f", "lavfi", "-i", f"sine=frequency=440:sample_rate={rate}:duration={seconds}"]


def picture(seconds: float = 1.0, size: str = "160x120", rate: str = "25") -> list[str]:
    """Input arguments: FFmpeg's moving test picture."""
    return ["-f", "lavfi", "-i", f"testsrc=size={size}:rate={rate}:duration={seconds}"]
