"""The sound of a span of a film, in step with its pictures: 16 kHz, mono, 16 bit, cut by FFmpeg.

Every sample is placed by its time stamp from the film's time zero: a sound that begins later than the pictures begins
with silence, one that begins earlier loses its start, holes are filled, the priming of AAC and Opus is taken off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mmdata.media import ffmpeg
from mmdata.video.film import SEEKS_BY_PTS, Film

RATE_HZ = 16_000
_LEAST_BLOCK = 16
_LEAD_S = 0.5  # decoded before the span: most codecs need what comes before to give the first samples right


@dataclass(frozen=True)
class SoundStream:
    """A stream of sound: its film's demuxer, its index, and the time stamp of the film's time zero."""

    demuxer: str
    index: int
    origin_s: float


def sound_stream(film: Film) -> SoundStream | None:
    """The first sound stream that can be decoded, or None."""
    for stream in film.container.streams.audio:
        if stream.codec_context is not None:
            return SoundStream(film.demuxer, stream.index, float(film.origin_s or 0))
    return None


def num_samples(length_s: float) -> int:
    """Samples of a sound that lasts that long."""
    return round(length_s * RATE_HZ)


def cut_sound(path: str, stream: SoundStream, span_s: tuple[float, float], kind: Literal["flac", "s16le"]) -> bytes:
    """The sound in [start, end) of the film in a memory file, as FLAC or bare samples: num_samples(end - start).

    Raises SampleError as ffmpeg.run.
    """
    start_s, end_s = span_s
    lead_s = min(start_s, _LEAD_S)
    count, lead = num_samples(end_s - start_s), num_samples(lead_s)
    from_s, to_s = (f"{time_s + stream.origin_s:.6f}" for time_s in (start_s - lead_s, end_s))
    wave = (
        film_from(path, stream.demuxer, start_s - lead_s)[str(stream.index)]
        .filter("atrim", start=from_s, end=to_s)
        .filter("asetpts", f"PTS-({from_s})/TB")
        .filter("aresample", RATE_HZ, **{"async": 1, "first_pts": 0})
        .filter("aformat", sample_fmts="s16", channel_layouts="mono")
        .filter("atrim", start_sample=lead)
        .filter("asetpts", "PTS-STARTPTS")
    )
    return write_sound(wave, count, kind, keep_times=True)


def film_from(path: str, demuxer: str, start_s: float) -> ffmpeg.Graph:
    """The film in a memory file from start_s or from somewhere before it, to be cut by `trim` with keep_times."""
    if demuxer not in SEEKS_BY_PTS or start_s <= 0:
        return ffmpeg.source(path, demuxer)
    return ffmpeg.source(path, demuxer, ss=f"{start_s:.6f}", noaccurate_seek=None)


def write_sound(wave: ffmpeg.Graph, count: int, kind: str, *, keep_times: bool = False) -> bytes:
    """A stream of sound as a file of exactly `count` samples, cut or filled up with silence."""
    exact = wave.filter("apad", whole_len=count).filter("atrim", end_sample=count)
    options = {"metadata_header_padding": 0} if kind == "flac" else {}
    return ffmpeg.run(exact.filter("asetnsamples", n=_block(count), p=0), kind, keep_times=keep_times, **options)


def _block(count: int) -> int:
    """Samples in a block of FLAC, such that the last one is not below the encoder's least of 16."""
    return next(size for size in range(4096, 0, -1) if count % size == 0 or count % size >= _LEAST_BLOCK)
