"""The right frames: every one known by its number, at its true time, upright, whoever decodes them."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from mmdata.errors import Reason
from mmdata.video.cut_clips import CutClips
from mmdata.video.sample_frames import SampleFrames
from tests.media.ffmpeg_made import make, picture
from tests.video import films

FILMS = {
    "mp4": ("mp4", "libx264", {"options": {"g": "250", "bf": "3"}}),
    "open gop": ("mp4", "libx264", {"options": {"g": "12", "bf": "3", "x264-params": "open-gop=1"}}),
    "pyramid": (
        "matroska",
        "libx264",
        {"options": {"g": "60", "bf": "8", "x264-params": "b-pyramid=normal:b-adapt=0"}},
    ),
    "hevc": ("mp4", "libx265", {"options": {"x265-params": "log-level=none:keyint=15"}}),
    "vp9": ("webm", "libvpx-vp9", {"options": {"deadline": "realtime", "cpu-used": "8"}}),
    "av1": ("mp4", "libsvtav1", {"options": {"preset": "8", "crf": "1", "svtav1-params": "lp=1"}}),
    "mpeg4 in avi": ("avi", "mpeg4", {"options": {"bf": "2", "g": "10"}}),
    "h264 in avi": ("avi", "libx264", {"options": {"bf": "3", "g": "15"}}),
    "transport stream": ("mpegts", "libx264", {"options": {"g": "15", "bf": "3"}}),
    "program stream": ("mpeg", "mpeg2video", {"options": {"g": "15", "bf": "2"}, "fps": 25}),
    "flv": ("flv", "libx264", {"options": {"g": "15", "bf": "2"}}),
    "gif": ("gif", "gif", {"pix_fmt": "rgb8"}),
    "mjpeg": ("mov", "mjpeg", {"pix_fmt": "yuvj420p"}),
}


@pytest.mark.parametrize("reader", ["av", "decord"])
@pytest.mark.parametrize("name", FILMS)
def test_the_frames_wanted_are_the_frames_given(through, name, reader):
    container, codec, options = FILMS[name]
    data = films.encode(container, codec, frames=60, **{"fps": 20, **options})
    fps = options.get("fps", 20)
    for start, end, wanted in ((0, 60, [3, 28, 29, 58]), (35, 60, [35, 47, 58])):
        times_s = [(number - start + 0.5) / fps for number in wanted]
        spans = f"[[{start / fps}, {end / fps}]]"
        cut, sample = CutClips(mode="spans", min_s=0), SampleFrames(times_s=times_s, reader=reader)
        (clip,) = through(data, cut, sample, own={"spans": spans})
        assert clip.is_ok, clip.detail
        assert films.numbers_of(clip) == wanted
        assert clip.columns["frame_times_s"] == pytest.approx([(number - start) / fps for number in wanted], abs=0.003)


def test_uniform_gives_the_middles_of_equal_parts(through, long_gop):
    (sample,) = through(long_gop, SampleFrames())
    assert films.numbers_of(sample) == [4, 12, 20, 28, 36]
    assert sample.columns["frame_times_s"] == pytest.approx([0.2, 0.6, 1.0, 1.4, 1.8])
    assert list(sample.parts) == ["raw", "000.jpg", "001.jpg", "002.jpg", "003.jpg", "004.jpg"]


def test_fps_begins_with_the_clip_and_is_even(through, long_gop):
    (sample,) = through(long_gop, SampleFrames(fps=4))
    assert films.numbers_of(sample) == [0, 5, 10, 15, 20, 25, 30, 35]
    (sample,) = through(long_gop, SampleFrames(fps=40))
    assert films.numbers_of(sample) == sorted([*range(40), *range(40)])


def test_keyframes_are_those_that_the_encoder_stored_whole(through):
    data = films.encode(options={"g": "15", "bf": "2", "sc_threshold": "0", "x264-params": "scenecut=0"})
    (sample,) = through(data, SampleFrames(keyframes=True))
    assert films.numbers_of(sample) == [0, 15, 30]
    assert sample.columns["frame_times_s"] == pytest.approx([0, 0.75, 1.5])
    own = {"spans": "[[0.75, 1.5], [1.55, 1.95]]"}
    one, none = through(data, CutClips(mode="spans", min_s=0), SampleFrames(keyframes=True), own=own)
    assert films.numbers_of(one) == [15]
    assert films.numbers_of(none) == [31]  # no key frame in it: the first one


def test_with_uneven_frames_time_counts_not_number(through):
    times = [Fraction(number, 20) for number in range(20)] + [Fraction(1 + number) for number in range(1, 11)]
    data = films.encode("matroska", times=times, frames=30, options={"bf": "2"})
    (sample,) = through(data, SampleFrames(times_s=[0.52, 1.5, 2.5, 9.99]))
    assert films.numbers_of(sample) == [10, 19, 20, 27]
    assert sample.columns["frame_times_s"] == pytest.approx([0.5, 0.95, 2.0, 9.0], abs=0.002)


def test_a_clip_has_the_frames_that_begin_in_it(through, long_gop):
    own = {"spans": "[[0.25, 0.5], [0.5, 0.75]]"}
    first, second = through(long_gop, CutClips(mode="spans", min_s=0), SampleFrames(fps=20), own=own)
    assert films.numbers_of(first) == [5, 6, 7, 8, 9]
    assert films.numbers_of(second) == [10, 11, 12, 13, 14]
    assert second.columns["frame_times_s"] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


@pytest.mark.parametrize("reader", ["av", "decord"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("turn", [90, -90, 180])
def test_pictures_are_upright(through, tmp_path, turn, suffix, reader):
    turned = [np.ascontiguousarray(np.rot90(films.barred(number), -turn // 90)) for number in range(10)]
    (tmp_path / "a.mp4").write_bytes(films.encode(images=turned))
    data = make(tmp_path / f"b.{suffix}", "-display_rotation", str(turn), "-i", str(tmp_path / "a.mp4"), "-c", "copy")
    (sample,) = through(data, SampleFrames(times_s=[0.22, 0.37], side_px=96, reader=reader))
    assert films.numbers_of(sample) == [4, 7]
    assert (sample.columns["width_px"], sample.columns["height_px"]) == (160, 96)
    assert films.rgb(sample.parts["000.jpg"]).shape == (96, 160, 3)


def test_pixels_become_square(through, tmp_path):
    data = make(tmp_path / "a.mp4", *picture(0.2, "144x96"), "-vf", "setsar=4/3", "-pix_fmt", "yuv420p")
    (sample,) = through(data, SampleFrames(uniform=1, resize="no"))
    assert films.rgb(sample.parts["000.jpg"]).shape == (96, 192, 3)
    assert sample.columns["width_px"] == 192


@pytest.mark.parametrize(
    ("resize", "shape"),
    [
        ("no", (96, 160)), ("keep_ratio", (48, 80)), ("keep_ratio_largest", (29, 48)), ("center_crop", (48, 48)),
        ("border", (48, 48)),
    ],
)  # fmt: skip
def test_resize_modes_are_those_of_pictures(through, long_gop, resize, shape):
    (sample,) = through(long_gop, SampleFrames(uniform=2, resize=resize, side_px=48))
    assert {films.rgb(sample.parts[part]).shape[:2] for part in sample.frame_parts} == {shape}
    assert (sample.columns["height_px"], sample.columns["width_px"]) == shape


@pytest.mark.parametrize(("matrix", "lines"), [("bt709", 720), ("smpte170m", 480), ("bt709", 480), ("smpte170m", 720)])
@pytest.mark.parametrize("is_marked", [True, False])
def test_colours_are_right(through, tmp_path, matrix, lines, is_marked):
    """Where the stream says nothing, players take BT.709 from 720 lines on, and so do we."""
    colour = (192, 32, 64)
    picture = [
        "-f",
        "lavfi",
        "-i",
        f"color=c=0x{bytes(colour).hex()}:size=320x{lines}:rate=10:duration=0.2,format=rgb24",
    ]
    convert = ["-vf", f"scale=out_color_matrix={matrix}:out_range=tv,format=yuv420p", "-c:v", "libx264", "-qp", "4"]
    marks = (
        ["-colorspace", matrix] if is_marked else ["-colorspace", "2", "-bsf:v", "h264_metadata=matrix_coefficients=2"]
    )
    data = make(tmp_path / "a.mkv", *picture, *convert, *marks)
    (sample,) = through(data, SampleFrames(uniform=1, quality=100))
    found = films.rgb(sample.parts["000.jpg"])[40, 40].astype(int)
    usual = "bt709" if lines >= 720 else "smpte170m"
    assert bool(np.abs(found - colour).max() <= 4) is (is_marked or matrix == usual)


def test_the_same_bytes_come_again_and_from_decord_too(through, long_gop):
    (first,), (again,) = (through(long_gop, SampleFrames()) for _ in range(2))
    assert first.parts == again.parts
    (other,) = through(long_gop, SampleFrames(reader="decord"))
    assert other.parts == first.parts
    assert other.columns == first.columns


def test_no_metadata_is_in_the_frames(through, long_gop):
    (sample,) = through(long_gop, SampleFrames(uniform=1))
    jpeg = sample.parts["000.jpg"]
    assert b"Exif" not in jpeg
    assert b"Lav" not in jpeg


def test_too_many_frames_and_times_past_the_end_have_reasons(through, long_gop):
    (sample,) = through(long_gop, SampleFrames(fps=20, max_frames=39))
    assert sample.reason is Reason.TOO_MANY_FRAMES
    assert "40 frames" in sample.detail
    (sample,) = through(long_gop, SampleFrames(times_s=[5.0]))
    assert sample.reason is Reason.TOO_SHORT
    (sample,) = through(long_gop, SampleFrames(resize="keep_ratio", side_px=16000))
    assert sample.reason is Reason.TOO_MANY_PIXELS


def test_only_one_rule_can_say_which_frames():
    with pytest.raises(ValueError, match="uniform and fps: only one"):
        SampleFrames(uniform=3, fps=1)
    with pytest.raises(ValueError, match="no time is given"):
        SampleFrames(times_s=[])


def test_a_frame_that_does_not_decode_is_corrupt(through, long_gop):
    with av.open(io.BytesIO(long_gop)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    damaged = bytearray(long_gop)
    for place, size in places:
        damaged[place : place + size] = bytes(size)
    (sample,) = through(bytes(damaged), SampleFrames())
    assert sample.reason is Reason.CORRUPT
    assert "does not decode" in sample.detail
    assert not sample.parts
