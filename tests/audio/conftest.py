"""One way to put bytes through a stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmdata.audio.decode_audio import DecodeAudio
from mmdata.audio.sound import write_sound
from mmdata.sample import Sample

KEY = "sounds-000000000042"


@pytest.fixture(autouse=True, scope="session")
def _imported() -> None:
    DecodeAudio().setup()


@pytest.fixture(scope="session")
def decode() -> Any:
    """decode(data, url="", **options) -> the sample after decode_audio."""

    def run(data: bytes, url: str = "", **options: Any) -> Sample:
        sample = Sample(KEY, {"raw": data}, {"modality": "audio_text", "url": url})
        (given_back,) = DecodeAudio(**options).process([sample])
        assert given_back is sample
        assert "raw" not in sample.parts
        assert sample.key == KEY
        return sample

    return run


@pytest.fixture(scope="session")
def heard() -> Any:
    """heard(wave_T, rate_hz, part="flac", **columns) -> a sample with that sound, as decode_audio leaves it."""

    def made(wave_T: np.ndarray, rate_hz: int = 16_000, part: Any = "flac", **columns: Any) -> Sample:
        data = write_sound(np.asarray(wave_T, np.float32), rate_hz, part)
        fixed = {"modality": "audio_text", "duration_s": len(wave_T) / rate_hz, "sample_rate_hz": rate_hz}
        return Sample(KEY, {part: data}, fixed | columns)

    return made
