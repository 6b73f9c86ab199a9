"""Stage channel_stats: mean and standard deviation of a written picture's channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types as at

from mmdata.image.read import read_srgb
from mmdata.options import operational
from mmdata.sample import Sample
from mmdata.stage import Resources, one_by_one


@dataclass(kw_only=True)
class ChannelStats:
    """channel_mean, channel_std: three floats each (red, green, blue), of pixel values in [0, 1].

    Of a dataset: the mean is that of channel_mean weighted by pixels, the variance that of
    channel_std^2 + channel_mean^2 less the square of the dataset's mean.
    """

    name: ClassVar[str] = "channel_stats"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"image_text"})
    reads: ClassVar[frozenset[str]] = frozenset({"image"})
    writes: ClassVar[frozenset[str]] = frozenset({"channel_mean", "channel_std"})
    isolated: ClassVar[bool] = True  # with keep_original these are still a stranger's bytes
    resources: ClassVar[Resources] = Resources()

    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    def setup(self) -> None:
        import cv2

        cv2.setNumThreads(1)

    def process(self, samples: list[Sample]) -> list[Sample]:
        return one_by_one(samples, self._process_one)

    def _process_one(self, sample: Sample) -> None:
        mean, std = channel_stats(sample.parts[sample.image_part or ""])
        sample.columns.update(channel_mean=mean, channel_std=std)


def channel_stats(data: bytes) -> tuple[list[float], list[float]]:
    """(mean, standard deviation over all pixels) of red, green and blue in [0, 1]. Raises SampleError."""
    import cv2

    mean, std = cv2.meanStdDev(read_srgb(data))
    return [float(value) / 255 for value in mean.ravel()], [float(value) / 255 for value in std.ravel()]
