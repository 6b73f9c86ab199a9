"""Media of a sample to what an encoder takes: pictures, frames of videos, windows of sound, each with its token count.

Shape suffixes: H height, W width, C channels, T audio samples, M mel bands, N mel frames. An item is what an encoder
takes at once: a picture, a frame, a window of sound.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mmdata.errors import Reason, SampleError
from mmdata.sample import IMAGE_PARTS, SOUND_PARTS
from mmdata.train import augment
from mmdata.train.pictures import decode_HWC, fit_HWC
from mmdata.train.sections import Kind

SAMPLE_RATE_HZ = 16_000
MEL_HOP = 160  # audio samples a mel frame
VIDEO_PARTS = ("mp4",)
MEL_PART = "mel.npy"


@dataclass
class Medium:
    """One medium as stored: extension and bytes, several for the frames of a video or where features stand beside."""

    kind: Kind
    parts: list[tuple[str, bytes]]
    times_s: Sequence[float] = ()  # of a video's frames


@dataclass
class Item:
    """array: uint8 [H, W, 3], float32 [T] or float32 [M, N]. time_s: where in its medium it begins.

    features: that the encoder makes of it. tokens: that the LLM reads.
    """

    array: np.ndarray
    features: int
    tokens: int
    time_s: float = 0.0


@dataclass(frozen=True)
class MediaSpec:
    """What an encoder and its projector ask for, known without their weights.

    takes: pixels, mel (Whisper's log-mel of one window) or wave. features: of one picture, or of a whole mel window.
    convs: (kernel, stride, padding) from audio samples or mel frames to features. merge: features that become a token.
    queries: tokens of an item whatever its features, 0 where they follow these.
    """

    kind: Kind
    takes: str
    features: int
    width: int
    grid: bool  # features are a square of patches
    side_px: int = 0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    fit: str = "pad"
    frames: int = 1
    window_samples: int = 0
    mel_bands: int = 0
    convs: tuple[tuple[int, int, int], ...] = ()
    pooled: bool = False
    normalise: bool = False  # a wave to mean 0 and variance 1
    stored: bool = False  # Whisper's features as they stand in the dataset
    merge: int = 1
    queries: int = 0

    def tokens(self, features: int) -> int:
        """Tokens of an item that has so many features."""
        if self.queries:
            return self.queries
        if self.grid and self.merge > 1:
            side, step = round(features**0.5), round(self.merge**0.5)
            return int((-(-side // step)) ** 2)
        return -(-features // self.merge)

    def sound_features(self, num_samples: int) -> int:
        """Features of a window of so many audio samples."""
        length = -(-num_samples // MEL_HOP) if self.takes == "mel" else num_samples
        for kernel, stride, padding in self.convs:
            length = (length + 2 * padding - kernel) // stride + 1
        return 1 if self.pooled else max(1, length)

    def sound_tokens(self, num_samples: int) -> int:
        """Tokens of a sound of so many audio samples, over all its windows."""
        whole, rest = divmod(max(1, num_samples), self.window_samples)
        tail = self.tokens(self.sound_features(rest)) if rest else 0
        return whole * self.tokens(self.sound_features(self.window_samples)) + tail


def items_of(
    medium: Medium,
    spec: MediaSpec,
    options: augment.AugmentOptions | None,
    rng: np.random.Generator | None = None,
    room: Iterator[np.ndarray] | None = None,
) -> list[Item]:
    """What the encoder takes for one medium, varied by `options` as `rng` draws where both are given.

    room: arrays uint8 [side_px, side_px, 3] to put pictures and frames into, one after the other, so that those of a
    pack lie together without being copied again. Raises SampleError(decode.corrupt) where it cannot be decoded.
    """
    room = iter(()) if room is None else room
    try:
        if medium.kind == "audio":
            return _windows(medium, spec, options, rng)
        first = next(room, None)
        if medium.kind == "video":
            frames, times_s = _frames(medium, spec)
            if options is not None and rng is not None:
                kept = augment.kept_frames(options, len(frames), rng)
                frames, times_s = [frames[index] for index in kept], [times_s[index] for index in kept]
        else:
            frames, times_s = [decode_HWC(*medium.parts[0], spec.side_px, first)], [0.0]
        if options is not None and rng is not None:
            seed = int(rng.integers(1 << 62))
            frames = [augment.picture(options, frame, np.random.default_rng(seed)) for frame in frames]
        fill = [round(255 * value) for value in spec.mean]
        tokens = spec.tokens(spec.features)
        fitted = (fit_HWC(frame, spec.side_px, spec.fit, fill) for frame in frames)
        rooms = itertools.chain([first], room)
        placed = [_placed(image_HWC, next(rooms, None)) for image_HWC in fitted]
        return [Item(array, spec.features, tokens, time_s) for array, time_s in zip(placed, times_s, strict=True)]
    except (ValueError, cv2.error, EOFError, RuntimeError, OSError) as error:  # soundfile says RuntimeError, av OSError
        raise SampleError(Reason.CORRUPT, f"{medium.kind}: {error}") from error


def _placed(image_HWC: np.ndarray, out_HWC: np.ndarray | None) -> np.ndarray:
    if out_HWC is None or image_HWC is out_HWC:
        return image_HWC
    out_HWC[...] = image_HWC
    return out_HWC


def spread(available: int, wanted: int) -> list[int]:
    """At most `wanted` of `available` positions, spread evenly, each once."""
    if available <= wanted:
        return list(range(available))
    return [int((index + 0.5) * available / wanted) for index in range(wanted)]


def _frames(medium: Medium, spec: MediaSpec) -> tuple[list[np.ndarray], list[float]]:
    """At most spec.frames frames of a video with their times: of its stored frames, else of the video file."""
    stored = [(part, data) for part, data in medium.parts if part in IMAGE_PARTS]
    if stored:
        chosen = spread(len(stored), spec.frames)
        times_s = list(medium.times_s) if len(medium.times_s) == len(stored) else [float(i) for i in range(len(stored))]
        return [decode_HWC(*stored[i], spec.side_px) for i in chosen], [times_s[i] for i in chosen]
    import av

    container: Any
    with av.open(io.BytesIO(medium.parts[0][1]), "r") as container:
        stream = container.streams.video[0]
        # Packets are counted first, without decoding, as many containers do not say how many frames they hold.
        num_frames = sum(1 for packet in container.demux(stream) if packet.size)
        container.seek(0)
        wanted = set(spread(num_frames, spec.frames))
        frames, times_s = [], []
        for index, frame in enumerate(container.decode(stream)):
            if index in wanted:
                frames.append(frame.to_ndarray(format="rgb24"))
                times_s.append(float(frame.time or 0.0))
    if not frames:
        raise ValueError("no frame could be decoded")
    return frames, times_s


def _windows(
    medium: Medium, spec: MediaSpec, options: augment.AugmentOptions | None, rng: np.random.Generator | None
) -> list[Item]:
    parts = dict(medium.parts)
    if spec.stored:
        mels = _stored_windows(parts, spec)
    else:
        part = next((name for name in SOUND_PARTS if name in parts), None)
        if part is None:
            raise ValueError("has no sound, only features; where they are Whisper's set stored_mel")
        wave_T = decode_T(parts[part])
        if options is not None and rng is not None:
            wave_T = augment.sound(options, wave_T, rng)
        size = spec.window_samples
        windows = [wave_T[start : start + size] for start in range(0, max(1, len(wave_T)), size)]
        mels = [
            (whisper_mel_MN(window_T, spec) if spec.takes == "mel" else window_T, len(window_T)) for window_T in windows
        ]
    items = []
    for number, (array, num_samples) in enumerate(mels):
        if options is not None and rng is not None and spec.takes == "mel":
            array = augment.spectrogram(options, array, rng)
        if spec.normalise:
            array = (array - array.mean()) / np.sqrt(array.var() + 1e-7)
        features = spec.sound_features(num_samples)
        time_s = number * spec.window_samples / SAMPLE_RATE_HZ
        items.append(Item(np.ascontiguousarray(array, np.float32), features, spec.tokens(features), time_s))
    return items


def _stored_windows(parts: dict[str, bytes], spec: MediaSpec) -> list[tuple[np.ndarray, int]]:
    """Windows of stored Whisper features, filled up with what silence is in them, and their length in audio samples."""
    if MEL_PART not in parts:
        raise ValueError(f"has no {MEL_PART}")
    mel_MN = np.load(io.BytesIO(parts[MEL_PART]), allow_pickle=False).astype(np.float32)
    if mel_MN.ndim != 2 or mel_MN.shape[0] != spec.mel_bands:
        raise ValueError(f"{MEL_PART} has shape {mel_MN.shape}, this encoder takes {spec.mel_bands} bands")
    size = spec.window_samples // MEL_HOP
    windows = [mel_MN[:, start : start + size] for start in range(0, max(1, mel_MN.shape[1]), size)]
    # Whisper keeps eight powers of ten below the loudest and divides by four.
    silence = float(mel_MN.max(initial=0.0)) - 2.0
    return [
        (np.pad(window, ((0, 0), (0, size - window.shape[1])), constant_values=silence), window.shape[1] * MEL_HOP)
        for window in windows
    ]


def decode_T(data: bytes) -> np.ndarray:
    """A sound as mono float32 at 16 kHz. Raises RuntimeError or ValueError where it cannot be decoded."""
    import soundfile
    import soxr

    wave_TC, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    if not len(wave_TC):
        raise ValueError("the sound is empty")
    wave_T: np.ndarray = wave_TC.mean(axis=1)
    if rate_hz != SAMPLE_RATE_HZ:
        wave_T = soxr.resample(wave_T, rate_hz, SAMPLE_RATE_HZ).astype(np.float32)
    return wave_T


_extractors: dict[tuple[int, int], Any] = {}


def whisper_mel_MN(wave_T: np.ndarray, spec: MediaSpec) -> np.ndarray:
    """Whisper's log-mel of one window, padded with silence to the window: float32 [M, window_samples / 160]."""
    from transformers import WhisperFeatureExtractor

    extractor: Any = WhisperFeatureExtractor
    place = (spec.mel_bands, spec.window_samples)
    if place not in _extractors:
        _extractors[place] = extractor(feature_size=spec.mel_bands, chunk_length=spec.window_samples // SAMPLE_RATE_HZ)
    found = _extractors[place](wave_T, sampling_rate=SAMPLE_RATE_HZ, return_tensors="np")
    mel_MN: np.ndarray = found.input_features[0]
    return mel_MN
