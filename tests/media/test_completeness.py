"""A file that was cut is known by what its container says of its own length."""

from __future__ import annotations

import pytest

from mmdata.media.completeness import missing_bytes
from tests.media.ffmpeg_made import make, picture

KINDS = {"mp4": "mov", "mkv": "matroska", "avi": "avi", "gif": "gif"}


@pytest.mark.parametrize("suffix", KINDS)
def test_a_whole_file_misses_nothing_and_a_cut_one_does(tmp_path, suffix):
    data = make(tmp_path / f"a.{suffix}", *picture(0.4))
    assert missing_bytes(data, KINDS[suffix]) == 0
    assert missing_bytes(data + b"trailing junk", KINDS[suffix]) == 0 or suffix == "gif"
    for cut in (1, 10, len(data) // 2):
        missing = missing_bytes(data[:-cut], KINDS[suffix])
        assert missing >= 1
        if suffix in ("mkv", "avi"):
            assert missing == cut


def test_what_does_not_state_its_length_is_taken_as_it_is(tmp_path):
    live = make(tmp_path / "live.mkv", *picture(0.4), "-live", "1")
    assert missing_bytes(live[:-100], "matroska") == 0
    stream = make(tmp_path / "a.ts", *picture(0.4))
    assert missing_bytes(stream[:-100], "mpegts") == 0


@pytest.mark.parametrize("demuxer", [*KINDS.values(), "wav", "mpegts"])
@pytest.mark.parametrize("data", [b"\0", b"RIFF", b"RIFF\xff\xff\xff\x7fAVI ", b"\0\0\0\x01ftyp", b"\x18\x53\x80\x67"])
def test_any_start_has_an_answer(demuxer, data):
    assert missing_bytes(data, demuxer) >= 0
