"""Strangers' bytes: whatever they are, there is a status; nothing that they name is opened, nothing is left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmdata.errors import Reason
from mmdata.video.align_subtitles import AlignSubtitles
from mmdata.video.cut_clips import CutClips
from mmdata.video.encode_clip import EncodeClip
from mmdata.video.frame_stats import FrameStats
from mmdata.video.probe_video import ProbeVideo
from mmdata.video.sample_frames import SampleFrames
from mmdata.video.sound_track import SoundTrack
from tests.media.ffmpeg_made import make, picture, tone
from tests.media.test_container import PLAYLISTS
from tests.video import films

KINDS = {
    "mp4": ["-c:v", "libx264", "-g", "10", "-c:a", "aac"],
    "moov first.mp4": ["-c:v", "libx264", "-g", "10", "-c:a", "aac", "-movflags", "+faststart"],
    "mkv": ["-c:v", "libx264", "-g", "10", "-c:a", "aac"],
    "avi": ["-c:v", "mpeg4", "-c:a", "mp3"],
    "webm": ["-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus"],
    "ts": ["-c:v", "libx264", "-g", "10", "-c:a", "aac"],
    "mpg": ["-c:v", "mpeg2video", "-c:a", "mp2"],
    "gif": ["-an"],
}
ENDED = {
    Reason.TRUNCATED, Reason.CORRUPT, Reason.NO_VIDEO, Reason.NO_DURATION, Reason.UNSUPPORTED, Reason.TOO_SHORT,
    Reason.TOO_MANY_PIXELS, Reason.TOO_MANY_FRAMES, Reason.TOO_LONG, Reason.DECODE_OOM,
}  # fmt: skip
CUTS = 8
IN_OPEN, IN_ACCESS = 0x20, 0x01


@pytest.fixture(scope="module", params=KINDS)
def film(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / f"a.{request.param}"
    return request.param.rpartition(".")[2], make(path, *picture(1.5), *tone(1.5, 48_000), *KINDS[request.param])


def _all_stages(data: bytes, **options):
    """The samples after every stage; those that ended on the way too."""
    samples = [films.sample_of(data)]
    stages = [
        ProbeVideo(**options), AlignSubtitles(), CutClips(mode="fixed", length_s=1, min_s=0.1),
        SampleFrames(side_px=64), FrameStats(), SoundTrack(), EncodeClip(side_px=64),
    ]  # fmt: skip
    for stage in stages:
        ended = [sample for sample in samples if not sample.is_ok]
        samples = stage.process([sample for sample in samples if sample.is_ok and all(map(sample.has, stage.reads))])
        samples += ended
    return samples


def _check(samples) -> None:
    assert samples
    for sample in samples:
        assert sample.is_ok or sample.reason in ENDED, (sample.reason, sample.detail)
        assert sample.is_ok or (not sample.parts and len(sample.detail) <= 200)
        assert not sample.is_ok or len(sample.frame_parts) == 5


def test_a_film_cut_anywhere_has_a_status(film):
    suffix, data = film
    rng = random.Random(4)
    for number, cut in enumerate(sorted([0, 1, 7, 12, len(data) - 1, *rng.sample(range(13, len(data)), CUTS)])):
        sample = films.sample_of(data[:cut])
        ProbeVideo().process([sample])
        assert sample.is_ok or sample.reason in ENDED
        if suffix in ("mp4", "mkv", "avi", "webm") and cut >= 200:  # they say how long they are
            assert sample.reason is Reason.TRUNCATED, (cut, sample.detail)
        if number % 4 == 0:
            _check(_all_stages(data[:cut], allow_truncated=True))


def test_what_is_left_of_a_cut_film_can_be_used(film):
    suffix, data = film
    if suffix in ("mp4", "mpg", "gif"):
        pytest.skip("what is left of it depends on where its index is")
    (sample,) = [films.sample_of(data[: len(data) * 3 // 4])]
    ProbeVideo(allow_truncated=True).process([sample])
    assert sample.is_ok
    assert 0.3 < sample.columns["duration_s"] < 1.5
    assert SampleFrames(uniform=2).process([sample])[0].is_ok


def test_damaged_bytes_have_a_status(film):
    _, data = film
    rng = random.Random(9)
    for number in range(5):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 20, 400))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        if number % 4 == 0:
            _check(_all_stages(bytes(damaged), allow_truncated=True))
        else:
            sample = films.sample_of(bytes(damaged))
            for stage in (ProbeVideo(allow_truncated=True), SampleFrames(), FrameStats()):
                if sample.is_ok:
                    stage.process([sample])
            _check([sample])


@pytest.mark.parametrize("data", [b"", b"\0" * 5000, b"<html>no</html>", os.urandom(0) + bytes(range(256)) * 20])
def test_bytes_that_are_no_media_are_unsupported(data):
    (sample,) = _all_stages(data)
    assert sample.reason is Reason.UNSUPPORTED


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_is_unsupported_and_nothing_it_names_is_opened(tmp_path, kind):
    canary = tmp_path / "canary.mp4"
    make(canary, *picture(0.2))
    with socket.create_server(("127.0.0.1", 0)) as listener, _watched(canary) as opened:
        listener.settimeout(0.05)
        address = f"127.0.0.1:{listener.getsockname()[1]}".encode()
        for target in (str(canary).encode(), b"http://" + address + b"/a.mp4"):
            data = PLAYLISTS[kind].replace(b"/etc/passwd", target).replace(b"127.0.0.1", address)
            (sample,) = _all_stages(data)
            assert sample.reason is Reason.UNSUPPORTED
        with pytest.raises(TimeoutError):
            listener.accept()
        assert opened() is False
        canary.read_bytes()
        assert opened() is True  # the watch works


def test_a_film_that_refers_to_a_file_does_not_get_it(tmp_path):
    """QuickTime can keep its data in another file, which a `url ` box names."""
    canary = tmp_path / "canary.mp4"
    data = make(canary, *picture(0.4), "-c:v", "mpeg4", "-movflags", "+faststart")
    place = data.index(b"url ") - 4
    name = str(canary).encode() + b"\0"
    reference = struct.pack(">I4sI", 12 + len(name), b"url ", 0) + name
    grown = len(reference) - 12
    data = data[:place] + reference + data[place + 12 :]
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = data.index(box) - 4
        data = (
            data[:start]
            + struct.pack(">I", struct.unpack(">I", data[start : start + 4])[0] + grown)
            + data[start + 4 :]
        )
    with _watched(canary) as opened:
        samples = _all_stages(data)
        _check(samples)
        assert opened() is False


def test_nothing_is_left_open_or_behind(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"  # of this test alone: others write to the system's at the same time
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    data = make(tmp_path / "a.mp4", *picture(0.5), *tone(0.5))
    _all_stages(data)
    before = _descriptors(), os.listdir(scratch), os.listdir(tmp_path)
    _all_stages(data)
    _all_stages(data[:-100], allow_truncated=True)
    assert (_descriptors(), os.listdir(scratch), os.listdir(tmp_path)) == before


def test_no_metadata_of_the_film_reaches_a_part(tmp_path):
    tags = ["-metadata", "location=+52.5200+013.4050/", "-metadata", "comment=secret", "-metadata:s:a", "title=secret"]
    data = make(tmp_path / "a.mp4", *picture(1.2), *tone(1.2), "-movflags", "use_metadata_tags", *tags)
    assert b"+52.5200" in data
    assert b"secret" in data
    (sample,) = _all_stages(data)[:1]
    del sample.parts["raw"]
    assert set(sample.parts) == {"000.jpg", "001.jpg", "002.jpg", "003.jpg", "004.jpg", "flac", "mp4"}
    for part, content in sample.parts.items():
        assert b"+52.52" not in content, part
        assert b"secret" not in content, part


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def _watched(path: Path) -> Iterator:
    """A function that says whether somebody, in any process, has opened or read the file since."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(descriptor, str(path).encode(), IN_OPEN | IN_ACCESS) >= 0

    def opened() -> bool:
        try:
            return bool(os.read(descriptor, 4096))
        except BlockingIOError:
            return False

    try:
        yield opened
    finally:
        os.close(descriptor)
