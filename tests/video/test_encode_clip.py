"""A clip as an MP4 of its own: the right frames, size and rate, upright, the same bytes each time, no metadata."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from mmdata.errors import Reason
from mmdata.media.completeness import missing_bytes
from mmdata.video.cut_clips import CutClips
from mmdata.video.encode_clip import EncodeClip
from mmdata.video.sample_frames import SampleFrames
from tests.media.ffmpeg_made import make
from tests.video import films


def _decoded(mp4: bytes) -> list[tuple[float, np.ndarray]]:
    """(time, RGB) of all frames."""
    with av.open(io.BytesIO(mp4)) as container:
        return [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "webm"])
def test_a_clip_holds_the_frames_of_its_span_at_their_times(through, container):
    codec = {"webm": "libvpx"}.get(container, "libx264")
    options = {"deadline": "realtime"} if codec == "libvpx" else {"g": "15", "bf": "3"}
    data = films.encode(container, codec, frames=60, options=options)
    own = {"spans": "[[0, 1], [1.25, 2.0], [1.32, 9]]"}
    clips = through(data, CutClips(mode="spans", min_s=0.2), EncodeClip(side_px=96), own=own)
    for clip, (first, after) in zip(clips, ((0, 20), (25, 40), (27, 60)), strict=True):
        frames = _decoded(clip.parts["mp4"])
        assert [films.number_of(image) for _, image in frames] == list(range(first, after))
        start_s = clip.columns["clip_start_s"]
        times_s = [time_s - frames[0][0] for time_s, _ in frames]
        assert times_s == pytest.approx([(number - first) / 20 for number in range(first, after)], abs=0.002)
        assert frames[0][0] == pytest.approx(first / 20 - start_s, abs=0.002)


def test_fps_gives_even_frames(through, long_gop):
    (sample,) = through(long_gop, EncodeClip(fps=5, side_px=96))
    frames = _decoded(sample.parts["mp4"])
    assert [time_s for time_s, _ in frames] == pytest.approx([index / 5 for index in range(10)])
    assert all(abs(films.number_of(image) - 4 * index) <= 2 for index, (_, image) in enumerate(frames))
    (sample,) = through(long_gop, EncodeClip(fps=40, side_px=96))
    assert len(_decoded(sample.parts["mp4"])) == 80


@pytest.mark.parametrize("turn", [90, -90, 180])
def test_pictures_are_upright_without_a_display_matrix(through, tmp_path, turn):
    turned = [np.ascontiguousarray(np.rot90(films.barred(number), -turn // 90)) for number in range(10)]
    (tmp_path / "a.mp4").write_bytes(films.encode(images=turned))
    data = make(tmp_path / "b.mp4", "-display_rotation", str(turn), "-i", str(tmp_path / "a.mp4"), "-c", "copy")
    (sample,) = through(data, EncodeClip(side_px=96))
    assert [films.number_of(image) for _, image in _decoded(sample.parts["mp4"])] == list(range(10))
    with av.open(io.BytesIO(sample.parts["mp4"])) as container:
        assert next(container.decode(video=0)).rotation == 0
    assert (sample.columns["width_px"], sample.columns["height_px"]) == (160, 96)


@pytest.mark.parametrize(
    ("resize", "size"),
    [
        ("no", (160, 96)),
        ("keep_ratio", (80, 48)),
        ("keep_ratio_largest", (48, 28)),
        ("center_crop", (48, 48)),
        ("border", (48, 48)),
    ],
)
def test_resize_modes_with_even_sides(through, long_gop, resize, size):
    (sample,) = through(long_gop, EncodeClip(resize=resize, side_px=48, fps=5))
    assert (sample.columns["width_px"], sample.columns["height_px"]) == size
    _, image = _decoded(sample.parts["mp4"])[0]
    assert image.shape == (size[1], size[0], 3)
    if resize == "border":
        assert image[:6].mean() > 230
        assert image[12:20].mean() < 60


@pytest.mark.parametrize(("matrix", "lines"), [("bt709", 720), ("smpte170m", 480), ("smpte170m", 720)])
def test_colours_stay(through, tmp_path, matrix, lines):
    colour = (192, 32, 64)
    source = f"color=c=0x{bytes(colour).hex()}:size=320x{lines}:rate=10:duration=0.2,format=rgb24"
    scale = f"scale=out_color_matrix={matrix}:out_range=tv,format=yuv420p"
    data = make(
        tmp_path / "a.mkv",
        "-f",
        "lavfi",
        "-i",
        source,
        "-vf",
        scale,
        "-colorspace",
        matrix,
        "-c:v",
        "libx264",
        "-qp",
        "4",
    )
    (sample,) = through(data, EncodeClip(side_px=64, crf=5))
    _, image = _decoded(sample.parts["mp4"])[0]
    assert np.abs(image[20, 20].astype(int) - colour).max() <= 4
    with av.open(io.BytesIO(sample.parts["mp4"])) as container:
        assert container.streams.video[0].codec_context.colorspace == 1


def test_the_same_bytes_come_again_without_names_versions_or_places(through, tmp_path, long_gop):
    (tmp_path / "a.mp4").write_bytes(long_gop)
    tags = [
        "-metadata",
        "location=+52.5200+013.4050/",
        "-metadata",
        "title=secret",
        "-metadata:s:v",
        "handler_name=secret",
    ]
    data = make(
        tmp_path / "b.mp4", "-i", str(tmp_path / "a.mp4"), "-c", "copy", "-movflags", "use_metadata_tags", *tags
    )
    assert b"+52.5200" in data
    (first,), (again,) = (through(data, EncodeClip(side_px=96)) for _ in range(2))
    mp4 = first.parts["mp4"]
    assert mp4 == again.parts["mp4"]
    for trace in (b"+52.5", b"secret", b"Lavf", b"x264 - core", b"Lavc6"):
        assert trace not in mp4
    assert mp4.index(b"moov") < mp4.index(b"mdat")
    assert missing_bytes(mp4, "mov") == 0


def test_a_lower_crf_keeps_more(through, long_gop):
    sizes = [len(through(long_gop, EncodeClip(crf=crf, side_px=96))[0].parts["mp4"]) for crf in (10, 40)]
    assert sizes[0] > sizes[1]


def test_key_frames_come_as_often_as_wanted(through, long_gop):
    (sample,) = through(long_gop, EncodeClip(key_every_s=0.5, side_px=96))
    with av.open(io.BytesIO(sample.parts["mp4"])) as container:
        keys = [float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.is_keyframe]
    assert np.diff(keys).max() <= 0.5 + 1e-6


def test_frames_and_mp4_go_together(through, long_gop):
    (sample,) = through(long_gop, SampleFrames(uniform=2, side_px=33), EncodeClip(side_px=96))
    assert sorted(sample.parts) == ["000.jpg", "001.jpg", "mp4", "raw"]
    assert sample.columns["height_px"] == 33


def test_a_result_that_h264_cannot_hold_is_refused(through, long_gop):
    (sample,) = through(long_gop, EncodeClip(side_px=4000))
    assert sample.reason is Reason.TOO_MANY_PIXELS
