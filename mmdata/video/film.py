"""A film in memory, opened for its packets: forced demuxer, no protocol, a limit on pixels. Nothing is decoded here.

Time zero of a film is where its container begins, as for players and FFmpeg's `-ss`: the earliest start of its streams.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from mmdata.errors import Reason, SampleError
from mmdata.media.completeness import missing_bytes
from mmdata.media.container import sniff
from mmdata.sample import RAW, Sample

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

SEEKS_BY_PTS = ("mov", "matroska")  # others seek by decoding times, or where their bytes seem to be
MAX_PIXELS = 1 << 28  # for FFmpeg's decoders while a container is opened; stages set closer limits
MATRIX_UNKNOWN, HD_LINES = 2, 720
_TURN = re.compile(r"display ?matrix: rotation of (-?[\d.]+) degrees", re.IGNORECASE)
_MAX_PIXEL_ASPECT = 8


@dataclass(frozen=True)
class Film:
    """An open container and its video stream. size_px: as stored, without rotation and pixel aspect."""

    container: InputContainer
    stream: VideoStream
    demuxer: str

    @property
    def stored_size_px(self) -> tuple[int, int]:
        """(width, height) of the coded pictures as the header says."""
        return self.stream.codec_context.width, self.stream.codec_context.height

    @property
    def shown_size_px(self) -> tuple[int, int]:
        """(width, height) as shown: pixels made square, then turned upright."""
        width, height = self.stored_size_px
        aspect = self.stream.sample_aspect_ratio or Fraction(1)
        if 1 / Fraction(_MAX_PIXEL_ASPECT) <= aspect <= _MAX_PIXEL_ASPECT:
            width = max(1, round(width * aspect))
        return (height, width) if self.rotation_deg % 180 else (width, height)

    @property
    def rotation_deg(self) -> int:
        """Clockwise turn that shows the pictures upright: 0, 90, 180 or 270."""
        return _rotation(self.container, self.stream.index)

    @property
    def is_unmarked_hd(self) -> bool:
        """True where the stream names no colour matrix and players take that of high definition, BT.709."""
        codec = self.stream.codec_context
        return codec.colorspace == MATRIX_UNKNOWN and codec.height >= HD_LINES

    @property
    def has_sound(self) -> bool:
        return any(stream.codec_context is not None for stream in self.container.streams.audio)

    @property
    def origin_s(self) -> Fraction | None:
        """Time stamp of time zero, or None where no stream says when it starts."""
        start = self.container.start_time
        return None if start is None else Fraction(start, 1_000_000)

    @property
    def header_duration_s(self) -> float | None:
        """What the header says, or None where it says nothing."""
        stream, container = self.stream, self.container
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return None if container.duration is None else container.duration / 1e6

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """The packets of the video stream from where it stands, then an empty one; damage ends them, as for FFmpeg."""
        import av

        try:
            yield from self.container.demux(self.stream)
        except av.error.MemoryError:
            raise MemoryError("over the memory limit") from None
        except (av.FFmpegError, EOFError):
            return


@contextlib.contextmanager
def opened(data: bytes, max_pixels: int = MAX_PIXELS) -> Iterator[Film]:
    """The film in these bytes, closed with the block; errors of FFmpeg inside the block become SampleError.

    Raises SampleError: content.unsupported (no container of FFmpeg's, a codec nobody reads), content.no_video,
    decode.truncated (an MP4 without its index), decode.corrupt, decode.oom.
    """
    import av

    demuxer = sniff(data)
    options = {"protocol_whitelist": "none", "format_whitelist": demuxer, "max_pixels": str(max_pixels)}
    with contextlib.ExitStack() as stack:
        try:
            container = stack.enter_context(
                av.open(io.BytesIO(data), "r", format=demuxer, options=options, metadata_errors="replace")
            )
            stream = _video_stream(container)
            stream.codec_context.options = {"max_pixels": str(max_pixels)}  # pictures may grow on the way
            stream.codec_context.thread_count = 1
            yield Film(container, stream, demuxer)
        except av.error.MemoryError:
            raise MemoryError("over the memory limit") from None
        except av.FFmpegError as error:
            require_complete(data, demuxer)
            if demuxer == "mov" and b"moov" not in data:
                raise SampleError(Reason.TRUNCATED, "no moov box: the file ends before its index") from None
            raise SampleError(Reason.CORRUPT, _said(error)) from None


def require_complete(data: bytes, demuxer: str) -> None:
    """Raise SampleError(decode.truncated) where the container says that it is longer than its bytes."""
    missing = missing_bytes(data, demuxer)
    if missing:
        raise SampleError(Reason.TRUNCATED, f"ends {missing} bytes or more before its end")


def by_film(samples: Iterable[Sample]) -> Iterator[tuple[bytes, list[Sample]]]:
    """Samples that share the raw bytes, as the clips of one film do, together; in order."""
    group: list[Sample] = []
    for sample in samples:
        if group and sample.parts[RAW] is not group[0].parts[RAW]:
            yield group[0].parts[RAW], group
            group = []
        group.append(sample)
    if group:
        yield group[0].parts[RAW], group


def _video_stream(container: InputContainer) -> VideoStream:
    """The first stream of moving pictures; cover pictures of sound files are none."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if stream.disposition & (Disposition.attached_pic | Disposition.still_image):
            continue
        if stream.codec_context is None:
            raise SampleError(Reason.UNSUPPORTED, "a video codec that is not read")
        return stream
    kinds = sorted({stream.type for stream in container.streams})
    raise SampleError(Reason.NO_VIDEO, f"streams: {', '.join(kinds) or 'none'}")


def _rotation(container: InputContainer, index: int) -> int:
    """From FFmpeg's own description of the streams: before a frame is decoded PyAV tells it nowhere else."""
    import av.logging

    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        described = str(cast(Any, container).dumps_format())
    finally:
        av.logging.set_level(level)
    for block in described.split("Stream #0:")[1:]:
        found = _TURN.search(block)
        if found and int(re.match(r"\d+", block).group()) == index:  # type: ignore[union-attr]
            return upright_turn(float(found[1]))
    return 0


def upright_turn(counterclockwise_deg: float) -> int:
    """Clockwise quarter turns, in degrees, nearest to what a display matrix does."""
    return 0 if math.isnan(counterclockwise_deg) else round(-counterclockwise_deg / 90) * 90 % 360


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
