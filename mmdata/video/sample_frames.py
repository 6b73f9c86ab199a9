"""Stage sample_frames: frames of a clip as numbered JPEGs, upright and of the wanted size, with their true times.

Shapes: H height, W width, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types as at
import numpy as np

from mmdata.errors import Reason, SampleError
from mmdata.media.geometry import Geometry, ResizeMode, plan
from mmdata.media.resample import resample
from mmdata.media.write import crop_or_pad, write
from mmdata.options import operational, semantic
from mmdata.sample import RAW, Sample
from mmdata.stage import Resources
from mmdata.video.film import Film, by_film, opened
from mmdata.video.frame_reader import Pixels, Reader, read_frames, read_key_frames
from mmdata.video.timeline import Timeline, read_timeline

DEFAULT_UNIFORM = 5
_MAX_SIDE_PX = 16383
_GROWTH = 4  # a stream whose pictures become that many times larger than its header says is not followed

_LEAST_PIXELS = 1 << 22  # decoders count their margins, which outweigh a small picture


@dataclass(kw_only=True)
class SampleFrames:
    """Parts 000.jpg, 001.jpg, ...; columns frame_times_s, width_px, height_px.

    One of uniform, fps, keyframes, times_s says which frames; uniform: 5 where none is given. A frame belongs to a clip
    where it begins to be shown in [clip_start_s, clip_end_s); a clip without one has the frame on show at its start.
    frame_times_s: when each begins to be shown, from the clip's start, never below 0.
    """

    name: ClassVar[str] = "sample_frames"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"video_text"})
    reads: ClassVar[frozenset[str]] = frozenset({RAW, "original_width_px"})
    writes: ClassVar[frozenset[str]] = frozenset({"frames", "frame_times_s", "width_px", "height_px"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    # K frames, each on show in the middle of one of K equal spans of time. One that is long on show comes repeatedly.
    uniform: Annotated[int, at.Ge(1)] | None = semantic(None)
    fps: Annotated[float, at.Gt(0)] | None = semantic(None)  # so many a second, the first at the clip's start
    keyframes: bool = semantic(False)  # those that the encoder stored whole: by far the cheapest, unevenly spaced
    times_s: list[Annotated[float, at.Ge(0)]] | None = semantic(
        None
    )  # the frame on show at each, from the clip's start
    max_frames: Annotated[int, at.Ge(1), at.Le(10_000)] = semantic(1000)  # a clip that would give more fails
    side_px: Annotated[int, at.Ge(1), at.Le(_MAX_SIDE_PX)] = semantic(256)
    resize: ResizeMode = semantic("keep_ratio")
    resize_only_if_bigger: bool = semantic(False)
    quality: Annotated[int, at.Ge(1), at.Le(100)] = semantic(90)
    # decord where it gives the same frames as av, and av where it does not: for comparison, it is the slower one.
    reader: Reader = semantic("av")
    batch_size: Annotated[int, at.Ge(1)] = operational(4)

    def __post_init__(self) -> None:
        chosen = {"uniform": self.uniform, "fps": self.fps, "keyframes": self.keyframes, "times_s": self.times_s}
        given = [name for name, value in chosen.items() if value not in (None, False)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: only one of them can say which frames")
        if self.times_s is not None and not self.times_s:
            raise ValueError("times_s: no time is given")

    def setup(self) -> None:
        import av  # noqa: F401 - loaded before the limits of the sandbox apply
        import cv2
        import simplejpeg  # noqa: F401

        cv2.setNumThreads(1)
        cv2.ocl.setUseOpenCL(False)
        if self.reader == "decord":
            import decord  # noqa: F401

    def process(self, samples: list[Sample]) -> list[Sample]:
        for data, clips in by_film(samples):
            try:
                with opened(data, _max_pixels(clips[0])) as film:
                    timeline = read_timeline(film)
                    for clip in clips:
                        self._process_clip(clip, data, film, timeline)
            except SampleError as error:
                for clip in clips:
                    clip.end(error.reason, error.detail)
            except MemoryError:
                for clip in clips:
                    clip.end(Reason.DECODE_OOM, "not enough memory to decode")
        return samples

    def _process_clip(self, clip: Sample, data: bytes, film: Film, timeline: Timeline) -> None:
        try:
            positions = self._positions(clip, timeline)
            parts = self._read(data, film, timeline, positions)
        except SampleError as error:
            clip.end(error.reason, error.detail)
            return
        geometry = self._geometry(film)
        start_s = clip.columns.get("clip_start_s") or 0.0
        clip.parts.update((f"{index:03d}.jpg", parts[position]) for index, position in enumerate(positions))
        clip.columns.update(
            frame_times_s=[max(0.0, timeline.times_s[position] - start_s) for position in positions],
            width_px=geometry.out_width,
            height_px=geometry.out_height,
        )

    def _positions(self, clip: Sample, timeline: Timeline) -> list[int]:
        """Positions in the film of the wanted frames, in order, those on show for long repeatedly."""
        start_s = clip.columns.get("clip_start_s") or 0.0
        end_s = clip.columns.get("clip_end_s") or timeline.end_s
        span = timeline.span(start_s, end_s) or range(timeline.at(start_s), timeline.at(start_s) + 1)
        if self.keyframes:
            keys = [position for position in timeline.keys if position in span]
            return self._few(keys or [span.start])
        length_s = end_s - start_s
        if self.times_s is not None:
            times_s: Sequence[float] = [time_s for time_s in self.times_s if time_s < length_s]
            if not times_s:
                raise SampleError(Reason.TOO_SHORT, f"{length_s:.3f} s, wanted a frame at {min(self.times_s):g} s")
        elif self.fps is not None:
            count = max(1, math.ceil(length_s * self.fps - 1e-6))
            self._few(range(count))
            times_s = [index / self.fps for index in range(count)]
        else:
            count = self.uniform or DEFAULT_UNIFORM
            times_s = [(index + 0.5) / count * length_s for index in range(count)]
        return self._few([min(max(timeline.at(start_s + t), span.start), span.stop - 1) for t in sorted(times_s)])

    def _few(self, positions: Sequence[int]) -> list[int]:
        if len(positions) > self.max_frames:
            raise SampleError(Reason.TOO_MANY_FRAMES, f"{len(positions)} frames, wanted {self.max_frames} at most")
        return list(positions)

    def _read(self, data: bytes, film: Film, timeline: Timeline, positions: list[int]) -> dict[int, bytes]:
        geometry = self._geometry(film)
        if self.keyframes and set(positions) <= set(timeline.keys):
            frames = read_key_frames(data, film, timeline, positions)
        else:
            frames = read_frames(data, film, timeline, positions, self.reader)
        rotation_deg = film.rotation_deg
        return {
            position: write(shape(image_HWC, geometry, rotation_deg), "jpg", self.quality)
            for position, image_HWC in frames
        }

    def _geometry(self, film: Film) -> Geometry:
        geometry = plan(*film.shown_size_px, self.resize, self.side_px, self.resize_only_if_bigger)
        if max(geometry.width, geometry.height, geometry.out_width, geometry.out_height) > _MAX_SIDE_PX:
            raise SampleError(Reason.TOO_MANY_PIXELS, f"would be written as {geometry.width} x {geometry.height}")
        return geometry


def shape(image_HWC: Pixels, geometry: Geometry, rotation_deg: int) -> Pixels:
    """A stored picture as it is shown: resized (which makes its pixels square), turned clockwise, cropped or padded."""
    width, height = geometry.width, geometry.height
    if rotation_deg % 180:
        width, height = height, width
    stored_height, stored_width, _ = image_HWC.shape
    image_HWC = resample(image_HWC, width, height, (stored_width, stored_height))
    return crop_or_pad(np.rot90(image_HWC, -rotation_deg // 90), geometry)


def _max_pixels(clip: Sample) -> int:
    """What a decoder may allocate for one picture: several times what the probe has let through."""
    probed = int(clip.columns["original_width_px"]) * int(clip.columns["original_height_px"])
    return max(_GROWTH * probed, _LEAST_PIXELS)
