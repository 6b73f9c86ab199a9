"""The subtitles of a film: the text in a column of the table, or else the first text stream in the container."""

from __future__ import annotations

from mmdata.errors import Reason, SampleError
from mmdata.media import ffmpeg
from mmdata.media.memory_file import memory_file
from mmdata.sample import RAW, Sample
from mmdata.stage import OWN
from mmdata.video.film import opened
from mmdata.video.subtitles import Cue, parse

_MAX_BYTES = 32 << 20
_TIMEOUT_S = 60.0


def cues_of(sample: Sample, column: str) -> list[Cue]:
    """All cues, by time. Raises SampleError(content.no_subtitles) where neither the column nor the film has one."""
    text = sample.columns.get(OWN, {}).get(column)
    cues = parse(text if isinstance(text, str) and text.strip() else _embedded(sample.parts[RAW]))
    if not cues:
        raise SampleError(Reason.NO_SUBTITLES, f"no cue in column {column} or in the film")
    return cues


def _embedded(data: bytes) -> str:
    """The first subtitle stream as SRT; nothing without one, or where it holds pictures."""
    with opened(data) as film:
        demuxer, is_there = film.demuxer, bool(film.container.streams.subtitles)
    if not is_there:
        return ""
    try:
        with memory_file(data) as path:
            stream = ffmpeg.source(path, demuxer)["s:0"]
            return ffmpeg.run(stream, "srt", timeout_s=_TIMEOUT_S, max_bytes=_MAX_BYTES).decode("utf-8", "replace")
    except SampleError as error:
        if error.reason is not Reason.CORRUPT:
            raise
        raise SampleError(Reason.NO_SUBTITLES, f"those of the film are no text: {error.detail}") from None
