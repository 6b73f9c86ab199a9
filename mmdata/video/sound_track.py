"""Stage sound_track: the sound of the same span as the clip's pictures, as a part of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types as at

from mmdata.errors import Reason, SampleError
from mmdata.media.memory_file import memory_file
from mmdata.options import operational, semantic
from mmdata.sample import RAW, Sample
from mmdata.stage import Resources
from mmdata.video.film import by_film, opened
from mmdata.video.sound import RATE_HZ, SoundStream, cut_sound, sound_stream


@dataclass(kw_only=True)
class SoundTrack:
    """Part flac: 16 kHz, mono, 16 bit, round(16000 * length of the clip) samples; column sample_rate_hz.

    A film without sound passes without the part, and has_sound says so.
    """

    name: ClassVar[str] = "sound_track"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"video_text"})
    reads: ClassVar[frozenset[str]] = frozenset({RAW, "has_sound"})
    writes: ClassVar[frozenset[str]] = frozenset({"sound", "sample_rate_hz"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    require: bool = semantic(False)  # films without sound fail with content.no_sound
    batch_size: Annotated[int, at.Ge(1)] = operational(4)

    def setup(self) -> None:
        import av  # noqa: F401 - loaded before the limits of the sandbox apply

        from mmdata.media.ffmpeg import executable

        executable()

    def process(self, samples: list[Sample]) -> list[Sample]:
        for data, clips in by_film(samples):
            try:
                with opened(data) as film:
                    stream = sound_stream(film)
                with memory_file(data) as path:
                    for clip in clips:
                        self._process_clip(clip, path, stream)
            except SampleError as error:
                for clip in clips:
                    clip.end(error.reason, error.detail)
            except MemoryError:
                for clip in clips:
                    clip.end(Reason.DECODE_OOM, "not enough memory to read the sound")
        return samples

    def _process_clip(self, clip: Sample, path: str, stream: SoundStream | None) -> None:
        if stream is None:
            if self.require:
                clip.end(Reason.NO_SOUND, "no sound stream")
            return
        start_s = clip.columns.get("clip_start_s") or 0.0
        try:
            flac = cut_sound(path, stream, (start_s, start_s + clip.columns["duration_s"]), "flac")
        except SampleError as error:
            clip.end(error.reason, error.detail)
            return
        clip.parts["flac"] = flac
        clip.columns["sample_rate_hz"] = RATE_HZ
