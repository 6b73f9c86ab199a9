"""Containers are known by their bytes; what names other files has no demuxer."""

from __future__ import annotations

import io

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.errors import Reason, SampleError
from mmdata.media.container import DEMUXERS, sniff
from tests.media.ffmpeg_made import make, picture, tone

SOUNDS = {
    "wav": "wav", "flac": "flac", "mp3": "mp3", "mp2": "mp3", "aac": "aac", "ogg": "ogg", "aiff": "aiff", "au": "au",
    "caf": "caf", "w64": "w64", "wv": "wv", "m4a": "mov", "mka": "matroska", "wma": "asf", "rf64.wav": "wav",
}  # fmt: skip
FILMS = {
    "mp4": "mov", "mov": "mov", "mkv": "matroska", "avi": "avi", "mpg": "mpeg", "ts": "mpegts", "m2ts": "mpegts",
    "gif": "gif", "flv": "flv", "3gp": "mov", "m1v": "mpegvideo", "webm": "matroska",
}  # fmt: skip
EXTRA = {"rf64.wav": ["-rf64", "always"], "3gp": ["-c:v", "mpeg4"], "webm": ["-c:v", "libvpx", "-deadline", "realtime"]}
MPEG_2_SYNC = b"\xff\xf3"  # of the 16 kHz tone
PLAYLISTS = {
    "m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "ffconcat": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    "concat": b"file '/etc/passwd'\n",
    "dash": b'<?xml version="1.0"?><MPD profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"></MPD>',
    "sdp": b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nc=IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n",
    "asx": b'<asx version="3.0"><entry><ref href="http://127.0.0.1/"/></entry></asx>',
    "pls": b"[playlist]\nFile1=http://127.0.0.1/\n",
    "imf": b'<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">',
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("containers")

    def of(suffix):
        source = tone() if suffix in SOUNDS else picture(0.2)
        return make(folder / f"a.{suffix}", *source, *EXTRA.get(suffix, []))

    return of


@pytest.mark.parametrize(("suffix", "demuxer"), [*SOUNDS.items(), *FILMS.items()])
def test_a_container_is_known_by_its_bytes_and_read_by_its_demuxer(made, suffix, demuxer):
    data = made(suffix)
    assert sniff(data) == demuxer
    assert sniff(data, hint="xyz") == demuxer
    with av.open(io.BytesIO(data), format=demuxer) as container:
        assert demuxer in container.format.name.split(",")
        assert len(container.streams) == 1


def test_every_name_is_one_that_ffmpeg_has():
    for demuxer in DEMUXERS:
        assert demuxer in av.format.ContainerFormat(demuxer, "r").name.split(",")


def test_an_mp3_behind_a_tag_or_named_wav_is_an_mp3(made):
    data = made("mp3")
    assert data.startswith(b"ID3")
    bare = data[data.index(MPEG_2_SYNC) :]
    assert sniff(bare, hint="wav") == "mp3"
    assert sniff(b"ID3\x04\x00\x00\x00\x00\x00\x05hello" + bare) == "mp3"
    assert sniff(b"ID3\x04\x00\x00\x00\x00\x00\x05hello" + made("flac")) == "flac"
    assert sniff(b"ID3\x04\x00\x00\x00\x00\x00\x05hello" + made("aac")) == "aac"


def test_a_format_without_header_needs_its_hint(made):
    noise = bytes(range(128, 250)) * 20
    assert sniff(noise, hint=".G722") == "g722"
    with pytest.raises(SampleError) as caught:
        sniff(noise)
    assert caught.value.reason is Reason.UNSUPPORTED
    data = made("mp3")
    late = b"\x00\xff\x00" * 50 + data[data.index(MPEG_2_SYNC) :]
    assert sniff(late, hint="mp3") == "mp3"
    with pytest.raises(SampleError):
        sniff(late)


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("hint", ["", "m3u8", "mp4", "mp3", "g722"])
def test_a_playlist_has_no_demuxer_whatever_it_is_named(kind, hint):
    with pytest.raises(SampleError) as caught:
        sniff(PLAYLISTS[kind], hint=hint)
    assert caught.value.reason is Reason.UNSUPPORTED
    assert "playlist" in caught.value.detail


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"<!doctype html><html>", b"\xff\xd8\xff\xe0" + bytes(60), b"PK\x03\x04"]
)
def test_what_is_no_media_is_unsupported(data):
    with pytest.raises(SampleError) as caught:
        sniff(data)
    assert caught.value.reason is Reason.UNSUPPORTED


@given(st.binary(max_size=600), st.sampled_from(["", "mp3", "g722", "wav", "mp4"]))
def test_any_bytes_have_a_demuxer_of_the_list_or_are_unsupported(data, hint):
    try:
        found = sniff(data, hint=hint)
    except SampleError as error:
        found = error.reason
    assert found in (*DEMUXERS, Reason.UNSUPPORTED)
