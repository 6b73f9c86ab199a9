"""Encoding of the demo's films and sounds: FFmpeg's program and what it takes for the same bytes each time.

Used by `build.py` only, which runs the binary that imageio-ffmpeg 0.8.1 ships.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FRAMES_PER_S = 24
_EXACT = (
    "-fflags",
    "+bitexact",
    "-flags:v",
    "+bitexact",
    "-flags:a",
    "+bitexact",
    "-threads",
    "1",
    "-map_metadata",
    "-1",
)
X264 = ("-c:v", "libx264", "-preset", "veryslow", "-crf", "27", "-pix_fmt", "yuv420p", "-x264-params", "threads=1")
X265 = ("-c:v", "libx265", "-crf", "30", "-pix_fmt", "yuv420p", "-tag:v", "hvc1")
X265 = (*X265, "-x265-params", "pools=none:frame-threads=1:info=0:log-level=error")
VP9 = ("-c:v", "libvpx-vp9", "-crf", "38", "-b:v", "0", "-pix_fmt", "yuv420p", "-row-mt", "0")
VP8 = ("-c:v", "libvpx", "-crf", "16", "-b:v", "400k", "-pix_fmt", "yuv420p")
AAC = ("-c:a", "aac", "-b:a", "64k", "-ac", "2")


def ffmpeg(inputs: Sequence[str | Path], outputs: Sequence[str], suffix: str, stdin: bytes = b"") -> bytes:
    """The bytes of the file that FFmpeg makes of `inputs` (options with `-i`) by `outputs` (options)."""
    import imageio_ffmpeg

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / f"made{suffix}"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-v", "error", "-y", *map(str, inputs)]
        subprocess.run([*command, *outputs, *_EXACT, str(target)], input=stdin, check=True)
        return target.read_bytes()


def from_frames(frames: NDArray[np.uint8], outputs: Sequence[str], suffix: str, fps: float = FRAMES_PER_S) -> bytes:
    """A film of frames, uint8 [N, H, W, 3]."""
    height, width = frames.shape[1:3]
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "-")
    return ffmpeg(raw, outputs, suffix, frames.tobytes())


def from_wave(wave: NDArray[np.float32], rate_hz: int, outputs: Sequence[str], suffix: str) -> bytes:
    """A sound file of a wave, float32 [T] or [T, C] in [-1, 1]."""
    channels = 1 if wave.ndim == 1 else wave.shape[1]
    raw = ("-f", "f32le", "-ar", str(rate_hz), "-ac", str(channels), "-i", "-")
    return ffmpeg(raw, outputs, suffix, wave.astype("<f4").tobytes())


def to_wave(source: Path, rate_hz: int, *options: str) -> NDArray[np.float32]:
    """The first sound stream as a mono wave, float32 [T]."""
    raw = ffmpeg([*options, "-i", source], ("-vn", "-ac", "1", "-ar", str(rate_hz), "-f", "f32le"), ".raw")
    return np.frombuffer(raw, "<f4")
