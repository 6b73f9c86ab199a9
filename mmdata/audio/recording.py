"""Bytes of a stranger as pieces of sound: libsndfile reads WAV, FLAC, Ogg and MP3, FFmpeg's libraries all else.

A recording is never decoded as a whole: pieces come one after the other, each of about a million numbers. Both readers
leave out what an encoder put before and behind the sound (MP3 with a LAME tag, Ogg, AAC in MP4, Opus in Matroska), so
that lengths are exact. MP3 without that tag, bare AAC and WMA do not say it, and are off by up to 0.1 s.
Shape suffixes: T samples of one channel, C channels.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdata.audio.completeness import claimed_samples, is_streamed, require_complete
from mmdata.errors import Reason, SampleError
from mmdata.media.container import sniff

_BY_LIBSNDFILE = {"wav", "flac", "ogg", "mp3"}
# Whose header tells FFmpeg how long the sound is, and the seconds that it may be wrong by: times are often rounded.
_SPARE_S = {"mov": 0.1, "matroska": 0.1, "aiff": 0.01, "caf": 0.01, "w64": 0.01, "wv": 0.01, "flac": 0.01}
_PIECE_NUMBERS = 1 << 20
_RATES_HZ = range(100, 1_000_000)
_CODECS = {  # libsndfile's names as FFmpeg says them
    "PCM_S8": "pcm_s8", "PCM_U8": "pcm_u8", "PCM_16": "pcm_s16le", "PCM_24": "pcm_s24le", "PCM_32": "pcm_s32le",
    "FLOAT": "pcm_f32le", "DOUBLE": "pcm_f64le", "ULAW": "pcm_mulaw", "ALAW": "pcm_alaw", "MPEG_LAYER_I": "mp1",
    "MPEG_LAYER_II": "mp2", "MPEG_LAYER_III": "mp3", "IMA_ADPCM": "adpcm_ima_wav", "MS_ADPCM": "adpcm_ms",
    "GSM610": "gsm_ms", "G721_32": "adpcm_g726", "NMS_ADPCM_32": "adpcm_nms",
}  # fmt: skip


@dataclass(frozen=True)
class Recording:
    """A recording that can be read once."""

    codec: str
    rate_hz: int
    channels: int
    claimed_s: float | None  # what its header says, where it says it
    pieces: Iterator[NDArray[np.float32]]  # [T, C], full scale is 1


def open_recording(data: bytes, hint: str) -> Recording:
    """The first sound of the bytes. hint: the file's suffix, for formats without a header.

    Raises SampleError, on opening or while pieces are read: content.unsupported, content.no_sound, decode.truncated
    (less than the header says), decode.corrupt (also for floating-point samples that are no numbers).
    """
    demuxer = sniff(data, hint=hint)
    require_complete(data, demuxer)
    recording = None
    if demuxer in _BY_LIBSNDFILE and not is_streamed(data, demuxer):
        recording = _by_libsndfile(data, demuxer)
    recording = recording or _by_ffmpeg(data, demuxer)
    if recording.rate_hz not in _RATES_HZ:
        raise SampleError(Reason.UNSUPPORTED, f"{recording.rate_hz} Hz")
    return recording


def _by_libsndfile(data: bytes, demuxer: str) -> Recording | None:
    """None where libsndfile does not know what is in the container."""
    import soundfile

    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except (soundfile.LibsndfileError, RuntimeError, TypeError):
        return None
    codec = _CODECS.get(file.subtype, file.subtype.lower()) if demuxer in ("wav", "mp3") else _subtype_of(file)
    claimed = claimed_samples(data, demuxer)
    shown = file.frames if claimed is None and demuxer == "wav" else claimed  # of other formats it is an estimate
    claimed_s = None if shown is None or not file.samplerate else shown / file.samplerate
    return Recording(codec, file.samplerate, file.channels, claimed_s, _read(file, codec, claimed))


def _subtype_of(file: Any) -> str:
    return "flac" if file.format == "FLAC" else str(file.subtype).lower()


def _read(file: Any, codec: str, claimed: int | None) -> Iterator[NDArray[np.float32]]:
    """claimed: what is further back is the encoder's filling."""
    import soundfile

    size = max(1, _PIECE_NUMBERS // file.channels)
    left = claimed
    while left is None or left > 0:
        try:
            piece_TC = file.read(size if left is None else min(size, left), dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise SampleError(Reason.CORRUPT, str(error).removeprefix("Error : ")) from error
        if not len(piece_TC):
            break
        left = None if left is None else left - len(piece_TC)
        yield _numbers(piece_TC, codec)
    if left and codec == "flac":
        raise SampleError(Reason.TRUNCATED, f"lacks {left / file.samplerate:.2f} s of what its header says")


def _numbers(piece_TC: NDArray[np.float32], codec: str) -> NDArray[np.float32]:
    """The piece; only floating-point samples can be no numbers."""
    if codec.startswith("pcm_f") and not np.isfinite(piece_TC).all():
        raise SampleError(Reason.CORRUPT, "has samples that are no numbers")
    return piece_TC


def _by_ffmpeg(data: bytes, demuxer: str) -> Recording:
    import av

    try:
        container = av.open(io.BytesIO(data), format=demuxer, mode="r", container_options={"format_whitelist": demuxer})
    except av.error.EOFError as error:
        raise SampleError(Reason.TRUNCATED, "ends within its header") from error
    except (av.FFmpegError, ValueError) as error:
        raise SampleError(Reason.CORRUPT, f"{demuxer}: {_said(error)}") from error
    if not container.streams.audio:
        raise SampleError(Reason.NO_SOUND, f"{demuxer} without a sound stream")
    stream = container.streams.audio[0]
    context = stream.codec_context
    if context is None:
        raise SampleError(Reason.UNSUPPORTED, f"{demuxer}: no decoder for its sound")
    context.thread_count = 1
    codec = context.codec.canonical_name
    claimed_s = _claimed_s(container, stream, demuxer)
    pieces = _decode(container, stream, codec, claimed_s, _SPARE_S.get(demuxer, 0.0))
    return Recording(codec, context.sample_rate, context.channels, claimed_s, pieces)


def _claimed_s(container: Any, stream: Any, demuxer: str) -> float | None:
    if demuxer == "matroska":
        return float(container.duration) / 1e6 if len(container.streams) == 1 and container.duration else None
    return float(stream.duration * stream.time_base) if demuxer in _SPARE_S and stream.duration else None


def _decode(
    container: Any, stream: Any, codec: str, claimed_s: float | None, spare_s: float
) -> Iterator[NDArray[np.float32]]:
    import av

    shape = (stream.codec_context.sample_rate, stream.codec_context.channels)
    exact = stream.duration and container.format.name.startswith("mov")  # the edit list says where the filling begins
    left = round(claimed_s * shape[0]) if exact and claimed_s else None
    held: list[NDArray[np.float32]] = []
    taken = waiting = 0
    try:
        with container:
            for frame in container.decode(stream):
                piece_TC = _frame_numbers(frame)
                if (frame.sample_rate, piece_TC.shape[1]) != shape:
                    raise SampleError(Reason.CORRUPT, "changes its sampling rate or channels on the way")
                if left is not None:
                    piece_TC = piece_TC[: max(0, left - taken)]
                taken += len(piece_TC)
                held.append(piece_TC)
                waiting += piece_TC.size
                if waiting >= _PIECE_NUMBERS:
                    yield _numbers(np.concatenate(held), codec)
                    held, waiting = [], 0
    except av.error.EOFError as error:
        raise SampleError(Reason.TRUNCATED, "ends within a frame") from error
    except (av.FFmpegError, ValueError) as error:
        raise SampleError(Reason.CORRUPT, f"{codec}: {_said(error)}") from error
    if held:
        yield _numbers(np.concatenate(held), codec)
    if claimed_s is not None and taken / shape[0] < claimed_s - spare_s:
        raise SampleError(Reason.TRUNCATED, f"{taken / shape[0]:.2f} s of {claimed_s:.2f} s are there")


def _frame_numbers(frame: Any) -> NDArray[np.float32]:
    """A decoded frame as float32 [T, C]."""
    array = frame.to_ndarray()
    channels = len(frame.layout.channels)
    array_TC = array.T if frame.format.is_planar else array.reshape(-1, channels)
    if array.dtype == np.uint8:
        return np.asarray((array_TC.astype(np.float32) - 128) / 128, np.float32)
    if array.dtype.kind == "i":
        return np.asarray(array_TC / np.float32(2 ** (8 * array.dtype.itemsize - 1)), np.float32)
    return np.asarray(array_TC, np.float32)


def _said(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
