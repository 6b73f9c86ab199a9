"""Where one shot ends and the next begins, by PySceneDetect on small copies of all frames."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from mmdata.video.frame_reader import decode_all
from mmdata.video.timeline import Timeline

Detector = Literal["adaptive", "content"]

# PySceneDetect's own: change against that of the neighbours, so that a moving camera is no cut; change alone.
DEFAULT_THRESHOLDS: dict[Detector, float] = {"adaptive": 3.0, "content": 27.0}
_SMALL_PX = 256  # longer side; as small as PySceneDetect makes them


def shot_starts_s(
    data: bytes, timeline: Timeline, detector: Detector, threshold: float | None, min_s: float
) -> list[float]:
    """When each shot of a film begins, in seconds, the first at the film's first frame. No shot is below min_s."""
    from scenedetect import FrameTimecode

    found = _detector(detector, threshold, max(1, round(min_s * timeline.fps)))
    positions: list[int] = []
    cuts: list[int] = []
    for number, (position, frame) in enumerate(decode_all(data, timeline)):
        positions.append(position)
        scale = min(1.0, _SMALL_PX / max(frame.width, frame.height))
        size = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
        small = frame.reformat(*size, format="bgr24", interpolation="AREA").to_ndarray()
        # Frames are counted, not timed: all that the detectors do with times is keep shots from being too short.
        cuts += [cut.frame_num for cut in found.process_frame(FrameTimecode(number, 1.0), np.ascontiguousarray(small))]
    starts = sorted({timeline.times_s[positions[cut]] for cut in cuts if 0 < cut < len(positions)})
    return [timeline.times_s[0], *(start for start in starts if start > timeline.times_s[0])]


def _detector(detector: Detector, threshold: float | None, min_frames: int) -> Any:
    from scenedetect import AdaptiveDetector, ContentDetector

    limit = DEFAULT_THRESHOLDS[detector] if threshold is None else threshold
    if detector == "adaptive":
        return AdaptiveDetector(adaptive_threshold=limit, min_scene_len=min_frames)
    return ContentDetector(threshold=limit, min_scene_len=min_frames)
