"""Stage cut_clips: a film becomes clips: spans of the table, subtitles, shots, or pieces of one length.

A clip is a child with the film's bytes and the span that later stages read; nothing is copied or encoded here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import annotated_types as at

from mmdata.errors import Reason, SampleError
from mmdata.options import operational, semantic
from mmdata.sample import RAW, Sample, child_key
from mmdata.stage import OWN, Resources
from mmdata.video import shots, spans
from mmdata.video.film import opened
from mmdata.video.shots import Detector
from mmdata.video.spans import Span
from mmdata.video.subtitle_stream import cues_of
from mmdata.video.subtitles import merged, shifted
from mmdata.video.timeline import Timeline, read_timeline


@dataclass(kw_only=True)
class CutClips:
    """Children with clip_start_s and clip_end_s (half-open, from the film's time zero), duration_s and num_frames.

    spans      column holds a JSON list of [start, end], [start, end, text] or {start, end, text}; where start_column
               and end_column are given, a row is one span. A text becomes the caption.
    subtitles  column holds SRT or WebVTT, else the film's own subtitle stream; cues are joined up to max_s, and their
               text is the caption, so it is in step with the pictures. What align_subtitles corrected is applied.
    shots      between cuts that PySceneDetect finds; longer ones in equal pieces of at most max_s.
    fixed      length_s every stride_s.

    A span that reaches past the film's end ends there. Those then shorter than min_s, or without a frame, are left out;
    children are numbered as their spans are, so numbers may be missing. Without any child the film ends with a reason.
    """

    name: ClassVar[str] = "cut_clips"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"video_text"})
    reads: ClassVar[frozenset[str]] = frozenset({RAW, OWN, "original_width_px"})
    writes: ClassVar[frozenset[str]] = frozenset({"clip_start_s", "clip_end_s", "duration_s", "num_frames", "caption"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    mode: Literal["spans", "subtitles", "shots", "fixed"] = semantic()
    column: str = semantic("")  # of the source's own; "": `spans` or `subtitles`, as the mode
    start_column: str = semantic("")
    end_column: str = semantic("")
    min_s: Annotated[float, at.Ge(0)] = semantic(1.0)
    max_s: Annotated[float, at.Gt(0)] = semantic(30.0)
    max_gap_s: Annotated[float, at.Ge(0)] = semantic(1.0)  # cues further apart are not joined
    pad_s: Annotated[float, at.Ge(0)] = semantic(0.0)  # before and after a span or cue: speech and action rarely fit
    length_s: Annotated[float, at.Gt(0)] = semantic(10.0)
    stride_s: Annotated[float, at.Gt(0)] | None = semantic(None)  # length_s: a clip begins where the one before ends
    detector: Detector = semantic("adaptive")
    threshold: Annotated[float, at.Gt(0)] | None = semantic(None)  # PySceneDetect's own default
    max_clips: Annotated[int, at.Ge(1)] = semantic(2000)  # further ones are left out
    batch_size: Annotated[int, at.Ge(1)] = operational(4)

    def __post_init__(self) -> None:
        if bool(self.start_column) != bool(self.end_column):
            raise ValueError("start_column and end_column go together")
        if self.min_s > self.max_s:
            raise ValueError(f"min_s {self.min_s:g} is above max_s {self.max_s:g}")

    def setup(self) -> None:
        import av  # noqa: F401 - loaded before the limits of the sandbox apply

        if self.mode == "shots":
            import scenedetect  # noqa: F401
        if self.mode == "subtitles":
            from mmdata.media.ffmpeg import executable

            executable()

    def process(self, samples: list[Sample]) -> list[Sample]:
        done: list[Sample] = []
        for sample in samples:
            try:
                done += self._cut(sample)
                continue
            except SampleError as error:
                sample.end(error.reason, error.detail)
            except MemoryError:
                sample.end(Reason.DECODE_OOM, "not enough memory to find clips")
            done.append(sample)
        return done

    def _cut(self, film: Sample) -> list[Sample]:
        with opened(film.parts[RAW]) as opened_film:
            timeline = read_timeline(opened_film)
        children = []
        for index, span in enumerate(itertools.islice(self._spans(film, timeline), self.max_clips)):
            clip = spans.within(span, timeline.end_s)
            frames = timeline.span(clip.start_s, clip.end_s)
            if clip.length_s > 0 and clip.length_s >= self.min_s - 1e-6 and frames:
                children.append(_child(film, index, clip, len(frames)))
        if not children:
            raise SampleError(Reason.TOO_SHORT, f"no clip of {self.min_s:g} s in {timeline.end_s:.3f} s")
        return children

    def _spans(self, film: Sample, timeline: Timeline) -> Iterable[Span]:
        own = film.columns.get(OWN, {})
        match self.mode:
            case "spans" if self.start_column:
                names = f"{self.start_column}, {self.end_column}"
                return map(self._padded, spans.single(own.get(self.start_column), own.get(self.end_column), names))
            case "spans":
                column = self.column or "spans"
                return map(self._padded, spans.listed(own.get(column), column))
            case "subtitles":
                correction_s = film.columns.get("subtitle_correction_s") or 0.0
                cues = shifted(cues_of(film, self.column or "subtitles"), correction_s)
                joined = merged(cues, max_s=self.max_s, max_gap_s=self.max_gap_s)
                return (self._padded(Span(cue.start_s, cue.end_s, cue.text)) for cue in joined)
            case "shots":
                starts = shots.shot_starts_s(film.parts[RAW], timeline, self.detector, self.threshold, self.min_s)
                return spans.between(starts, timeline.end_s, self.max_s)
        return spans.fixed(timeline.end_s, self.length_s, self.stride_s or self.length_s)

    def _padded(self, span: Span) -> Span:
        return replace(span, start_s=span.start_s - self.pad_s, end_s=span.end_s + self.pad_s)


def _child(film: Sample, index: int, clip: Span, num_frames: int) -> Sample:
    columns: dict[str, Any] = {
        **film.columns,
        "clip_start_s": clip.start_s,
        "clip_end_s": clip.end_s,
        "duration_s": clip.length_s,
        "num_frames": num_frames,
    }
    if clip.text is not None:
        columns["caption"] = clip.text
    return Sample(child_key(film.key, index), {RAW: film.parts[RAW]}, columns)
