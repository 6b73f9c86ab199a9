"""Tiles of the report: pictures, strips of frames, wave forms, Mel pictures, sound that can be played."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import soundfile

from mmdata.emit.report_media import (
    MEL_PX,
    NOTHING,
    SOUND_BYTES,
    SOUND_WIDTH_PX,
    WAVE_PX,
    Tile,
    is_shown,
    thumbnail,
    tile_of,
)


def jpeg(width: int, height: int, colour: tuple[int, int, int] = (0, 0, 255)) -> bytes:
    return cv2.imencode(".jpg", np.full((height, width, 3), colour, np.uint8))[1].tobytes()


def flac(wave: np.ndarray, rate: int = 16_000) -> bytes:
    sink = io.BytesIO()
    soundfile.write(sink, wave, rate, format="FLAC")
    return sink.getvalue()


def npy(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def pixels(tile: Tile) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(tile.jpeg, np.uint8), cv2.IMREAD_COLOR)


def test_a_thumbnail_keeps_the_aspect() -> None:
    found = thumbnail(jpeg(400, 100))
    assert (found.width_px, found.height_px) == (160, 40)
    assert pixels(found).shape == (40, 160, 3)


@pytest.mark.parametrize("data", [b"", b"no picture"])
def test_what_is_no_picture_shows_nothing(data: bytes) -> None:
    assert tile_of({"jpg": data}) is NOTHING


def test_frames_stand_side_by_side_in_the_order_of_their_numbers() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    frames = {f"{number:03d}.jpg": jpeg(64, 36, colour) for number, colour in enumerate(colours)}
    found = tile_of({**dict(reversed(frames.items())), "txt": b"words"})
    assert (found.width_px, found.height_px) == (3 * 64, 36)
    picture = pixels(found)
    assert [int(np.argmax(picture[18, 32 + 64 * number])) for number in range(3)] == [0, 1, 2]


def test_of_many_frames_five_are_shown_the_first_and_the_last_among_them() -> None:
    frames = {f"{number:03d}.jpg": jpeg(40, 40, (0, 0, 255 if number in (0, 99) else 0)) for number in range(100)}
    picture = pixels(tile_of(frames))
    assert picture.shape[1] == 5 * 40
    assert [picture[20, 20 + 40 * number, 2] > 128 for number in range(5)] == [True, False, False, False, True]


def test_a_wave_form_shows_where_it_is_loud() -> None:
    wave = np.zeros(16_000, np.float32)
    wave[8_000:] = np.sin(np.arange(8_000) / 3)
    found = tile_of({"flac": flac(wave)})
    assert (found.width_px, found.height_px) == (SOUND_WIDTH_PX, WAVE_PX)
    inked = (pixels(found)[:, :, 1] > 120).sum(axis=0)
    assert inked[: SOUND_WIDTH_PX // 2 - 4].max() <= 3
    assert inked[SOUND_WIDTH_PX // 2 + 4 :].min() > WAVE_PX // 2


def test_a_mel_picture_stands_below_the_wave_with_its_low_bands_at_the_bottom() -> None:
    mel = np.zeros((80, 100), np.float16)
    mel[:10] = 80
    found = tile_of({"flac": flac(np.zeros(1600, np.float32)), "mel.npy": npy(mel)})
    assert found.height_px == WAVE_PX + MEL_PX
    bright = pixels(found)[WAVE_PX:].mean(axis=(1, 2))
    assert bright[-5:].min() > bright[:60].max()


def test_a_short_sound_can_be_played_and_a_long_one_is_only_drawn() -> None:
    short = flac(np.zeros(1600, np.float32))
    noise = flac(np.random.default_rng(1).uniform(-1, 1, 16_000 * 30).astype(np.float32))
    assert len(noise) > SOUND_BYTES
    played, drawn = tile_of({"flac": short}), tile_of({"flac": noise})
    assert (played.sound, played.mime) == (short, "audio/flac")
    assert (drawn.sound, drawn.mime) == (b"", "")
    assert drawn.jpeg


def test_damaged_sound_and_features_show_nothing_and_end_nothing() -> None:
    assert tile_of({"flac": b"fLaC but no more"}) is NOTHING
    found = tile_of({"flac": flac(np.zeros(1600, np.float32)), "mel.npy": b"no array"})
    assert found.height_px == WAVE_PX


def test_only_parts_that_can_be_shown_are_read() -> None:
    assert [part for part in ("jpg", "007.jpg", "flac", "wav", "mel.npy") if not is_shown(part)] == []
    assert [part for part in ("mp4", "raw", "json", "txt", "mfcc.npy", "7.jpg") if is_shown(part)] == []
