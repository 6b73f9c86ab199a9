"""FFmpeg runs over bytes: same bytes out for the same in, nothing opened by name, every failure with its reason."""

from __future__ import annotations

import io
import os
import socket
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmdata.errors import Reason, SampleError
from mmdata.media.ffmpeg import first_useful_line, run, source
from mmdata.media.memory_file import memory_file
from tests.media.ffmpeg_made import make, picture, tone


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    arguments = ["-metadata", "title=secret title", "-c:v", "libx264", "-c:a", "aac"]
    return make(tmp_path_factory.mktemp("film") / "a.mp4", *picture(1), *tone(1), *arguments)


def _sound(data: bytes, demuxer: str = "mov", **options: object) -> bytes:
    with memory_file(data) as path:
        return run(source(path, demuxer).audio, "wav", acodec="pcm_s16le", ar=16000, ac=1, **options)


def test_sound_comes_out_with_a_right_header_and_length(film):
    with wave.open(io.BytesIO(_sound(film))) as file:
        assert (file.getframerate(), file.getnchannels()) == (16000, 1)
        samples = np.frombuffer(file.readframes(1 << 20), np.int16)
    assert abs(len(samples) - 16000) <= 1024
    assert file.getnframes() == len(samples)
    spectrum = np.abs(np.fft.rfft(samples[4000:12000]))
    assert abs(int(spectrum.argmax()) * 2 - 440) <= 2


def test_flac_says_its_length(film):
    with memory_file(film) as path:
        data = run(source(path, "mov").audio, "flac", ar=16000, ac=1)
    assert abs(soundfile.info(io.BytesIO(data)).frames - 16000) <= 1024


def test_the_same_bytes_come_out_and_no_metadata(film):
    def encode() -> bytes:
        with memory_file(film) as path:
            return run(source(path, "mov").video, "mp4", vcodec="libx264", crf=30, movflags="+faststart")

    first = encode()
    assert first == encode()
    assert b"secret title" in film
    assert b"secret" not in first
    assert b"Lavf" not in first
    assert 0 < first.index(b"moov") < first.index(b"mdat")


def test_several_streams_go_into_one_file(film):
    with memory_file(film) as path:
        input_ = source(path, "mov")
        data = run([input_.video, input_.audio], "matroska", vcodec="copy", acodec="copy")
    with memory_file(data) as path:
        assert len(run(source(path, "matroska").video.filter("scale", 16, 16), "rawvideo", pix_fmt="gray")) == 25 * 256


def test_a_playlist_with_a_demuxer_forced_on_it_opens_nothing(tmp_path):
    canary = tmp_path / "canary.ts"
    make(canary, *tone(), "-f", "mpegts")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        port = listener.getsockname()[1]
        for target in (f"http://127.0.0.1:{port}/a.ts", str(canary), f"file://{canary}"):
            for demuxer, text in (
                ("hls", f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n"),
                ("concat", f"ffconcat version 1.0\nfile '{target}'\n"),
            ):
                with pytest.raises(SampleError) as caught:
                    _sound(text.encode(), demuxer)
                assert caught.value.reason is Reason.CORRUPT
        with pytest.raises(TimeoutError):
            listener.accept()


def test_bytes_that_do_not_decode_are_corrupt_and_say_the_same_each_time():
    says = set()
    for _ in range(2):
        with pytest.raises(SampleError) as caught:
            _sound(b"\x00\x00\x00\x18ftypmp42" + bytes(2000))
        assert caught.value.reason is Reason.CORRUPT
        says.add(caught.value.detail)
    assert len(says) == 1
    assert "0x" not in says.pop()


def test_one_that_takes_too_long_is_ended(film):
    with memory_file(film) as path, pytest.raises(SampleError) as caught:
        run(source(path, "mov", stream_loop=-1).video, "null", timeout_s=0.5)
    assert caught.value.reason is Reason.DECODE_TIMEOUT


def test_one_that_writes_too_much_is_ended(film):
    with memory_file(film) as path, pytest.raises(SampleError) as caught:
        run(source(path, "mov", stream_loop=-1).video, "rawvideo", max_bytes=1 << 20)
    assert caught.value.reason is Reason.TOO_LARGE_OUTPUT


def test_no_file_is_left_open(film):
    before = sorted(os.listdir("/proc/self/fd"))
    _sound(film)
    with pytest.raises(SampleError):
        _sound(b"nothing")
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert list(Path().glob("*.wav")) == []


def test_the_first_line_that_says_something_is_taken_without_addresses():
    said = "\n[in#0 @ 0x55d0] [mov,mp4 @ 0x1] Error opening input: bad\nlast\n"
    assert first_useful_line(said) == "Error opening input: bad"
    assert first_useful_line("\n\n") == "ffmpeg failed and said nothing"
