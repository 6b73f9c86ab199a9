"""Stage align_subtitles: whether the subtitles fit the sound; a constant shift is measured, and may be corrected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types as at

from mmdata.errors import Reason, SampleError
from mmdata.media.memory_file import memory_file
from mmdata.options import operational, semantic
from mmdata.sample import RAW, Sample
from mmdata.stage import OWN, Resources
from mmdata.video.alignment import align, speech_steps
from mmdata.video.film import opened
from mmdata.video.sound import SoundStream, cut_sound, sound_stream
from mmdata.video.subtitle_stream import cues_of

_PIECE_S = 600.0  # 19 MB of sound at a time, however long the film


@dataclass(kw_only=True)
class AlignSubtitles:
    """Columns: speech_in_subtitles (share of subtitle time that is speech, 0 to 1, as the subtitles came),
    subtitle_shift_s (what they would have to be moved by to fit best, later where positive) and subtitle_correction_s
    (what cut_clips moves them by: 0 unless correct is on and the shift is worth it).

    Stands before cut_clips. Films without sound or without subtitles pass without the columns.
    """

    name: ClassVar[str] = "align_subtitles"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"video_text"})
    reads: ClassVar[frozenset[str]] = frozenset({RAW, OWN, "has_sound"})
    writes: ClassVar[frozenset[str]] = frozenset({"speech_in_subtitles", "subtitle_shift_s", "subtitle_correction_s"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    column: str = semantic("subtitles")  # of the source's own; where it is empty, the film's own subtitle stream
    max_shift_s: Annotated[float, at.Gt(0), at.Le(120)] = semantic(10.0)
    correct: bool = semantic(False)
    min_gain: Annotated[float, at.Ge(0), at.Le(1)] = semantic(0.1)  # a shift is corrected where the share grows by that
    min_shift_s: Annotated[float, at.Ge(0)] = semantic(0.1)  # smaller ones are within what subtitles are off anyway
    aggressiveness: Annotated[int, at.Ge(0), at.Le(3)] = semantic(2)  # of the detector: 3 takes the least for speech
    batch_size: Annotated[int, at.Ge(1)] = operational(4)

    def setup(self) -> None:
        import av  # noqa: F401 - loaded before the limits of the sandbox apply
        import webrtcvad  # noqa: F401

        from mmdata.media.ffmpeg import executable

        executable()

    def process(self, samples: list[Sample]) -> list[Sample]:
        for sample in samples:
            try:
                self._process_one(sample)
            except SampleError as error:
                if error.reason is not Reason.NO_SUBTITLES:
                    sample.end(error.reason, error.detail)
            except MemoryError:
                sample.end(Reason.DECODE_OOM, "not enough memory to read the sound")
        return samples

    def _process_one(self, sample: Sample) -> None:
        cues = cues_of(sample, self.column)
        data = sample.parts[RAW]
        with opened(data) as film:
            stream = sound_stream(film)
        if stream is None:
            return
        with memory_file(data) as path:
            pieces = _pieces(path, stream, sample.columns["duration_s"])
            found = align(cues, speech_steps(pieces, self.aggressiveness), self.max_shift_s)
        is_worth_it = (
            abs(found.shift_s) >= self.min_shift_s and found.shifted_share - found.speech_share >= self.min_gain
        )
        sample.columns.update(
            speech_in_subtitles=found.speech_share,
            subtitle_shift_s=found.shift_s,
            subtitle_correction_s=found.shift_s if self.correct and is_worth_it else 0.0,
        )


def _pieces(path: str, stream: SoundStream, duration_s: float) -> Iterator[bytes]:
    start_s = 0.0
    while start_s < duration_s:
        end_s = min(start_s + _PIECE_S, duration_s)
        yield cut_sound(path, stream, (start_s, end_s), "s16le")
        start_s = end_s
