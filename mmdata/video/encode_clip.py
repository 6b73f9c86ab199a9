"""Stage encode_clip: the span of a clip as an MP4 of its own: H.264, upright, of the wanted size and frame rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import annotated_types as at

from mmdata.errors import Reason, SampleError
from mmdata.media import ffmpeg
from mmdata.media.geometry import Geometry, ResizeMode, plan
from mmdata.media.memory_file import memory_file
from mmdata.options import operational, semantic
from mmdata.sample import RAW, Sample
from mmdata.stage import Resources
from mmdata.video.film import Film, by_film, opened
from mmdata.video.mp4 import Preset, write_mp4
from mmdata.video.sound import film_from
from mmdata.video.timeline import read_timeline

_MAX_SIDE_PX = 4096  # H.264 level 5.2
_EXACT_S = 5e-7  # frames that begin at a bound belong to the clip behind it, as in sample_frames


@dataclass(kw_only=True)
class EncodeClip:
    """Part mp4: one H.264 stream, yuv420p, BT.709, index in front, no sound, no metadata; columns width_px, height_px.

    The same bytes give the same MP4: one thread, no encoder's name. Sides are rounded to even numbers. Where there are
    frames already, width_px and height_px stay theirs.
    """

    name: ClassVar[str] = "encode_clip"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"video_text"})
    reads: ClassVar[frozenset[str]] = frozenset({RAW, "duration_s", "original_width_px"})
    writes: ClassVar[frozenset[str]] = frozenset({"video", "width_px", "height_px"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    side_px: Annotated[int, at.Ge(16), at.Le(_MAX_SIDE_PX)] = semantic(256)
    resize: ResizeMode = semantic("keep_ratio")
    resize_only_if_bigger: bool = semantic(False)
    fps: Annotated[float, at.Gt(0), at.Le(240)] | None = semantic(None)  # even spacing; None: the film's own times
    crf: Annotated[int, at.Ge(0), at.Le(51)] = semantic(23)  # x264's quality: 18 is hard to tell from the original
    preset: Preset = semantic("veryfast")
    key_every_s: Annotated[float, at.Gt(0)] = semantic(2.0)  # readers of single frames decode half of it in the mean
    batch_size: Annotated[int, at.Ge(1)] = operational(4)

    def setup(self) -> None:
        import av  # noqa: F401 - loaded before the limits of the sandbox apply

        ffmpeg.executable()

    def process(self, samples: list[Sample]) -> list[Sample]:
        for data, clips in by_film(samples):
            try:
                with opened(data) as film:
                    geometry, graph = self._geometry(film), self._filters(film)
                    place = film.demuxer, film.stream.index, read_timeline(film).origin_s
                with memory_file(data) as path:
                    for clip in clips:
                        self._process_clip(clip, (path, *place), geometry, graph)
            except SampleError as error:
                for clip in clips:
                    clip.end(error.reason, error.detail)
            except MemoryError:
                for clip in clips:
                    clip.end(Reason.DECODE_OOM, "not enough memory to encode")
        return samples

    def _process_clip(
        self,
        clip: Sample,
        place: tuple[str, str, int, float],
        geometry: Geometry,
        filters: list[tuple[str, dict[str, Any]]],
    ) -> None:
        path, demuxer, stream, origin_s = place
        start_s, length_s = clip.columns.get("clip_start_s") or 0.0, clip.columns["duration_s"]
        video = film_from(path, demuxer, start_s)[str(stream)]
        from_s, to_s = (origin_s + time_s - _EXACT_S for time_s in (start_s, start_s + length_s))
        video = video.filter("trim", start=f"{from_s:.7f}", end=f"{to_s:.7f}")
        video = video.filter("setpts", f"PTS-({origin_s + start_s:.7f})/TB")
        for name, options in filters:
            video = video.filter(name, **options)
        rate = self.fps or clip.columns.get("fps") or 25.0
        options = {}
        if self.fps is not None:
            options["frames:v"] = max(1, math.ceil(length_s * self.fps - 1e-6))
        key_every = max(1, round(rate * self.key_every_s))
        try:
            mp4 = write_mp4(video, crf=self.crf, preset=self.preset, key_every=key_every, keep_times=True, **options)
        except SampleError as error:
            clip.end(error.reason, error.detail)
            return
        clip.parts["mp4"] = mp4
        if not clip.frame_parts:
            clip.columns.update(width_px=geometry.out_width, height_px=geometry.out_height)

    def _geometry(self, film: Film) -> Geometry:
        wanted = plan(*film.shown_size_px, self.resize, self.side_px, self.resize_only_if_bigger)
        sizes = [_even(size) for size in (wanted.width, wanted.height, wanted.out_width, wanted.out_height)]
        if max(sizes) > _MAX_SIDE_PX:
            raise SampleError(Reason.TOO_MANY_PIXELS, f"would be written as {sizes[2]} x {sizes[3]}")
        return Geometry(*sizes)

    def _filters(self, film: Film) -> list[tuple[str, dict[str, Any]]]:
        """What comes after FFmpeg has turned the pictures upright, which it does by itself."""
        geometry = self._geometry(film)
        scale = {"w": geometry.width, "h": geometry.height, "flags": "lanczos+accurate_rnd+full_chroma_int"}
        matrix = {"out_color_matrix": "bt709", "out_range": "tv"}
        if film.is_unmarked_hd:
            matrix["in_color_matrix"] = "bt709"
        filters: list[tuple[str, dict[str, Any]]] = []
        if self.fps is not None:
            filters.append(("fps", {"fps": self.fps, "start_time": 0}))
        filters.append(("scale", scale | matrix))
        size = {"w": geometry.out_width, "h": geometry.out_height}
        if self.resize == "center_crop":
            filters.append(("crop", size))
        elif self.resize == "border":
            filters.append(("pad", {**size, "x": "(ow-iw)/2", "y": "(oh-ih)/2", "color": "white"}))
        filters.append(("setsar", {"sar": 1}))
        return filters


def _even(size: int) -> int:
    return max(2, size // 2 * 2)
