"""Films made for tests: every frame carries its number as black and white bars, so that each can be known again."""

from __future__ import annotations

import html
import io
import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from mmdata.sample import Sample
from mmdata.video.subtitles import Cue
from tests.media.ffmpeg_made import make

BITS = 10
WIDTH, HEIGHT = 16 * BITS, 96
RATE_HZ = 48_000


def barred(number: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """uint8 RGB (height, width, 3): the bits of a number from left to right, and a white bar at the bottom."""
    bits = [(number >> bit & 1) * 255 for bit in reversed(range(BITS))]
    row = np.repeat(np.array(bits, np.uint8), width // BITS)
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : row.size] = row[None, :, None]
    image[-height // 8 :] = 255
    return image


def number_of(image: NDArray[np.uint8]) -> int:
    """The number that a frame carries, at whatever size."""
    height, width, _ = image.shape
    grey = image[height // 3].mean(axis=1)
    centres = [round((bit + 0.5) * width / BITS) for bit in range(BITS)]
    assert image[-2].mean() > 200, "not upright"
    return sum(int(grey[centre] > 127) << BITS - 1 - bit for bit, centre in enumerate(centres))


def numbers_of(sample: Sample) -> list[int]:
    """The numbers of the sampled frames, in order."""
    return [number_of(rgb(sample.parts[part])) for part in sample.frame_parts]


def numbers_of_parts(parts: dict[str, bytes]) -> list[int]:
    return numbers_of(Sample("films-000000000042", parts))


def rgb(jpeg: bytes) -> NDArray[np.uint8]:
    return np.asarray(simplejpeg.decode_jpeg(jpeg, colorspace="RGB"))


def encode(
    container: str = "mp4",
    codec: str = "libx264",
    *,
    frames: int = 40,
    fps: int = 20,
    times: Sequence[Fraction] | None = None,
    options: dict[str, str] | None = None,
    images: Sequence[NDArray[np.uint8]] | None = None,
    **stream_options: Any,
) -> bytes:
    """Bytes of a film of numbered frames. times: when each is shown, in seconds; else evenly spaced by fps."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=fps, options={"threads": "1", **(options or {})})
        stream.width, stream.height = (images[0].shape[1], images[0].shape[0]) if images else (WIDTH, HEIGHT)
        stream.pix_fmt = stream_options.pop("pix_fmt", "yuv420p")
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in stream_options.items():
            setattr(stream, name, value)
        for number in range(len(images) if images else frames):
            frame = av.VideoFrame.from_ndarray(images[number] if images else barred(number), format="rgb24")
            frame.pts = number if times is None else round(times[number] * 1000)
            frame.time_base = Fraction(1, fps) if times is None else Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def wav(samples: NDArray[np.float64]) -> bytes:
    """Mono 16-bit sound at RATE_HZ."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE_HZ)
        writer.writeframes(np.clip(samples * 32767, -32768, 32767).astype("<i2").tobytes())
    return file.getvalue()


def with_sound(
    folder: Path, film: bytes, sound: bytes, name: str, *arguments: str, before_sound: Sequence[str] = ()
) -> bytes:
    """The film and the sound in one file. before_sound: FFmpeg's options of the sound as an input."""
    (folder / "film").write_bytes(film)
    (folder / "sound.wav").write_bytes(sound)
    inputs = ["-i", str(folder / "film"), *before_sound, "-i", str(folder / "sound.wav")]
    return make(folder / name, *inputs, "-map", "0:v", "-map", "1:a", *arguments)


def to_srt(cues: Sequence[Cue]) -> str:
    """The cues as SRT, to the millisecond."""
    blocks = (
        f"{number}\n{_stamp(cue.start_s)} --> {_stamp(cue.end_s)}\n{html.escape(cue.text, quote=False)}\n"
        for number, cue in enumerate(cues, 1)
    )
    return "\n".join(blocks)


def _stamp(seconds: float) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d},{ms % 1000:03d}"


def sample_of(data: bytes, own: dict[str, Any] | None = None, **columns: Any) -> Sample:
    return Sample("films-000000000042", {"raw": data}, {"modality": "video_text", "own": own or {}, **columns})
