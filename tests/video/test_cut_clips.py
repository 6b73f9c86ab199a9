"""Clips: half-open spans that are children of their film, with the words that are said in them."""

from __future__ import annotations

import numpy as np
import pytest

from mmdata.errors import Reason, Status
from mmdata.sample import root_key
from mmdata.video.cut_clips import CutClips
from tests.media.ffmpeg_made import make
from tests.video import films

SRT = """1
00:00:00,100 --> 00:00:00,500
one

2
00:00:00,600 --> 00:00:01,000
two

3
00:00:01,500 --> 00:00:01,900
three
"""


def _bounds(clips):
    return [(clip.columns["clip_start_s"], clip.columns["clip_end_s"]) for clip in clips]


def test_a_clip_ends_where_the_next_begins(through, long_gop):
    clips = through(long_gop, CutClips(mode="fixed", length_s=0.6, min_s=0.1))
    assert [clip.key for clip in clips] == [f"films-000000000042_{index:04d}" for index in range(4)]
    assert np.ravel(_bounds(clips)) == pytest.approx([0, 0.6, 0.6, 1.2, 1.2, 1.8, 1.8, 2.0])
    assert [clip.columns["num_frames"] for clip in clips] == [12, 12, 12, 4]
    assert sum(clip.columns["duration_s"] for clip in clips) == pytest.approx(2.0)
    assert {root_key(clip.key) for clip in clips} == {"films-000000000042"}


def test_clips_share_the_bytes_of_their_film(through, long_gop):
    clips = through(long_gop, CutClips(mode="fixed", length_s=0.5, min_s=0.1))
    assert all(clip.parts["raw"] is long_gop for clip in clips)
    clips[0].columns["fps"] = 0
    assert clips[1].columns["fps"] == 20


def test_pieces_that_are_too_short_are_left_out_and_a_stride_overlaps(through, long_gop):
    clips = through(long_gop, CutClips(mode="fixed", length_s=0.6, min_s=0.3))
    assert len(clips) == 3
    clips = through(long_gop, CutClips(mode="fixed", length_s=1.0, stride_s=0.5, min_s=1.0))
    assert np.ravel(_bounds(clips)) == pytest.approx([0, 1, 0.5, 1.5, 1, 2])


def test_spans_of_a_column_become_clips_with_their_text(through, long_gop):
    own = {"spans": '[[0.5, 1.0, "first"], [5, 6, "behind the end"], {"start": 1.5, "end": 9, "text": "last"}]'}
    clips = through(long_gop, CutClips(mode="spans", min_s=0.2), own=own)
    assert [(clip.key[-4:], clip.columns["caption"]) for clip in clips] == [("0000", "first"), ("0002", "last")]
    assert _bounds(clips) == [(0.5, 1.0), (1.5, pytest.approx(2.0))]


def test_two_columns_make_one_span(through, long_gop):
    cut = CutClips(mode="spans", start_column="start", end_column="end", min_s=0.2, pad_s=0.1)
    (clip,) = through(long_gop, cut, own={"start": "0:00.5", "end": 1})
    assert _bounds([clip]) == [(0.4, 1.1)]
    assert "caption" not in clip.columns


@pytest.mark.parametrize(
    ("own", "reason"),
    [({}, Reason.NO_SPANS), ({"spans": "nothing"}, Reason.NO_SPANS), ({"spans": "[[7, 8]]"}, Reason.TOO_SHORT)],
)
def test_a_film_without_a_clip_comes_back_with_its_reason(through, long_gop, own, reason):
    (film,) = through(long_gop, CutClips(mode="spans"), own=own)
    assert film.key == "films-000000000042"
    assert film.reason is reason
    assert film.status is not Status.OK


def test_subtitles_become_captions_of_the_time_they_are_shown(through, long_gop):
    clips = through(long_gop, CutClips(mode="subtitles", max_s=1, max_gap_s=0.2, min_s=0.1), own={"subtitles": SRT})
    assert [clip.columns["caption"] for clip in clips] == ["one two", "three"]
    assert _bounds(clips) == [(0.1, 1.0), (1.5, 1.9)]


def test_a_correction_moves_subtitles_before_they_are_cut(probe, long_gop):
    film = probe(long_gop, {"subtitles": SRT})
    film.columns["subtitle_correction_s"] = 0.1
    clips = CutClips(mode="subtitles", max_gap_s=0, min_s=0.1).process([film])
    assert np.ravel(_bounds(clips)) == pytest.approx([0.2, 0.6, 0.7, 1.1, 1.6, 2.0])


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "srt"), ("mp4", "mov_text"), ("mkv", "webvtt"), ("mkv", "ass")])
def test_subtitles_within_the_film_are_read(through, tmp_path, long_gop, suffix, codec):
    (tmp_path / "a.mp4").write_bytes(long_gop)
    (tmp_path / "a.srt").write_text(SRT)
    inputs = ["-i", str(tmp_path / "a.mp4"), "-i", str(tmp_path / "a.srt")]
    data = make(tmp_path / f"b.{suffix}", *inputs, "-map", "0", "-map", "1", "-c:v", "copy", "-c:s", codec)
    clips = through(data, CutClips(mode="subtitles", max_gap_s=0, min_s=0.1))
    assert [clip.columns["caption"] for clip in clips] == ["one", "two", "three"]
    assert np.ravel(_bounds(clips)) == pytest.approx([0.1, 0.5, 0.6, 1.0, 1.5, 1.9], abs=0.011)


def test_a_film_without_subtitles_says_so(through, long_gop):
    for own in ({}, {"subtitles": ""}, {"subtitles": "WEBVTT\n\nNOTE nothing\n"}):
        (film,) = through(long_gop, CutClips(mode="subtitles"), own=own)
        assert film.reason is Reason.NO_SUBTITLES


@pytest.mark.parametrize("detector", ["adaptive", "content"])
def test_shots_end_at_the_cut(through, detector):
    rng = np.random.default_rng(5)
    scenes = [rng.integers(0, 255, (6, 10, 3), np.uint8).repeat(16, 0).repeat(16, 1) for _ in range(3)]
    images = [np.roll(scenes[index // 20], index, axis=1) for index in range(60)]  # the camera moves, then cuts
    data = films.encode("mp4", images=images, options={"g": "250"})
    clips = through(data, CutClips(mode="shots", detector=detector, min_s=0.5))
    assert np.ravel(_bounds(clips)) == pytest.approx([0, 1, 1, 2, 2, 3])
    short = through(data, CutClips(mode="shots", detector=detector, min_s=0.4, max_s=0.5))
    assert [clip.columns["duration_s"] for clip in short] == pytest.approx([0.5] * 6)


def test_no_more_clips_than_allowed(through, long_gop):
    assert len(through(long_gop, CutClips(mode="fixed", length_s=0.1, min_s=0, max_clips=3))) == 3


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="go together"):
        CutClips(mode="spans", start_column="start")
    with pytest.raises(ValueError, match="above max_s"):
        CutClips(mode="fixed", min_s=5, max_s=4)
