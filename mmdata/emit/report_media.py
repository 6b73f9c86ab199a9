"""What the report shows of one sample: a thumbnail, a strip of frames, a wave form above its Mel picture, its sound.

Shapes: H height, W width, C channels (blue, green, red), T audio samples, M Mel bands, N Mel frames.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdata.sample import IMAGE_PARTS, PART_GROUPS, SOUND_PARTS

THUMBNAIL_PX = 160
JPEG_QUALITY = 78
STRIP_FRAMES = 5
WAVE_PX, MEL_PX, SOUND_WIDTH_PX = 56, 80, 320
SOUND_BYTES = 400_000  # a longer one is drawn, but cannot be played
MIME = {"flac": "audio/flac", "wav": "audio/wav"}
_TOO_MANY_PIXELS = 100_000_000
_PAPER, _INK = (40, 28, 24), (196, 200, 96)  # dark as the Mel picture below it is; blue, green, red


@dataclass(frozen=True)
class Tile:
    """A JPEG with its width and height, and the sound that belongs to it with its type, where there is one."""

    jpeg: bytes
    width_px: int
    height_px: int
    sound: bytes = b""
    mime: str = ""


NOTHING = Tile(b"", 0, 0)


def is_shown(part: str) -> bool:
    """True for the parts that a tile is made from."""
    return (
        part in IMAGE_PARTS or part in SOUND_PARTS or part == "mel.npy" or bool(PART_GROUPS["frames"].fullmatch(part))
    )


def tile_of(parts: Mapping[str, bytes]) -> Tile:
    """The tile of a sample; NOTHING where none of its parts can be shown."""
    image = next((parts[part] for part in IMAGE_PARTS if part in parts), None)
    if image is not None:
        return thumbnail(image)
    frames = [parts[part] for part in sorted(parts) if PART_GROUPS["frames"].fullmatch(part)]
    sound_part = next((part for part in SOUND_PARTS if part in parts), "")
    sound = parts.get(sound_part, b"")
    drawn = [strip(frames)] if frames else []
    if sound:
        drawn.append(_sound_picture(sound, parts.get("mel.npy")))
    picture_HWC = _stacked([each_HWC for each_HWC in drawn if each_HWC is not None])
    if picture_HWC is None:
        return NOTHING
    tile = _encoded(picture_HWC)
    if sound and len(sound) <= SOUND_BYTES:
        return Tile(tile.jpeg, tile.width_px, tile.height_px, sound, MIME[sound_part])
    return tile


def thumbnail(data: bytes) -> Tile:
    """A small JPEG of a picture, or NOTHING where it cannot be read."""
    image_HWC = _read(data)
    return NOTHING if image_HWC is None else _encoded(_fitted(image_HWC, THUMBNAIL_PX, THUMBNAIL_PX))


def strip(frames: list[bytes]) -> NDArray[np.uint8] | None:
    """At most STRIP_FRAMES frames, spread evenly, side by side, HWC; None where none can be read."""
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), STRIP_FRAMES)).round().astype(int)
    pictures = [_read(frames[index]) for index in chosen]
    small = [_fitted(image_HWC, THUMBNAIL_PX, THUMBNAIL_PX * 2 // 3) for image_HWC in pictures if image_HWC is not None]
    if not small:
        return None
    height = max(image_HWC.shape[0] for image_HWC in small)
    padded = [_filled(image_HWC, height, image_HWC.shape[1]) for image_HWC in small]
    return np.ascontiguousarray(np.concatenate(padded, axis=1))


def _sound_picture(data: bytes, mel: bytes | None) -> NDArray[np.uint8] | None:
    import soundfile

    try:
        wave_T, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (RuntimeError, ValueError):
        return None
    drawn = [_wave_picture(wave_T[:, 0])]
    mel_MN = _mel(mel) if mel is not None else None
    if mel_MN is not None:
        drawn.append(_mel_picture(mel_MN))
    return _stacked(drawn)


def _wave_picture(wave_T: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The lowest and highest value of every column's stretch of the wave, [-1, 1] from bottom to top."""
    picture_HWC = np.full((WAVE_PX, SOUND_WIDTH_PX, 3), _PAPER, np.uint8)
    edges = np.linspace(0, len(wave_T), SOUND_WIDTH_PX + 1).astype(int)
    middle = WAVE_PX // 2
    for column in range(SOUND_WIDTH_PX if len(wave_T) else 0):
        stretch = wave_T[edges[column] : max(edges[column + 1], edges[column] + 1)]
        if len(stretch):
            top, bottom = (
                int(middle - np.clip(value, -1, 1) * (middle - 1)) for value in (stretch.max(), stretch.min())
            )
            picture_HWC[top : bottom + 1, column] = _INK
    return picture_HWC


def _mel(data: bytes) -> NDArray[np.float32] | None:
    try:
        mel_MN = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return None
    return mel_MN.astype(np.float32) if mel_MN.ndim == 2 and mel_MN.size else None


def _mel_picture(mel_MN: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Low bands at the bottom, loud ones light, scaled to the range of this sample."""
    finite = np.nan_to_num(mel_MN)
    low, high = float(finite.min()), float(finite.max())
    grey_MN = ((finite - low) / max(high - low, 1e-6) * 255).astype(np.uint8)
    small = cv2.resize(grey_MN[::-1], (SOUND_WIDTH_PX, MEL_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.applyColorMap(small, cv2.COLORMAP_MAGMA), np.uint8)


def _stacked(pictures: list[Any]) -> NDArray[np.uint8] | None:
    """Pictures one above the other, as wide as the widest, HWC; None for none."""
    pictures = [picture_HWC for picture_HWC in pictures if picture_HWC is not None]
    if not pictures:
        return None
    width = max(picture_HWC.shape[1] for picture_HWC in pictures)
    # Time runs from left to right in all of them, so it does at the same speed.
    fitted = [cv2.resize(picture_HWC, (width, picture_HWC.shape[0])) for picture_HWC in pictures]
    return np.concatenate(fitted, axis=0, dtype=np.uint8)


def _filled(image_HWC: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    filled_HWC = np.full((height, width, 3), _PAPER, np.uint8)
    filled_HWC[: image_HWC.shape[0], : image_HWC.shape[1]] = image_HWC
    return filled_HWC


def _read(data: bytes) -> NDArray[np.uint8] | None:
    try:
        image_HWC = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image_HWC is None or image_HWC.size > _TOO_MANY_PIXELS * 3 else np.asarray(image_HWC, np.uint8)


def _fitted(image_HWC: NDArray[np.uint8], width_px: int, height_px: int) -> NDArray[np.uint8]:
    height, width = image_HWC.shape[:2]
    scale = min(1.0, width_px / width, height_px / height)
    if scale == 1:
        return image_HWC
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA), np.uint8)


def _encoded(image_HWC: NDArray[np.uint8]) -> Tile:
    done, encoded = cv2.imencode(".jpg", image_HWC, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return Tile(encoded.tobytes(), image_HWC.shape[1], image_HWC.shape[0]) if done else NOTHING
