"""Stage hash_image: a 64-bit perceptual hash, close for pictures that look alike. Shapes: H height, W width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types as at
import numpy as np
from numpy.typing import NDArray

from mmdata.image import jpeg
from mmdata.image.colour import to_srgb
from mmdata.image.read import read_header, read_pixels
from mmdata.options import operational
from mmdata.sample import Sample
from mmdata.stage import Resources, one_by_one

_SIDE, _KEPT = 32, 8
# Cosines in whole numbers: sums are exact, so no bit depends on the order in which a machine adds.
_COSINES_KS = np.round(
    4096 * np.cos(np.pi / _SIDE * np.outer(np.arange(_KEPT), np.arange(_SIDE) + 0.5)),
).astype(np.int64)


@dataclass(kw_only=True)
class HashImage:
    """phash: DCT hash as a whole number in [0, 2^64). Hamming distances up to about 6 mean the same picture."""

    name: ClassVar[str] = "hash_image"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"image_text"})
    reads: ClassVar[frozenset[str]] = frozenset({"image"})
    writes: ClassVar[frozenset[str]] = frozenset({"phash"})
    isolated: ClassVar[bool] = True  # with keep_original these are still a stranger's bytes
    resources: ClassVar[Resources] = Resources()

    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    def setup(self) -> None:
        import cv2

        cv2.setNumThreads(1)

    def process(self, samples: list[Sample]) -> list[Sample]:
        return one_by_one(samples, self._process_one)

    def _process_one(self, sample: Sample) -> None:
        sample.columns["phash"] = phash(sample.parts[sample.image_part or ""])


def phash(data: bytes) -> int:
    """64-bit hash: which of the 8 x 8 lowest cosine coefficients of the 32 x 32 grey copy lie above their median.

    The method is that of imagehash.phash (after Krawetz, "Looks Like It"). Raises SampleError where nothing decodes.
    """
    import cv2

    header = read_header(data)
    eighths = jpeg.scale_for(header, 2 * _SIDE, 2 * _SIDE) if header.kind == "jpg" else 8
    image_HWC = to_srgb(read_pixels(data, header, eighths), header.icc)
    grey_HW = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY)
    small_SS = cv2.resize(grey_HW, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.int64)
    return _bits(_COSINES_KS @ small_SS @ _COSINES_KS.T)


def _bits(coefficients_KK: NDArray[np.int64]) -> int:
    above_KK = 2 * coefficients_KK > int(np.sort(coefficients_KK, axis=None)[31:33].sum())  # twice the median of 64
    return int.from_bytes(np.packbits(above_KK).tobytes(), "big")
