"""Copies of rare clips that differ: speed with the pitch kept, crop, mirror, colours; all frames alike. H, W, C.

One function over the parts of a sample, as mmdata/augment.py describes; everything random comes from the copy's key.
Frames and MP4 get the same crop, mirror and colours, sound and times the same speed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdata.augment import VideoAugment, rng_of
from mmdata.errors import Reason, SampleError
from mmdata.media import ffmpeg
from mmdata.media.memory_file import memory_file
from mmdata.media.write import write
from mmdata.sample import SOUND_PARTS, Sample
from mmdata.stage import Stage
from mmdata.video.mp4 import write_mp4
from mmdata.video.sound import write_sound

_QUALITY, _CRF = 95, 20  # a copy is encoded a second time: less is lost than at first
_FEATURES = ("mel.npy", "mfcc.npy")
_LUMA = (0.299, 0.587, 0.114)
_GREY = 127.5  # contrast is around it


@dataclass(frozen=True)
class Change:
    """What is done to all frames of a copy: speed; the kept part of each side and where it begins, as shares; mirror;
    colours as out_c = sum over k of matrix[c][k] * in_k + offset, in 0 to 255."""

    speed: float
    kept: float
    left: float
    top: float
    is_flipped: bool
    matrix: tuple[tuple[float, float, float], ...]
    offset: float


def augment(
    parts: dict[str, bytes],
    columns: dict[str, Any],
    key: str,
    options: VideoAugment,
    features: Sequence[Stage] = (),
) -> dict[str, bytes]:
    """The parts with other pictures and sound; duration_s, fps, frame_times_s, width_px, height_px become the copy's.

    features: the stages, set up, that made mel.npy or mfcc.npy; without them the speed of a clip with features stays.
    Raises SampleError where a part cannot be read.
    """
    sample = Sample(key, dict(parts), columns)
    is_bound = any(part in parts for part in _FEATURES) and not features
    change = draw(key, options, keep_speed=is_bound)
    for part in sample.frame_parts:
        image_HWC = vary(_read(parts[part]), change)
        columns["height_px"], columns["width_px"] = image_HWC.shape[:2]
        sample.parts[part] = write(image_HWC, "jpg", _QUALITY)
    if "mp4" in parts:
        sample.parts["mp4"], (width_px, height_px) = _film(parts["mp4"], change)
        if not sample.frame_parts:
            columns.update(width_px=width_px, height_px=height_px)
    if change.speed != 1:
        _in_time(sample, change.speed)
        for stage in features:
            stage.process([sample])
    return {name: sample.parts[name] for name in parts}


def draw(key: str, options: VideoAugment, *, keep_speed: bool = False) -> Change:
    """What a key draws. Every number is drawn whatever the options, so that one of them does not change another."""
    rng = rng_of(key, "video")
    speed, cut, left, top, flip, *colours = (float(number) for number in rng.random(8))
    brightness, contrast, saturation = (1 + options.colour * (2 * number - 1) for number in colours)
    matrix = tuple(
        tuple(
            contrast * brightness * (saturation * (row == column) + (1 - saturation) * _LUMA[column])
            for column in range(3)
        )
        for row in range(3)
    )
    return Change(
        speed=1.0 if keep_speed else options.min_speed * (options.max_speed / options.min_speed) ** speed,
        kept=1 - options.crop * cut,
        left=left,
        top=top,
        is_flipped=flip < options.flip,
        matrix=matrix,  # type: ignore[arg-type]
        offset=_GREY * (1 - contrast),
    )


def vary(image_HWC: NDArray[np.uint8], change: Change) -> NDArray[np.uint8]:
    """The crop, mirror and colours of a change, on uint8 RGB."""
    left, top, width, height = _box(image_HWC.shape[1], image_HWC.shape[0], change, 1)
    image_HWC = image_HWC[top : top + height, left : left + width]
    if change.is_flipped:
        image_HWC = image_HWC[:, ::-1]
    pixels_HWC = image_HWC.astype(np.float32) @ np.array(change.matrix, np.float32).T + np.float32(change.offset)
    return np.ascontiguousarray(np.clip(np.rint(pixels_HWC), 0, 255).astype(np.uint8))


def _box(width: int, height: int, change: Change, multiple: int) -> tuple[int, int, int, int]:
    """(left, top, width, height) of what a change keeps; all of them multiples of `multiple`."""
    kept = [max(multiple, int(side * change.kept) // multiple * multiple) for side in (width, height)]
    free = width - kept[0], height - kept[1]
    left, top = (
        int(room * share) // multiple * multiple for room, share in zip(free, (change.left, change.top), strict=True)
    )
    return left, top, kept[0], kept[1]


def _film(mp4: bytes, change: Change) -> tuple[bytes, tuple[int, int]]:
    """(bytes, size) of the MP4 as encode_clip writes it, changed."""
    import av

    with av.open(io.BytesIO(mp4), format="mov") as container:
        stream = container.streams.video[0]
        left, top, width, height = _box(stream.width, stream.height, change, 2)
        gop = max(1, round(2 * float(stream.average_rate or 25)))
    with memory_file(mp4) as path:
        video = ffmpeg.source(path, "mov").video
        video = video.filter("crop", w=width, h=height, x=left, y=top).filter("setpts", f"PTS/{change.speed:.9f}")
        if change.is_flipped:
            video = video.filter("hflip")
        video = _coloured(video, change)
        return write_mp4(video, crf=_CRF, preset="veryfast", key_every=gop), (width, height)


def _coloured(video: ffmpeg.Graph, change: Change) -> ffmpeg.Graph:
    """The same colours as `vary` gives, as filters on planar RGB.

    Filters clip to 0 to 255 in between. So a negative offset comes before the matrix (whose rows have the same sum, so
    it can be divided by it), where it clips what ends at 0 anyway, and a positive one behind it.
    """
    weights = {
        f"{out}{into}": f"{change.matrix[row][column]:.9f}"
        for row, out in enumerate("rgb")
        for column, into in enumerate("rgb")
    }
    before = min(change.offset, 0.0) / sum(change.matrix[0])
    video = video.filter("scale", in_color_matrix="bt709").filter("format", "gbrp")
    video = _raised(video, before).filter("colorchannelmixer", **weights)
    return _raised(video, max(change.offset, 0.0)).filter("scale", out_color_matrix="bt709", out_range="tv")


def _raised(video: ffmpeg.Graph, offset: float) -> ffmpeg.Graph:
    value = f"clip(val{offset:+.6f},0,255)"
    return video.filter("lutrgb", r=value, g=value, b=value)


def _in_time(sample: Sample, speed: float) -> None:
    columns = sample.columns
    if columns.get("duration_s"):
        columns["duration_s"] /= speed
    if columns.get("fps"):
        columns["fps"] *= speed
    if columns.get("frame_times_s"):
        columns["frame_times_s"] = [time_s / speed for time_s in columns["frame_times_s"]]
    for part in SOUND_PARTS:
        if part in sample.parts:
            sample.parts[part] = _sound(sample.parts[part], part, speed)
            for feature in _FEATURES:
                sample.parts.pop(feature, None)


def _sound(data: bytes, part: str, speed: float) -> bytes:
    """The sound at another speed with its pitch kept, as long as the pictures: round(samples / speed)."""
    import soundfile

    count = round(soundfile.info(io.BytesIO(data)).frames / speed)
    with memory_file(data) as path:
        wave = ffmpeg.source(path, part).filter("atempo", f"{speed:.9f}").filter("aformat", sample_fmts="s16")
        return write_sound(wave, count, part)


def _read(jpeg: bytes) -> NDArray[np.uint8]:
    import simplejpeg

    try:
        return np.asarray(simplejpeg.decode_jpeg(jpeg, colorspace="RGB"), dtype=np.uint8)
    except ValueError as error:
        raise SampleError(Reason.CORRUPT, f"a frame: {error}") from None
