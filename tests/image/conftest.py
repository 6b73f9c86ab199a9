"""One way to put bytes through a stage."""

from __future__ import annotations

from typing import Any

import pytest

from mmdata.image.decode_image import DecodeImage
from mmdata.sample import Sample


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    DecodeImage().setup()


@pytest.fixture(scope="session")
def decode() -> Any:
    """decode(data, **options) -> the sample after decode_image."""

    def run(data: bytes, **options: Any) -> Sample:
        sample = Sample("pictures-000000000042", {"raw": data})
        stage = DecodeImage(**options)
        (given_back,) = stage.process([sample])
        assert given_back is sample
        assert sample.key == "pictures-000000000042"
        assert "raw" not in sample.parts
        return sample

    return run
