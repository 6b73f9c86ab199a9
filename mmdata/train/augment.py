"""Augmentation of decoded media, drawn from the sample's hash: the same for any number of workers, after any resume.

All shares and strengths are 0 by default: a flip turns left into right under a caption that says which.
Shape suffixes: H height, W width, C channels, T audio samples, M mel bands, N mel frames, F frames.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any

import annotated_types as at
import numpy as np

from mmdata.options import semantic

Share = Annotated[float, at.Ge(0), at.Le(1)]
_MAX_STRETCH = 0.3


@dataclass(frozen=True, kw_only=True)
class AugmentOptions:
    """How strongly training samples are varied; 0 leaves them as they are."""

    crop: Share = semantic(0.0)  # at most this share of each side is cut off
    flip: Share = semantic(0.0)  # probability of a mirrored picture
    rotate_deg: Annotated[float, at.Ge(0), at.Le(180)] = semantic(0.0)
    colour: Share = semantic(0.0)  # brightness, contrast and saturation change by at most this share
    frame_drop: Share = semantic(0.0)  # probability that a frame of a video is left out; one always stays
    noise_db: Annotated[float, at.Ge(0)] = semantic(0.0)  # white noise this far below the sound; 0: none
    stretch: Annotated[float, at.Ge(0), at.Le(_MAX_STRETCH)] = semantic(0.0)  # faster or slower by at most this share
    spec_masks: Annotated[int, at.Ge(0)] = semantic(0)  # SpecAugment: so many masks in time and in frequency
    spec_mask_frames: Annotated[int, at.Ge(1)] = semantic(40)
    spec_mask_bands: Annotated[int, at.Ge(1)] = semantic(10)


def rng_of(*parts: Any) -> np.random.Generator:
    """A random generator that depends on nothing but `parts` (seed, epoch, key, ...)."""
    digest = hashlib.sha256("\n".join(str(part) for part in parts).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def picture(options: AugmentOptions, image_HWC: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A varied copy of a uint8 RGB picture of the same kind; its size shrinks where it is cropped.

    The draws do not depend on the size, so frames of a video given equal generators are varied alike.
    """
    import cv2

    cut, place_y, place_x, flip, angle, *colour = rng.random(8)
    if options.crop:
        height_px, width_px = image_HWC.shape[:2]
        keep = 1 - options.crop * cut
        new_h, new_w = max(1, round(height_px * keep)), max(1, round(width_px * keep))
        top, left = int((height_px - new_h) * place_y), int((width_px - new_w) * place_x)
        image_HWC = image_HWC[top : top + new_h, left : left + new_w]
    if flip < options.flip:
        image_HWC = image_HWC[:, ::-1]
    if options.rotate_deg:
        height_px, width_px = image_HWC.shape[:2]
        turn = cv2.getRotationMatrix2D((width_px / 2, height_px / 2), (2 * angle - 1) * options.rotate_deg, 1.0)
        image_HWC = cv2.warpAffine(
            np.ascontiguousarray(image_HWC), turn, (width_px, height_px), borderMode=cv2.BORDER_REFLECT_101
        )
    if options.colour:
        brightness, contrast, saturation = 1 + options.colour * (2 * np.array(colour, np.float32) - 1)
        pixels = image_HWC.astype(np.float32) * brightness
        pixels = (pixels - pixels.mean()) * contrast + pixels.mean()
        grey = pixels.mean(axis=-1, keepdims=True)
        image_HWC = np.clip((pixels - grey) * saturation + grey, 0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(image_HWC)


def kept_frames(options: AugmentOptions, num_frames: int, rng: np.random.Generator) -> list[int]:
    """Which frames of a video stay, in order; at least one."""
    draws = rng.random(num_frames)
    kept = [index for index in range(num_frames) if draws[index] >= options.frame_drop]
    return kept or [int(np.argmax(draws))]


def sound(options: AugmentOptions, wave_T: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A varied copy of a float32 wave; its length changes by at most `stretch` (phase vocoder)."""
    speed = 1 + options.stretch * (2 * rng.random() - 1)
    if options.stretch and len(wave_T):
        import librosa

        wave_T = librosa.effects.time_stretch(wave_T, rate=speed)
    if options.noise_db and len(wave_T):
        loudness = float(np.sqrt(np.mean(np.square(wave_T, dtype=np.float64))))
        noise_T = rng.standard_normal(len(wave_T), dtype=np.float32)
        wave_T = wave_T + noise_T * np.float32(loudness * 10 ** (-options.noise_db / 20))
    return np.ascontiguousarray(wave_T, dtype=np.float32)


def longest_s(options: AugmentOptions, duration_s: float) -> float:
    """How long a sound of this length may become, for the plan's estimate."""
    return duration_s / (1 - options.stretch)


def spectrogram(options: AugmentOptions, mel_MN: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """SpecAugment (Park et al. 2019) without time warping: bands and spans of frames set to the mean."""
    mel_MN = mel_MN.copy()
    bands, frames = mel_MN.shape
    fill = mel_MN.mean() if mel_MN.size else 0.0
    for _ in range(options.spec_masks):
        for axis, length, limit in ((0, bands, options.spec_mask_bands), (1, frames, options.spec_mask_frames)):
            width = int(rng.integers(0, min(limit, length) + 1))
            start = int(rng.integers(0, length - width + 1))
            mel_MN[(slice(start, start + width),) if axis == 0 else (slice(None), slice(start, start + width))] = fill
    return mel_MN
