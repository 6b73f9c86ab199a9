"""How much of a bare soundfile and librosa loop's speed is left, and how many hours of sound an hour and core give.

Paired: every round times the loop that a script would have (soundfile.read, librosa.to_mono, librosa.resample, FLAC by
soundfile, librosa's log-Mel spectrogram, float16 npy) and the two stages, in one process on the same files in
memory; both write the same parts.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from mmdata.audio.decode_audio import DecodeAudio
from mmdata.audio.log_mel import LogMel
from mmdata.run.child import run_stages
from mmdata.sample import Sample
from tests.bench.table import Row

ROUNDS = 5
RATE_HZ = 16_000
KINDS = {  # name: (files, seconds each, sampling rate, channels, libsndfile's format and subtype)
    "WAV, 16 kHz, words of 2 s": (300, 2, 16_000, 1, "WAV", "PCM_16"),
    "WAV, 44.1 kHz stereo, clips of 10 s": (40, 10, 44_100, 2, "WAV", "PCM_16"),
    "FLAC, 48 kHz, clips of 10 s": (40, 10, 48_000, 1, "FLAC", "PCM_16"),
    "MP3, 44.1 kHz stereo, clips of 10 s": (40, 10, 44_100, 2, "MP3", "MPEG_LAYER_III"),
}


def sounds(kind: str) -> list[bytes]:
    """Files of noise shaped like speech: bursts of several voices' pitches, so that coders have the usual work."""
    count, seconds, rate_hz, channels, container, subtype = KINDS[kind]
    rng = np.random.default_rng(17)
    at_s = np.arange(seconds * rate_hz) / rate_hz
    made = []
    for _ in range(count):
        pitch_hz = rng.uniform(90, 250)
        voice_T = sum(np.sin(2 * np.pi * pitch_hz * n * at_s + rng.uniform(0, 6)) / n for n in range(1, 30))
        loud_T = np.clip(np.sin(2 * np.pi * rng.uniform(2, 4) * at_s), 0, 1)
        wave_TC = (0.1 * voice_T * loud_T)[:, None] + rng.normal(size=(at_s.size, channels)) * 0.003
        stream = io.BytesIO()
        soundfile.write(stream, wave_TC, rate_hz, format=container, subtype=subtype)
        made.append(stream.getvalue())
    return made


def bare(files: list[bytes]) -> list[dict[str, bytes]]:
    """What a plain script would do."""
    import librosa

    parts = []
    for data in files:
        wave_TC, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        wave_T = librosa.resample(librosa.to_mono(wave_TC.T), orig_sr=rate_hz, target_sr=RATE_HZ, res_type="soxr_hq")
        flac, npy = io.BytesIO(), io.BytesIO()
        soundfile.write(flac, wave_T, RATE_HZ, format="FLAC", subtype="PCM_16")
        power = librosa.feature.melspectrogram(y=wave_T, sr=RATE_HZ, n_fft=400, hop_length=160, n_mels=80)
        np.save(npy, librosa.power_to_db(power).astype(np.float16))
        parts.append({"flac": flac.getvalue(), "mel.npy": npy.getvalue()})
    return parts


def staged(files: list[bytes]) -> list[dict[str, bytes]]:
    """What decode_audio and log_mel give, run as the child process runs them: one sample through all stages."""
    stages = DecodeAudio(), LogMel()
    parts = []
    for row, data in enumerate(files):
        ((sample,), _) = run_stages(stages, Sample(f"bench-{row:012d}", {"raw": data}, {"modality": "audio_text"}))
        parts.append(sample.parts)
    return parts


def measure(kind: str, rounds: int = ROUNDS) -> dict[str, float]:
    """Hours of sound an hour on one core, of both, and the ratio of each pair; medians."""
    files = sounds(kind)
    count, seconds = KINDS[kind][:2]
    _check_same(bare(files[:3]), staged(files[:3]))  # also warms both up
    pairs = []
    for number in range(rounds):
        works: tuple[Callable[[list[bytes]], object], ...] = (bare, staged) if number % 2 else (staged, bare)
        spent = {work: _cpu_s(work, files) for work in works}
        pairs.append((count * seconds / spent[staged], count * seconds / spent[bare]))
    return {
        "ours": statistics.median(pair[0] for pair in pairs),
        "peer": statistics.median(pair[1] for pair in pairs),
        "ratio": statistics.median(pair[0] / pair[1] for pair in pairs),
    }


def _check_same(expected: list[dict[str, bytes]], made: list[dict[str, bytes]]) -> None:
    for left, right in zip(expected, made, strict=True):
        waves = [soundfile.read(io.BytesIO(parts["flac"]), dtype="int16")[0].astype(int) for parts in (left, right)]
        size = min(map(len, waves))
        assert abs(len(waves[0]) - len(waves[1])) <= 1
        assert np.abs(waves[0][:size] - waves[1][:size]).max() <= 1
        mels = [np.load(io.BytesIO(parts["mel.npy"])).astype(np.float32) for parts in (left, right)]
        assert np.abs(mels[0][:, :-1] - mels[1][:, : mels[0].shape[1] - 1]).mean() < 0.1


def _cpu_s(work: Callable[[list[bytes]], object], files: list[bytes]) -> float:
    """Processor seconds of all threads: a library that takes a second core has not become faster."""
    start = time.process_time()
    work(files)
    return time.process_time() - start


def rows(folder: Path) -> list[Row]:
    """One row a kind of file."""
    found = []
    for kind in KINDS:
        result = measure(kind)
        found.append(
            Row(
                f"{kind}: 16 kHz FLAC and log-Mel",
                f"{result['ours']:.0f} hours an hour and core",
                f"bare soundfile and librosa {result['peer']:.0f}",
                result["ratio"],
                0.8,
            )
        )
    return found
