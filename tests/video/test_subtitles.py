"""SRT and WebVTT: what is written is read again; what strangers write is read or left out, never an error."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.video.subtitles import Cue, merged, parse, shifted
from tests.video.films import to_srt

SRT = """\ufeff1
00:00:01,000 --> 00:00:02,500
- <i>Hello</i>,
  {\\an8}world &amp; all

2
00:00:03,000 --> 00:00:04,000 X1:10 X2:20
second
"""
VTT = """WEBVTT - a title

NOTE
00:00.000 --> 00:09.000 in a note

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.500 align:start position:0%
<v Anna>Hello <00:00:01.500><c>world</c></v>

1:00:03.000 --> 1:00:04.000
&lt;late&gt;
"""
WORDS = st.text("abcdefghijk lmnopé中文&<>.,!?-", min_size=1, max_size=30).filter(
    lambda text: text.strip() and "<" not in text and "-->" not in text
)
TIMES = st.integers(0, 10_000_000)


@st.composite
def cue_lists(draw):
    cues = []
    for _ in range(draw(st.integers(0, 12))):
        start_ms, length_ms = draw(TIMES), draw(st.integers(1, 60_000))
        cues.append(Cue(start_ms / 1000, (start_ms + length_ms) / 1000, " ".join(draw(WORDS).split())))
    return sorted(cues, key=lambda cue: (cue.start_s, cue.end_s))


def test_srt_is_read():
    assert parse(SRT) == [Cue(1.0, 2.5, "- Hello, world & all"), Cue(3.0, 4.0, "second")]
    assert parse(SRT.replace("\n", "\r\n")) == parse(SRT)
    assert parse(SRT.replace("\n", "\r")) == parse(SRT)


def test_webvtt_is_read_without_notes_and_styles():
    assert parse(VTT) == [Cue(1.0, 2.5, "Hello world"), Cue(3603.0, 3604.0, "<late>")]


def test_a_cue_may_follow_without_an_empty_line():
    text = "1\n00:00:01,000 --> 00:00:02,000\none\n2\n00:00:02,000 --> 00:00:03,000\ntwo 2\n"
    assert parse(text) == [Cue(1, 2, "one"), Cue(2, 3, "two 2")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no cue",
        "00:00:05,000 --> 00:00:04,000\nbackwards",
        "00:00:01,000 --> 00:00:02,000\n\n",
        "1 --> 2\nx",
        "\0" * 9,
    ],
)
def test_what_is_no_cue_is_left_out(text):
    assert parse(text) == []


@given(cue_lists())
def test_what_is_written_is_read_again(cues):
    assert parse(to_srt(cues)) == cues
    vtt = "WEBVTT\n\n" + to_srt(cues).replace(",", ".")
    assert [(cue.start_s, cue.end_s) for cue in parse(vtt)] == [(cue.start_s, cue.end_s) for cue in cues]


@given(st.text(max_size=400))
def test_any_text_gives_cues_in_order_that_last(text):
    cues = parse(text.replace("x", "00:00:01,5 --> 0:02.7"))
    assert cues == sorted(cues, key=lambda cue: (cue.start_s, cue.end_s))
    assert all(cue.end_s > cue.start_s >= 0 and cue.text == cue.text.strip() != "" for cue in cues)


@given(cue_lists(), st.floats(0.1, 60), st.floats(0, 5))
def test_joining_loses_no_word_and_keeps_the_bounds(cues, max_s, max_gap_s):
    joined = merged(cues, max_s=max_s, max_gap_s=max_gap_s)
    assert set(" ".join(cue.text for cue in joined).split()) == set(" ".join(cue.text for cue in cues).split())
    assert {cue.start_s for cue in joined} <= {cue.start_s for cue in cues}
    assert {cue.end_s for cue in joined} <= {cue.end_s for cue in cues}
    for before, after in pairwise(joined):
        assert after.start_s >= before.end_s  # overlapping cues became one
    for cue in joined:
        inside = [one for one in cues if cue.start_s <= one.start_s < cue.end_s]
        overlaps = any(b.start_s < a.end_s for a, b in pairwise(inside))
        assert cue.end_s - cue.start_s <= max_s + 1e-9 or len(inside) == 1 or overlaps


def test_neighbours_join_until_the_clip_is_long_enough():
    cues = [Cue(0, 2, "a"), Cue(2.5, 4, "b"), Cue(4.2, 7, "c"), Cue(12, 13, "d")]
    assert merged(cues, max_s=5, max_gap_s=1) == [Cue(0, 4, "a b"), Cue(4.2, 7, "c"), Cue(12, 13, "d")]
    assert merged(cues, max_s=0.5, max_gap_s=1) == cues


def test_a_shift_moves_all_and_nothing_begins_before_the_film():
    cues = [Cue(0.5, 1.5, "a"), Cue(2, 3, "b"), Cue(4, 6, "c")]
    assert shifted(cues, 1) == [Cue(1.5, 2.5, "a"), Cue(3, 4, "b"), Cue(5, 7, "c")]
    assert shifted(cues, -2.5) == [Cue(0, 0.5, "b"), Cue(1.5, 3.5, "c")]
