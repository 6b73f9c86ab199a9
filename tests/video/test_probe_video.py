"""A film is known before a frame is decoded: true duration, times, size as shown; and what is too much or nothing."""

from __future__ import annotations

import struct
from fractions import Fraction

import pytest

from mmdata.errors import Reason, Status
from tests.media.ffmpeg_made import make, picture, tone
from tests.video import films

CONTAINERS = {
    "mp4": ("libx264", "mov", "h264", {}),
    "mov": ("mpeg4", "mov", "mpeg4", {}),
    "matroska": ("libx265", "matroska", "hevc", {"options": {"x265-params": "log-level=none"}}),
    "webm": ("libvpx", "matroska", "vp8", {"options": {"deadline": "realtime"}}),
    "avi": ("mpeg4", "avi", "mpeg4", {}),
    "mpegts": ("libx264", "mpegts", "h264", {}),
    "mpeg": ("mpeg2video", "mpeg", "mpeg2video", {"fps": 25}),
    "flv": ("libx264", "flv", "h264", {}),
    "gif": ("gif", "gif", "gif", {"pix_fmt": "rgb8"}),
}
BIG = struct.pack("<HH", 30000, 30000)


@pytest.mark.parametrize("container", CONTAINERS)
def test_facts_are_right_in_every_container(probe, container):
    codec, demuxer, name, more = CONTAINERS[container]
    fps = more.get("fps", 20)
    columns = probe(films.encode(container, codec, frames=40, **{"fps": 20, **more})).columns
    assert columns["duration_s"] == pytest.approx(40 / fps, abs=0.02)
    assert columns["fps"] == pytest.approx(fps, rel=0.02)
    assert (columns["num_frames"], columns["is_vfr"], columns["has_sound"]) == (40, False, False)
    assert (columns["original_width_px"], columns["original_height_px"]) == (films.WIDTH, films.HEIGHT)
    assert (columns["container"], columns["video_codec"], columns["rotation_deg"]) == (demuxer, name, 0)
    if container not in ("mpeg", "flv"):  # there the header's is a guess
        assert columns["duration_corrected"] is False


@pytest.mark.parametrize(
    ("turn", "rotation", "size"), [(90, 270, (96, 160)), (-90, 90, (96, 160)), (180, 180, (160, 96))]
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_size_is_that_of_the_upright_picture(probe, tmp_path, long_gop, turn, rotation, size, suffix):
    (tmp_path / "a.mp4").write_bytes(long_gop)
    data = make(tmp_path / f"b.{suffix}", "-display_rotation", str(turn), "-i", str(tmp_path / "a.mp4"), "-c", "copy")
    columns = probe(data).columns
    assert columns["rotation_deg"] == rotation
    assert (columns["original_width_px"], columns["original_height_px"]) == size


def test_size_is_that_of_square_pixels(probe, tmp_path):
    data = make(tmp_path / "a.mp4", *picture(0.2, "144x96"), "-vf", "setsar=4/3", "-pix_fmt", "yuv420p")
    columns = probe(data).columns
    assert (columns["original_width_px"], columns["original_height_px"]) == (192, 96)


def test_uneven_frames_are_said_and_their_times_count(probe):
    times = [Fraction(number, 10) if number < 10 else Fraction(10 + (number - 10) * 4, 10) for number in range(20)]
    columns = probe(films.encode("matroska", times=times, frames=20, options={"bf": "2"})).columns
    assert columns["is_vfr"] is True
    assert columns["num_frames"] == 20
    assert columns["duration_s"] == pytest.approx(float(times[-1]), abs=0.41)
    assert columns["fps"] == pytest.approx(20 / columns["duration_s"])


def test_a_header_that_lies_about_its_duration_is_corrected(probe, long_gop):
    assert probe(long_gop).columns["duration_corrected"] is False
    matroska = films.encode("matroska")
    place = matroska.index(b"\x44\x89\x88") + 3
    for data, says_s in (
        (_with_duration(long_gop, 1), 1.0),
        (_with_duration(long_gop, 0), 0.0),
        (matroska[:place] + struct.pack(">d", 600_000.0) + matroska[place + 8 :], 600.0),
    ):
        columns = probe(data).columns
        assert columns["duration_s"] == pytest.approx(2.0)
        assert columns["num_frames"] == 40
        assert columns["header_duration_s"] == pytest.approx(says_s)
        assert columns["duration_corrected"] is True


def test_a_header_of_a_million_frames_fails_before_they_are_read(probe, long_gop):
    place = long_gop.index(b"stsz") + 4
    lying = long_gop[:place] + struct.pack(">III", 0, 1, 2_000_000) + long_gop[place + 12 :]
    sample = probe(_with_counts(lying, 2_000_000))
    assert sample.status is Status.FAILED
    assert sample.reason is Reason.TOO_MANY_FRAMES
    assert "the header says 2000000" in sample.detail
    assert probe(long_gop, max_frames=40).is_ok
    assert probe(long_gop, max_frames=39).reason is Reason.TOO_MANY_FRAMES


@pytest.mark.parametrize("container", ["gif", "avi", "matroska"])
def test_a_stream_of_30000_x_30000_fails_before_a_frame_is_decoded(probe, container):
    if container == "gif":
        data = films.encode("gif", "gif", pix_fmt="rgb8", frames=3)
        data = data[:6] + BIG + data[10:]
    elif container == "avi":
        data = films.encode("avi", "mjpeg", pix_fmt="yuvj420p", frames=3)
        place = data.index(b"strf") + 12  # BITMAPINFOHEADER: size, width, height
        data = data[:place] + struct.pack("<ii", 30000, 30000) + data[place + 8 :]
        start = data.index(b"\xff\xc0") + 5  # of the pictures too: a decoder believes them more than the container
        data = data.replace(data[start - 5 : start + 4], data[start - 5 : start] + struct.pack(">HH", 30000, 30000))
    else:
        data = films.encode("matroska", "ffv1", frames=3)
        for tag, value in ((b"\xb0\x81\xa0", b"\xb0\x82\x75\x30"), (b"\xba\x81\x60", b"\xba\x82\x75\x30")):
            place = data.index(tag)  # PixelWidth and PixelHeight, one byte longer: taken from the void behind
            data = data[:place] + value + data[place + 3 :]
    sample = probe(data, allow_truncated=True)
    assert sample.reason is Reason.TOO_MANY_PIXELS
    assert "megapixels" in sample.detail
    assert not sample.parts


def test_limits_have_their_reasons(probe, long_gop):
    assert probe(long_gop, max_megapixels=0.015).reason is Reason.TOO_MANY_PIXELS
    assert probe(long_gop, min_side_px=97).reason is Reason.TOO_SMALL
    assert probe(long_gop, min_duration_s=2.1).reason is Reason.TOO_SHORT
    assert probe(long_gop, max_duration_s=1.9).reason is Reason.TOO_LONG
    assert probe(long_gop, min_duration_s=2.0, max_duration_s=2.0, min_side_px=96).is_ok


def test_sound_alone_even_with_a_cover_picture_is_no_film(probe, tmp_path):
    assert probe(make(tmp_path / "a.m4a", *tone())).reason is Reason.NO_VIDEO
    make(tmp_path / "cover.png", *picture(0.04), "-frames:v", "1")
    cover = [
        "-i",
        str(tmp_path / "cover.png"),
        "-map",
        "0",
        "-map",
        "1",
        "-c:v",
        "copy",
        "-disposition:v",
        "attached_pic",
    ]
    sample = probe(make(tmp_path / "a.mp3", *tone(), *cover))
    assert sample.reason is Reason.NO_VIDEO
    assert "video" in sample.detail


def test_sound_is_seen(probe, tmp_path):
    assert probe(make(tmp_path / "a.mp4", *picture(0.2), *tone(0.2))).columns["has_sound"] is True


def test_frames_that_are_shown_for_no_time_have_no_duration(probe):
    data = films.encode("matroska", frames=20, times=[Fraction(number, 1000) for number in range(20)])
    sample = probe(data)
    assert sample.reason is Reason.NO_DURATION
    assert sample.status is Status.FAILED


def _with_duration(data: bytes, seconds: int) -> bytes:
    """The MP4 with other durations in the headers of film, track and media (version 0)."""
    data = data.replace(b"edts", b"free")
    place = data.index(b"mvhd") + 4 + 12
    scale, _ = struct.unpack(">II", data[place : place + 8])
    data = data[: place + 4] + struct.pack(">I", seconds * scale) + data[place + 8 :]
    place = data.index(b"mdhd") + 4 + 12
    scale, _ = struct.unpack(">II", data[place : place + 8])
    return data[: place + 4] + struct.pack(">I", seconds * scale) + data[place + 8 :]


def _with_counts(data: bytes, count: int) -> bytes:
    """The MP4 whose table of times has so many frames in its only entry."""
    place = data.index(b"stts") + 8
    return data[: place + 4] + struct.pack(">I", count) + data[place + 8 :]
