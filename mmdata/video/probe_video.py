"""Stage probe_video: what a film is, from its header and its packets, before a frame is decoded; and hard limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types as at

from mmdata.errors import Reason, SampleError
from mmdata.options import operational, semantic
from mmdata.sample import RAW, Sample
from mmdata.stage import Resources, one_by_one
from mmdata.video.film import Film, opened, require_complete
from mmdata.video.timeline import MAX_FRAMES, Timeline, read_timeline

_SIZE_IN_HEADER = ("mov", "matroska", "avi", "gif", "asf")
_MAX_FPS = 1000  # from here on the times are no times; high speed cameras write 960
_DURATION_TOLERANCE_S = 0.1
_DURATION_TOLERANCE = 0.01


@dataclass(kw_only=True)
class ProbeVideo:
    """Columns: duration_s, fps (mean), is_vfr, num_frames, original_width_px and original_height_px as shown (square
    pixels, upright), rotation_deg (clockwise turn that the header asks for), video_codec, container, has_sound,
    header_duration_s, duration_corrected.

    duration_s is counted in packets: from the film's time zero to the end of the last frame. Where the header says
    otherwise (by more than 0.1 s and 1%), duration_corrected is true and header_duration_s keeps what it says.
    """

    name: ClassVar[str] = "probe_video"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"video_text"})
    reads: ClassVar[frozenset[str]] = frozenset({RAW})
    writes: ClassVar[frozenset[str]] = frozenset(
        {
            "duration_s", "fps", "is_vfr", "num_frames", "original_width_px", "original_height_px", "rotation_deg",
            "video_codec", "container", "has_sound", "header_duration_s", "duration_corrected",
        }
    )  # fmt: skip
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    # Larger pictures fail before one is decoded. A decoder may hold seventeen of them: 8K (33 megapixels) takes 0.9 GB.
    max_megapixels: Annotated[float, at.Gt(0)] = semantic(36.0)
    max_frames: Annotated[int, at.Ge(1)] = semantic(MAX_FRAMES)  # in the header or in packets; more fail
    min_duration_s: Annotated[float, at.Ge(0)] = semantic(0.0)  # shorter ones are dropped
    max_duration_s: Annotated[float, at.Gt(0)] = semantic(4 * 3600.0)  # longer ones are dropped
    min_side_px: Annotated[int, at.Ge(0)] = semantic(0)  # of the original; smaller ones are dropped
    # A file that ends before its container says so was cut on its way. What came of it can still be used.
    allow_truncated: bool = semantic(False)
    batch_size: Annotated[int, at.Ge(1)] = operational(4)

    def setup(self) -> None:
        import av  # noqa: F401 - loaded before the limits of the sandbox apply

    def process(self, samples: list[Sample]) -> list[Sample]:
        return one_by_one(samples, self._process_one)

    def _process_one(self, sample: Sample) -> None:
        data = sample.parts[RAW]
        with opened(data, int(self.max_megapixels * 1e6)) as film:
            if not self.allow_truncated:
                require_complete(data, film.demuxer)
            self._check_size(film)
            timeline = read_timeline(film, self.max_frames)
            sample.columns.update(_facts(film, timeline))
        self._check_duration(timeline)

    def _check_size(self, film: Film) -> None:
        width, height = film.stored_size_px
        if width < 1 or height < 1:  # what FFmpeg makes of a size above max_pixels, too
            if film.demuxer in _SIZE_IN_HEADER:
                raise SampleError(Reason.TOO_MANY_PIXELS, f"by its header, allowed {self.max_megapixels:g} megapixels")
            raise SampleError(Reason.CORRUPT, "pictures without a size")
        for width, height in (film.stored_size_px, film.shown_size_px):
            if width * height > self.max_megapixels * 1e6:
                limit = f"allowed {self.max_megapixels:g} megapixels"
                raise SampleError(Reason.TOO_MANY_PIXELS, f"{width} x {height}, {limit}")
        if min(width, height) < self.min_side_px:
            raise SampleError(Reason.TOO_SMALL, f"{width} x {height}, wanted {self.min_side_px} px at least")

    def _check_duration(self, timeline: Timeline) -> None:
        duration_s = timeline.end_s
        if duration_s <= 0 or timeline.fps >= _MAX_FPS:
            raise SampleError(Reason.NO_DURATION, f"{timeline.num_frames} frames in {duration_s:.6f} s")
        if duration_s < self.min_duration_s:
            raise SampleError(Reason.TOO_SHORT, f"{duration_s:.3f} s, wanted {self.min_duration_s:g} s at least")
        if duration_s > self.max_duration_s:
            raise SampleError(Reason.TOO_LONG, f"{duration_s:.0f} s, wanted {self.max_duration_s:g} s at most")


def _facts(film: Film, timeline: Timeline) -> dict[str, object]:
    width, height = film.shown_size_px
    header_s = film.header_duration_s
    wrong_s = abs(header_s - timeline.end_s) if header_s is not None else 0.0
    return {
        "duration_s": timeline.end_s,
        "fps": timeline.fps,
        "is_vfr": timeline.is_vfr,
        "num_frames": timeline.num_frames,
        "original_width_px": width,
        "original_height_px": height,
        "rotation_deg": film.rotation_deg,
        "video_codec": film.stream.codec_context.codec.canonical_name,
        "container": film.demuxer,
        "has_sound": film.has_sound,
        "header_duration_s": header_s,
        "duration_corrected": wrong_s > max(_DURATION_TOLERANCE_S, _DURATION_TOLERANCE * timeline.end_s),
    }
