"""Statistics of frames: each is 0 or 1 where it must be, and right in between."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mmdata.errors import Reason
from mmdata.media.write import write
from mmdata.sample import Sample
from mmdata.video.frame_stats import FrameStats

RNG = np.random.default_rng(8)
SHARP = cv2.resize(RNG.integers(0, 255, (32, 48, 3), np.uint8), (384, 256), interpolation=cv2.INTER_NEAREST)


def _stats(frames, **options):
    parts = {f"{index:03d}.jpg": write(frame, "jpg", 95) for index, frame in enumerate(frames)}
    stage = FrameStats(**options)
    stage.setup()
    (sample,) = stage.process([Sample("films-000000000042", parts, {"modality": "video_text"})])
    assert sample.is_ok
    assert set(FrameStats.writes) <= sample.columns.keys()
    assert all(0 <= sample.columns[name] <= 1 for name in FrameStats.writes)
    return sample.columns


def test_a_still_picture_is_static_and_does_not_move():
    found = _stats([SHARP] * 4)
    assert (found["motion"], found["static_share"], found["blur_share"], found["black_share"]) == (0, 1, 0, 0)
    assert _stats([SHARP])["static_share"] == 1


def test_motion_is_the_mean_difference():
    flat = [np.full((256, 256, 3), value, np.uint8) for value in (100, 151, 100, 100)]
    found = _stats(flat)
    assert found["motion"] == pytest.approx((0.2 + 0.2 + 0) / 3, abs=0.005)
    assert found["static_share"] == pytest.approx(1 / 3)
    assert _stats(flat, static_below=0.3)["static_share"] == 1


def test_black_frames_are_counted_and_are_not_called_blurred():
    black = np.full_like(SHARP, 4)
    found = _stats([black, SHARP, SHARP, black])
    assert found["black_share"] == 0.5
    assert found["blur_share"] == 0
    assert found["letterbox_share"] == 0
    assert _stats([black, black])["letterbox_share"] == 0
    almost = black.copy()
    almost[:4] = 200  # 1.6% of the area
    assert _stats([almost, almost])["black_share"] == 1
    almost[:8] = 200
    assert _stats([almost, almost])["black_share"] == 0


def test_blurred_frames_are_counted():
    blurred = cv2.GaussianBlur(SHARP, (0, 0), 12)
    assert _stats([SHARP, blurred, blurred, SHARP])["blur_share"] == 0.5
    assert _stats([SHARP, blurred], blur_below=0)["blur_share"] == 0


@pytest.mark.parametrize(("top", "left", "wanted"), [(32, 0, 0.25), (0, 48, 0.25), (32, 48, 0.4375), (0, 0, 0.0)])
def test_bars_are_the_share_of_the_area_that_stays_dark(top, left, wanted):
    def framed(shift):
        frame = np.roll(SHARP, shift, axis=1).copy()
        if top:
            frame[:top], frame[-top:] = 0, 0
        if left:
            frame[:, :left], frame[:, -left:] = 0, 0
        return frame

    assert _stats([framed(0), framed(20)])["letterbox_share"] == pytest.approx(wanted, abs=0.02)


def test_a_bar_in_one_frame_only_is_none():
    night = SHARP.copy()
    night[:64] = 0
    assert _stats([night, SHARP])["letterbox_share"] == 0


def test_the_size_of_the_frames_hardly_matters():
    # smooth enough to be resized, different enough to move
    frames = [cv2.GaussianBlur(np.roll(SHARP, 40 * index, 1), (0, 0), 4) for index in range(3)]
    large = [cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for frame in frames]
    small_stats, large_stats = _stats(frames), _stats(large)
    for name in FrameStats.writes:
        assert large_stats[name] == pytest.approx(small_stats[name], abs=0.01), name


def test_frames_that_are_no_jpeg_are_corrupt():
    sample = Sample("films-000000000042", {"000.jpg": b"\xff\xd8\xffnothing"}, {})
    FrameStats().process([sample])
    assert sample.reason is Reason.CORRUPT
