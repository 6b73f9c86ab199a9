"""Pictures as an MP4: H.264, yuv420p, BT.709, index in front, no metadata; the same pictures give the same bytes."""

from __future__ import annotations

from typing import Any, Literal

from mmdata.media import ffmpeg

Preset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"]
_TIMEOUT_S = 600.0  # the limit on a sample is the runner's; this one only ends what is left behind


def write_mp4(video: ffmpeg.Graph, *, crf: int, preset: Preset, key_every: int, **options: Any) -> bytes:
    """A stream of BT.709 pictures with even sides as an MP4.

    key_every: frames from one key frame to the next. options: as of ffmpeg.run, which raises SampleError.
    """
    encoder: dict[str, Any] = {
        "vcodec": "libx264",
        "preset": preset,
        "crf": crf,
        "g": key_every,
        "pix_fmt": "yuv420p",
        "colorspace": "bt709",
        "color_range": "tv",
        "bsf:v": "filter_units=remove_types=6",  # x264 writes its version and options into a message of its own
        "movflags": "+faststart",
        "fps_mode": "passthrough",  # all frames at their own times, to the tick: by default both go to a regular grid
        "enc_time_base": "filter",
    }
    return ffmpeg.run(video, "mp4", timeout_s=_TIMEOUT_S, **encoder, **options)
