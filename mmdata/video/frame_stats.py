"""Stage frame_stats: how much moves, and which share of the frames is dark, blurred or framed by bars. H, W, F frames.

All are computed on grey copies whose shorter side is 256 px at most, so that they mean the same at any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar

import annotated_types as at
import numpy as np
from numpy.typing import NDArray

from mmdata.errors import Reason, SampleError
from mmdata.options import operational, semantic
from mmdata.sample import Sample
from mmdata.stage import Resources, one_by_one

_SIDE_PX = 256
_MOTION_PX = 64  # longer side of the copies that are compared: noise and grain are averaged out
_BLACK_LUMA, _BLACK_AREA = 32, 0.98  # FFmpeg's blackframe: so much of the frame is darker than that
_BAR_LUMA = 24  # a row or column is part of a bar where no frame is lighter than that in it, in the mean
_LUMA_MAX = 255


@dataclass(kw_only=True)
class FrameStats:
    """Columns, all from 0 to 1, over the sampled frames:

    motion           mean over neighbouring frames of the mean absolute difference of their grey values, divided by 255.
                     With few frames a clip it is how much the picture changes from one to the next, cuts among it.
    static_share     share of neighbouring frames whose difference is below static_below: slides, still pictures.
    black_share      share of frames that are dark (luma below 32) in 98% of their area.
    blur_share       share of the other frames whose variance of the Laplacian is below blur_below (Pech-Pacheco et al.
                     2000).
    letterbox_share  share of the area that is bars: rows and columns at the borders that are dark in all frames. 0 for
                     clips that are dark throughout.
    A single frame has motion 0 and static_share 1.
    """

    name: ClassVar[str] = "frame_stats"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"video_text"})
    reads: ClassVar[frozenset[str]] = frozenset({"frames"})
    writes: ClassVar[frozenset[str]] = frozenset(
        {"motion", "static_share", "black_share", "blur_share", "letterbox_share"}
    )
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    static_below: Annotated[float, at.Ge(0), at.Le(1)] = semantic(0.005)
    blur_below: Annotated[float, at.Ge(0)] = semantic(60.0)
    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    def setup(self) -> None:
        import cv2
        import simplejpeg  # noqa: F401 - loaded before the limits of the sandbox apply

        cv2.setNumThreads(1)
        cv2.ocl.setUseOpenCL(False)

    def process(self, samples: list[Sample]) -> list[Sample]:
        return one_by_one(samples, self._process_one)

    def _process_one(self, sample: Sample) -> None:
        frames_FHW = [_grey(sample.parts[part]) for part in sample.frame_parts]
        sample.columns.update(self._stats(frames_FHW))

    def _stats(self, frames_FHW: list[NDArray[np.uint8]]) -> dict[str, float]:
        import cv2

        changes = _changes(frames_FHW)
        is_black = [bool((grey_HW < _BLACK_LUMA).mean() >= _BLACK_AREA) for grey_HW in frames_FHW]
        lit = [grey_HW for grey_HW, black in zip(frames_FHW, is_black, strict=True) if not black]
        is_blurred = [float(cv2.Laplacian(grey_HW, cv2.CV_32F).var()) < self.blur_below for grey_HW in lit]
        return {
            "motion": _mean(changes),
            "static_share": _mean([change < self.static_below for change in changes]) if changes else 1.0,
            "black_share": _mean(is_black),
            "blur_share": _mean(is_blurred),
            "letterbox_share": _letterbox(lit),
        }


def _grey(jpeg: bytes) -> NDArray[np.uint8]:
    import cv2
    import simplejpeg

    try:
        grey_HW = simplejpeg.decode_jpeg(jpeg, colorspace="GRAY")[:, :, 0]
    except ValueError as error:
        raise SampleError(Reason.CORRUPT, f"a frame: {error}") from None
    return _shrunk(grey_HW, _SIDE_PX / min(grey_HW.shape), cv2.INTER_AREA)


def _shrunk(grey_HW: NDArray[np.uint8], scale: float, how: int) -> NDArray[np.uint8]:
    import cv2

    if scale >= 1:
        return grey_HW
    size = max(1, round(grey_HW.shape[1] * scale)), max(1, round(grey_HW.shape[0] * scale))
    return np.asarray(cv2.resize(grey_HW, size, interpolation=how), dtype=np.uint8)


def _changes(frames_FHW: list[NDArray[np.uint8]]) -> list[float]:
    """Mean absolute difference of each frame to the one after it, 0 to 1."""
    import cv2

    small = [_shrunk(grey_HW, _MOTION_PX / max(grey_HW.shape), cv2.INTER_AREA) for grey_HW in frames_FHW]
    return [float(cv2.absdiff(before, after).mean()) / _LUMA_MAX for before, after in pairwise(small)]


def _letterbox(frames_FHW: list[NDArray[np.uint8]]) -> float:
    """Area of the bars as a share of the frame; bars are where every frame is dark."""
    if not frames_FHW:
        return 0.0
    lightest_HW = np.maximum.reduce(frames_FHW).astype(np.float32)
    inner = 1.0
    for axis in (0, 1):
        lit = np.flatnonzero(lightest_HW.mean(axis=1 - axis) >= _BAR_LUMA)
        inner *= (lit[-1] - lit[0] + 1) / lightest_HW.shape[axis] if lit.size else 1.0
    return float(1 - inner)


def _mean(values: list[float] | list[bool]) -> float:
    return float(np.mean(values)) if values else 0.0
