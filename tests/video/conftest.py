"""One way to put films through stages, and films that many tests share."""

from __future__ import annotations

from typing import Any

import pytest

from mmdata.sample import Sample
from mmdata.video.probe_video import ProbeVideo
from mmdata.video.sample_frames import SampleFrames
from tests.video import films


@pytest.fixture(autouse=True, scope="session")
def _set_up() -> None:
    ProbeVideo().setup()
    SampleFrames(reader="decord").setup()


@pytest.fixture(scope="session")
def probe() -> Any:
    """probe(data, own=..., **options) -> the sample after probe_video."""

    def run(data: bytes, own: dict[str, Any] | None = None, **options: Any) -> Sample:
        sample = films.sample_of(data, own)
        (given_back,) = ProbeVideo(**options).process([sample])
        assert given_back is sample
        return sample

    return run


@pytest.fixture(scope="session")
def through(probe: Any) -> Any:
    """through(data, *stages, own=...) -> the samples after probe_video and the stages."""

    def run(data: bytes, *stages: Any, own: dict[str, Any] | None = None) -> list[Sample]:
        samples = [probe(data, own)]
        for stage in stages:
            ended = [sample for sample in samples if not sample.is_ok]
            samples = stage.process([sample for sample in samples if sample.is_ok]) + ended
        return samples

    return run


@pytest.fixture(scope="session")
def long_gop() -> bytes:
    """40 numbered frames at 20 a second, one key frame at the start, B-frames."""
    return films.encode(options={"g": "250", "bf": "3", "preset": "veryfast"})
