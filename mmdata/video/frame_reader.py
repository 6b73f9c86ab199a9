"""Frames at given positions of a film, decoded by PyAV or decord. Shapes: H height, W width.

PyAV is the default. It gives the same pixels in 0.5 to 0.9 of decord's time, since on the way to a wanted picture it
leaves out those that nothing refers to. decord 0.6 gives other frames than asked for from AVI with B-frames and from
HEVC with open GOPs, knows no AV1, and its decoders are those of 2018. Both use one thread.
"""

from __future__ import annotations

import contextlib
import io
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmdata.errors import Reason, SampleError
from mmdata.video.film import HD_LINES, MATRIX_UNKNOWN, Film, opened
from mmdata.video.timeline import Timeline

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Pixels = NDArray[np.uint8]
Reader = Literal["av", "decord"]

# Their decoders can leave out pictures that no other refers to, and number the others as before.
_SKIPPING = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})
_DECORD_DEMUXERS, _DECORD_CODECS = ("mov", "matroska"), ("h264", "vp8", "vp9")


def read_frames(
    data: bytes, film: Film, timeline: Timeline, positions: Iterable[int], reader: Reader = "av"
) -> Iterator[tuple[int, Pixels]]:
    """(position, uint8 RGB (H, W, 3) as stored, neither turned nor stretched) of each position once, ascending.

    Raises SampleError(decode.corrupt) where one of them does not decode. decord is asked only where it gives the same:
    not for AVI or HEVC, nor for what has a display matrix, which it may or may not apply. PyAV reads the others.
    """
    waiting = deque(sorted(set(positions)))
    if reader == "decord" and _suits_decord(film):
        frames = _open_with_decord(data)
        if frames is not None and len(frames) == timeline.num_frames:
            for position in waiting:
                yield position, frames[position].asnumpy()
            return
    for is_seeking in (True, False):
        if is_seeking and not timeline.seek_stamps:
            continue
        with contextlib.nullcontext(film) if is_seeking else opened(data) as source:
            for position, frame in _decode(source, timeline, waiting, is_seeking):
                waiting.popleft()
                yield position, to_rgb(frame)
        if not waiting:
            return
    raise SampleError(Reason.CORRUPT, f"frame {waiting[0]} of {timeline.num_frames} does not decode")


def read_key_frames(
    data: bytes, film: Film, timeline: Timeline, positions: Iterable[int]
) -> Iterator[tuple[int, Pixels]]:
    """As read_frames, for positions among timeline.keys: no packet of another frame reaches the decoder."""
    if timeline.by_order:
        yield from read_frames(data, film, timeline, positions)
        return
    wanted = {timeline.stamps[position]: position for position in sorted(set(positions))}
    for is_seeking in (True, False):
        with contextlib.nullcontext(film) if is_seeking else opened(data) as source:
            if not is_seeking or _seek(source, timeline, min(wanted.values())):
                for position, frame in _decode_keys(source, wanted):
                    del wanted[timeline.stamps[position]]
                    yield position, to_rgb(frame)
        if not wanted:
            return
    position = min(wanted.values())
    raise SampleError(Reason.CORRUPT, f"key frame {position} of {timeline.num_frames} does not decode")


def _decode_keys(film: Film, wanted: dict[int, int]) -> Iterator[tuple[int, VideoFrame]]:
    """The key frames of `wanted` (position by time stamp), which the caller takes out, in order."""
    codec = film.stream.codec_context
    fed: dict[int | None, int] = {}
    codec.skip_frame = "NONKEY"
    try:
        for packet in film.packets():
            if packet.size and not packet.is_discard and packet.pts in wanted:
                fed[packet.pts] = wanted[packet.pts]
                for frame in _decoded(film, packet):
                    if frame.pts in fed:
                        yield fed.pop(frame.pts), frame
                if len(fed) == len(wanted):  # all that are still wanted are in the decoder
                    break
        for frame in _decoded(film, None):
            if frame.pts in fed:
                yield fed.pop(frame.pts), frame
    finally:
        codec.skip_frame = "DEFAULT"


def _decode(film: Film, timeline: Timeline, waiting: deque[int], is_seeking: bool) -> Iterator[tuple[int, VideoFrame]]:
    """The frames of `waiting`, each taken off its front by the caller, as far as they are met.

    is_seeking: jump to the last key frame before the next wanted one wherever that lies ahead, and end where a jump
    leads too far.
    """
    codec = film.stream.codec_context
    places, wanted = timeline.places, frozenset(waiting)
    can_skip = codec.name in _SKIPPING and not timeline.by_order
    position = -1
    while waiting:
        if is_seeking and not _seek(film, timeline, waiting[0]):
            return
        is_key_ahead = False
        for packet in film.packets():
            if can_skip:
                codec.skip_frame = "DEFAULT" if not packet.size or places.get(packet.pts) in wanted else "NONREF"
            for frame in _decoded(film, packet if packet.size else None):
                position = position + 1 if timeline.by_order else places.get(frame.pts, position)
                if position > waiting[0]:
                    return
                if position == waiting[0]:
                    yield position, frame
                    if not waiting:
                        return
                    is_key_ahead = is_seeking and timeline.is_key_between(position, waiting[0])
            if is_key_ahead:
                break
        else:
            return


def decode_all(data: bytes, timeline: Timeline) -> Iterator[tuple[int, VideoFrame]]:
    """(position, frame) of every frame that decodes, in order."""
    position = -1
    with opened(data) as film:
        for packet in film.packets():
            for frame in _decoded(film, packet if packet.size else None):
                found = None if timeline.by_order or frame.pts is None else timeline.places.get(frame.pts)
                position = min(position + 1 if found is None else found, timeline.num_frames - 1)
                yield position, frame


def to_rgb(frame: VideoFrame) -> Pixels:
    """uint8 RGB (H, W, 3) of a decoded frame, by the colour matrix that the stream names, or by what players take."""
    from av.video.reformatter import Colorspace

    is_hd = frame.colorspace == MATRIX_UNKNOWN and frame.height >= HD_LINES and not frame.format.is_rgb
    matrix = Colorspace.ITU709 if is_hd else None
    return np.asarray(frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray(), dtype=np.uint8)


def _seek(film: Film, timeline: Timeline, position: int) -> bool:
    """Jump to where decoding has to begin for a position. False where the container cannot."""
    import av

    key = max(0, timeline.key_before(position))
    try:
        film.container.seek(timeline.seek_stamps[key], stream=film.stream)
    except av.FFmpegError:
        return False
    return True


def _decoded(film: Film, packet: Any) -> list[VideoFrame]:
    """The frames that come out; damaged packets give none, and the decoder goes on with the next."""
    import av

    try:
        return film.stream.codec_context.decode(packet)
    except av.error.MemoryError:
        raise MemoryError from None
    except (av.FFmpegError, EOFError):
        return []


def _suits_decord(film: Film) -> bool:
    is_known = film.demuxer in _DECORD_DEMUXERS and film.stream.codec_context.codec.canonical_name in _DECORD_CODECS
    return is_known and not film.rotation_deg


def _open_with_decord(data: bytes) -> Any:
    """decord's reader, or None where it cannot read the codec."""
    import decord

    try:
        return decord.VideoReader(io.BytesIO(data), ctx=decord.cpu(0), num_threads=1)
    except (decord.DECORDError, RuntimeError):
        return None
