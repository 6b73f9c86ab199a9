"""Segments lie end to end, are as long as wanted, begin and end in pauses, and say what is said in them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.audio.levels import frame_power
from mmdata.audio.pauses import cuts
from mmdata.audio.segment_audio import Said, SegmentAudio, caption_of, said_in
from mmdata.audio.sound import read_sound
from mmdata.errors import ConfigError, Reason, SampleError
from mmdata.options import build
from mmdata.stage import OWN
from tests.audio import sounds as s
from tests.audio.conftest import KEY

RATE_HZ = 16_000
WORD_S, PAUSE_S = 0.7, 0.3


def words_T(count: int) -> np.ndarray:
    """Tones of WORD_S with pauses of PAUSE_S behind them: word n lasts from n to n + 0.7 seconds."""
    word_T = s.sweep_T(int(WORD_S * RATE_HZ), RATE_HZ)
    return np.tile(np.concatenate([word_T, np.zeros(int(PAUSE_S * RATE_HZ))]), count)


def times(count: int, **names: str) -> list[dict]:
    start, end, text = names.get("start", "start_s"), names.get("end", "end_s"), names.get("text", "text")
    return [{start: float(n), end: n + WORD_S, text: f"w{n}"} for n in range(count)]


def test_segments_lie_end_to_end_within_their_bounds(heard):
    wave_T = words_T(70)
    done = SegmentAudio(max_s=30, min_s=1).process([heard(wave_T)])
    assert [child.key for child in done] == [f"{KEY}_{index:04d}" for index in range(len(done))]
    spans = [(child.columns["clip_start_s"], child.columns["clip_end_s"]) for child in done]
    assert (spans[0][0], spans[-1][1]) == (0, 70)
    assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]]
    sounds = [read_sound(child.parts["flac"])[0] for child in done]
    np.testing.assert_allclose(np.concatenate(sounds), wave_T, atol=1 / 32768)
    for child, sound_T in zip(done, sounds, strict=True):
        assert 1 <= child.columns["duration_s"] == sound_T.size / RATE_HZ <= 30
    for start, _ in spans[1:]:
        assert 0.72 < start % 1 < 0.98  # in a pause, not at its edge


def test_a_short_sound_stays_itself(heard):
    sample = heard(words_T(5), caption="five words")
    before = dict(sample.parts)
    (done,) = SegmentAudio().process([sample])
    assert done is sample
    assert (done.key, done.parts, done.columns["caption"]) == (KEY, before, "five words")
    assert (done.columns["clip_start_s"], done.columns["clip_end_s"]) == (0, 5)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("names", [{}, {"start": "start", "end": "end", "text": "word"}])
def test_the_transcript_goes_with_the_words(heard, as_json, names):
    given_times = times(40, **names)
    own = {"words": json.dumps(given_times) if as_json else given_times}
    done = SegmentAudio(max_s=10, min_s=2, times="words").process([heard(words_T(40), caption="all", own=own)])
    assert len(done) >= 4
    assert " ".join(child.columns["caption"] for child in done) == " ".join(f"w{n}" for n in range(40))
    for child in done:
        first, last = child.columns["clip_start_s"], child.columns["clip_end_s"]
        inside = [f"w{n}" for n in range(40) if first <= n + WORD_S / 2 < last]
        assert child.columns["caption"] == " ".join(inside)


def test_only_with_times_it_asks_for_the_sources_own_columns():
    assert SegmentAudio(times="words").reads == {"sound", OWN}
    assert SegmentAudio().reads == {"sound"}


def test_without_times_a_child_has_no_transcript(heard):
    done = SegmentAudio(max_s=10).process([heard(words_T(25), caption="all of it")])
    assert len(done) > 1
    assert {child.columns["caption"] for child in done} == {None}


def test_times_of_a_trimmed_sound_are_moved_with_it(heard):
    moved = [{**word, "start_s": word["start_s"] + 2, "end_s": word["end_s"] + 2} for word in times(25)]
    sample = heard(words_T(25), own={"words": moved}, trimmed_start_s=2.0)
    done = SegmentAudio(max_s=10, times="words").process([sample])
    assert done[0].columns["clip_start_s"] == 2
    assert done[-1].columns["clip_end_s"] == 27
    assert done[0].columns["caption"].startswith("w0 w1")
    assert done[-1].columns["caption"].endswith("w24")


@pytest.mark.parametrize(
    "value", [None, "", "no json", "{}", "[]", [{}], [{"start_s": "x", "end_s": 1, "text": ""}], [1, 2], 7,
              [{"start_s": 2, "end_s": 1, "text": "a"}], [{"start_s": -1, "end_s": 1, "text": "a"}],
              [{"start_s": 0, "end_s": float("nan"), "text": "a"}]],
)  # fmt: skip
def test_times_that_are_none_fail_a_sound_that_must_be_cut(heard, value):
    done = SegmentAudio(max_s=10, times="words").process([heard(words_T(25), own={"words": value})])
    assert [each.reason for each in done] == [Reason.NO_SPANS]
    assert "column words" in done[0].detail
    assert SegmentAudio(times="words").process([heard(words_T(3), own={"words": value})])[0].is_ok


def test_chinese_words_are_joined_without_blanks():
    said = [Said(0, 1, "一 下"), Said(1, 2, "子"), Said(2, 3, "OK"), Said(3, 4, "good"), Said(4, 5, "好")]
    assert caption_of(said, 0, 5) == "一 下子 OK good 好"
    assert caption_of(said, 0.6, 2) == "子"
    assert caption_of(said, 6, 9) == ""


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 4000),
    max_frames=st.integers(50, 1500),
    share=st.floats(0.01, 0.5),
    seed=st.integers(0, 1000),
    word=st.integers(1, 2000),
)
def test_pieces_are_never_too_long_nor_too_short(frames, max_frames, share, seed, word):
    min_frames = max(1, int(max_frames * share))
    power_N = np.random.default_rng(seed).exponential(size=frames)
    spoken = [(start, min(start + word, frames)) for start in range(0, frames, word)]
    found = cuts(power_N, 0.05, min_frames, max_frames, spoken)
    sizes = np.diff([0, *found, frames])
    assert (sizes <= max_frames).all()
    assert frames <= max_frames or (sizes >= min_frames).all()


def test_words_are_not_cut_where_silence_would_suggest_it():
    power_N = np.full(1000, 0.1)
    power_N[490:505] = 1e-9  # silence within a word
    assert cuts(power_N, 1e-9, 50, 600, [(400, 580), (590, 900)]) == [590]
    assert 490 <= cuts(power_N, 1e-9, 50, 600)[0] < 505


def test_a_speaker_without_a_pause_is_cut_at_the_quietest_place():
    wave_T = s.sweep_T(40 * RATE_HZ, RATE_HZ)
    wave_T[20 * RATE_HZ : 20 * RATE_HZ + 640] *= 0.1
    power_N = frame_power(wave_T.astype(np.float32), RATE_HZ)
    assert cuts(power_N, 1e-6, 50, 1500) in ([1000], [1001])


def test_a_maximum_below_twice_the_minimum_is_refused():
    with pytest.raises(ConfigError, match="must be twice min_s"):
        build(SegmentAudio, {"max_s": 3, "min_s": 2}, "stages[0].segment_audio")
    with pytest.raises(SampleError):
        said_in(None, "words", 0.0)
