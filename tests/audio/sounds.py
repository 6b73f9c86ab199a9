"""Sounds for the tests: made by numpy and encoded by libsndfile or FFmpeg, or spoken ones where they are there."""

from __future__ import annotations

import io
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmdata.media.ffmpeg import executable

_SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def sweep_T(num_samples: int, rate_hz: int, top_hz: float = 3000.0) -> np.ndarray:
    """A tone that rises from 100 Hz to top_hz with a little noise; float64, peak about 0.5."""
    noise_T = np.random.default_rng(7).normal(size=num_samples) * 0.003
    return tone_at(np.arange(num_samples) / rate_hz, num_samples / rate_hz, top_hz) + noise_T


def tone_at(times_s: np.ndarray, lasts_s: float, top_hz: float = 3000.0) -> np.ndarray:
    """That tone without the noise at any times."""
    return 0.5 * np.sin(2 * np.pi * (100 * times_s + (top_hz - 100) / lasts_s * times_s**2 / 2))


def file_of(wave: np.ndarray, rate_hz: int, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """The wave [T] or [T, C] as a file that libsndfile writes."""
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate_hz, format=kind, subtype=subtype)
    return stream.getvalue()


def encode(wave: np.ndarray, rate_hz: int, container: str, *options: str) -> bytes:
    """The wave as FFmpeg writes it; to a real file, so that it may go back and fill in its header."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound"
        words = [executable(), "-nostdin", "-loglevel", "error", "-f", "wav", "-i", "pipe:0", *options]
        subprocess.run([*words, "-f", container, str(path)], input=file_of(wave, rate_hz), check=True)
        return path.read_bytes()


def load(data: bytes) -> tuple[np.ndarray, int]:
    """float64 [T, C] and the rate of what libsndfile reads."""
    return soundfile.read(io.BytesIO(data), always_2d=True)


@cache
def spoken_T(number: int = 0, seconds: float = 6.0) -> np.ndarray:
    """Chinese words of one of several speakers one after the other, 16 kHz float32; skips where they are not there."""
    files = sorted((_SHARED / "data_aishell" / "wav").glob("*/*/*.wav"))
    if not files:
        pytest.skip("no recordings at ../shared/data/data_aishell")
    words = [soundfile.read(files[(17 * number + step) % len(files)], dtype="float32")[0] for step in range(20)]
    return np.concatenate(words)[: int(seconds * 16_000)]


def spoken_files(folder: str = "data_aishell") -> list[Path]:
    """The recordings of a folder of the shared data; skips where it is not there."""
    files = sorted((_SHARED / folder / "wav").rglob("*.wav"))
    if not files:
        pytest.skip(f"no recordings at ../shared/data/{folder}")
    return files
