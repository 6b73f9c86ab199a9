"""channel_mean and channel_std of samples add up to those of a dataset."""

from __future__ import annotations

import numpy as np
import pytest

from mmdata.errors import Reason
from mmdata.image.channel_stats import ChannelStats
from mmdata.sample import Sample
from tests.image import pictures as p


def columns_of(data: bytes, part: str = "png") -> dict:
    sample = Sample("a-000000000001", {part: data})
    assert ChannelStats().process([sample]) == [sample]
    assert sample.is_ok
    return sample.columns


@pytest.mark.parametrize(("kind", "part"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
def test_they_are_those_of_the_written_pixels(kind, part):
    data = p.encode(p.photo(), kind)
    columns = columns_of(data, part)
    pixels = p.rgb(data) / 255
    assert columns["channel_mean"] == pytest.approx(pixels.mean((0, 1)), abs=2e-3)
    assert columns["channel_std"] == pytest.approx(pixels.std((0, 1)), abs=2e-3)
    assert [type(value) for value in columns["channel_mean"]] == [float] * 3


def test_a_grey_picture_has_three_equal_channels():
    columns = columns_of(p.encode(p.photo()[:, :, 0]), "jpg")
    assert len(set(columns["channel_mean"])) == 1


def test_those_of_a_dataset_follow_from_those_of_its_samples():
    images = [p.photo(40, 30, 1), p.photo(80, 90, 2)]
    rows = [columns_of(p.encode(image, "PNG")) for image in images]
    weights = np.array([image.shape[0] * image.shape[1] for image in images])[:, None]
    means, stds = (np.array([row[name] for row in rows]) for name in ("channel_mean", "channel_std"))
    mean = (weights * means).sum(0) / weights.sum()
    std = np.sqrt((weights * (stds**2 + means**2)).sum(0) / weights.sum() - mean**2)
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]) / 255
    assert mean == pytest.approx(pixels.mean(0), abs=1e-6)
    assert std == pytest.approx(pixels.std(0), abs=1e-6)


def test_bytes_that_do_not_decode_end_with_a_reason():
    sample = Sample("a-000000000001", {"png": b"\x89PNG\r\n\x1a\n"})
    ChannelStats().process([sample])
    assert sample.reason is Reason.TRUNCATED
