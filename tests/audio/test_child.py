"""The stages of sound in the child process that decodes: its limits hold, and it gives what this process would give."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from mmdata.errors import Reason
from mmdata.run.child import run_stages
from mmdata.run.sandbox import Sandbox
from mmdata.sample import Sample
from tests.audio import sounds as s

NAMES = ["decode_audio", "denoise", "loudness", "trim_silence", "audio_stats", "log_mel", "mfcc"]


def given(*data: bytes) -> list[Sample]:
    return [
        Sample(f"sounds-{row:012d}", {"raw": each}, {"modality": "audio_text", "url": f"{row}.wav"})
        for row, each in enumerate(data)
    ]


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox([(name, {}) for name in NAMES], timeout_s=60, memory_mb=1024) as box:
        yield box


def test_the_child_gives_the_same_bytes_and_columns(sandbox):
    from mmdata.run.catalog import STAGES, load_class

    stages = [load_class(STAGES[name])() for name in NAMES]
    for stage in stages:
        stage.setup()
    wave_T = s.sweep_T(30_000, 44_100)
    files = [s.file_of(wave_T, 44_100), s.encode(wave_T, 44_100, "ipod", "-c:a", "aac"), b"<html>"]
    (sound, aac, page) = sandbox.process(given(*files))
    for made, (here,) in zip((sound, aac, page), (run_stages(stages, each)[0] for each in given(*files)), strict=True):
        assert (made.reason, made.parts, made.columns) == (here.reason, here.parts, here.columns)
    assert set(sound.parts) == {"flac", "mel.npy", "mfcc.npy"}
    assert page.reason is Reason.UNSUPPORTED
    assert sandbox.restarts == 0


def test_a_long_sound_stays_within_the_memory_of_the_child():
    """Four minutes at 96 kHz in six channels are 550 MB as float32; the child may take 250 MB."""
    stream = io.BytesIO()
    with soundfile.SoundFile(stream, "w", 96_000, 6, format="FLAC", subtype="PCM_16") as file:
        for _ in range(4):
            file.write(np.zeros((60 * 96_000, 6), np.int16))
    with Sandbox([("decode_audio", {})], timeout_s=100, memory_mb=250) as box:
        (sample,) = box.process(given(stream.getvalue()))
    assert sample.is_ok, sample.detail
    assert sample.columns["duration_s"] == 240
