"""In the child process with its limits the stages do what they do here, within the memory they are given."""

from __future__ import annotations

import pytest

from mmdata.errors import Reason
from mmdata.run.sandbox import Sandbox
from tests.media.ffmpeg_made import make, picture, tone
from tests.video import films

STAGES = [
    ("probe_video", {}),
    ("align_subtitles", {}),
    ("cut_clips", {"mode": "subtitles", "min_s": 0.2}),
    ("sample_frames", {"side_px": 64}),
    ("frame_stats", {}),
    ("sound_track", {}),
    ("encode_clip", {"side_px": 64}),
]
SRT = "1\n00:00:00,100 --> 00:00:00,900\none\n\n2\n00:00:05,000 --> 00:00:06,000\nlate\n"


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(STAGES, timeout_s=60, memory_mb=1024) as box:
        yield box


def test_a_film_becomes_clips_with_all_parts(sandbox, tmp_path):
    film = make(tmp_path / "a.mp4", *picture(1.5), *tone(1.5), "-c:v", "libx264", "-c:a", "aac")
    (clip,) = sandbox.process([films.sample_of(film, {"subtitles": SRT})])
    assert clip.is_ok, clip.detail
    assert clip.key == "films-000000000042_0000"
    assert sorted(clip.parts) == ["000.jpg", "001.jpg", "002.jpg", "003.jpg", "004.jpg", "flac", "mp4"]
    assert clip.columns["caption"] == "one"
    assert clip.columns["duration_s"] == pytest.approx(0.8)
    assert sandbox.restarts == 0


def test_bombs_end_themselves_alone(sandbox, tmp_path):
    film = make(tmp_path / "a.mp4", *picture(1.5), "-c:v", "libx264")
    huge = films.encode("gif", "gif", pix_fmt="rgb8", frames=3)
    huge = huge[:6] + b"\x30\x75\x30\x75" + huge[10:]
    data = [film, huge, b"#EXTM3U\n", film[:-5], film]
    samples = [films.sample_of(each, {"subtitles": SRT}) for each in data]
    for number, sample in enumerate(samples):
        sample.key = f"films-{number:012d}"
    reasons = [sample.reason for sample in sandbox.process(samples)]
    assert reasons == [Reason.OK, Reason.TOO_MANY_PIXELS, Reason.UNSUPPORTED, Reason.TRUNCATED, Reason.OK]
    assert sandbox.restarts == 0


def test_one_worker_stays_below_its_memory_on_4k(tmp_path):
    """Frames of 12.4 MB each and what the decoder holds of them: within 700 MB beyond the start of the child."""
    film = make(tmp_path / "a.mp4", *picture(0.2, "3840x2160", "10"), "-c:v", "libx264", "-preset", "ultrafast")
    with Sandbox([("probe_video", {}), ("sample_frames", {"uniform": 2})], timeout_s=60, memory_mb=700) as box:
        (sample,) = box.process([films.sample_of(film)])
    assert sample.is_ok, sample.detail
    assert len(sample.frame_parts) == 2
    assert box.restarts == 0
