"""Subtitles against speech: shares and planted shifts are found, on real speech to a tenth of a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmdata.video.align_subtitles import AlignSubtitles
from mmdata.video.alignment import STEP_S, align, speech_steps
from mmdata.video.cut_clips import CutClips
from mmdata.video.subtitles import Cue, shifted
from tests.video import films

SPEECH = Path(__file__).parents[3] / "shared" / "data" / "speech-en" / "wav"
SECONDS = 40


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """(a film in which numbers are spoken with irregular pauses, cues of when each is)."""
    if not SPEECH.is_dir():
        pytest.skip(f"{SPEECH} is not there")
    rng = np.random.default_rng(11)
    wave, cues, at_s = rng.normal(0, 0.0005, SECONDS * films.RATE_HZ), [], 3.5
    files = sorted(SPEECH.glob("*_jackson_*.wav"))
    while at_s < SECONDS - 5:
        for path in rng.choice(files, rng.integers(1, 4)):
            said, rate = soundfile.read(path)
            said = np.interp(np.arange(0, said.size, rate / films.RATE_HZ), np.arange(said.size), said)
            start = round(at_s * films.RATE_HZ)
            wave[start : start + said.size] += said
            cues.append(Cue(round(at_s, 3), round(at_s + said.size / films.RATE_HZ, 3), path.stem.split("_")[0]))
            at_s += said.size / films.RATE_HZ + 0.1
        at_s += float(rng.uniform(0.5, 3.0))
    film = films.encode(frames=SECONDS * 2, fps=2)
    folder = tmp_path_factory.mktemp("spoken")
    return films.with_sound(folder, film, films.wav(wave), "a.mp4", "-c:v", "copy", "-c:a", "aac"), cues


@pytest.mark.parametrize("shift_s", [0.0, 2.0, -2.0, 0.7])
def test_a_planted_shift_is_found_to_a_tenth_of_a_second(through, spoken, shift_s):
    film, cues = spoken
    (sample,) = through(film, AlignSubtitles(), own={"subtitles": films.to_srt(shifted(cues, shift_s))})
    assert sample.is_ok
    assert sample.columns["subtitle_shift_s"] == pytest.approx(-shift_s, abs=0.1)
    assert sample.columns["subtitle_correction_s"] == 0
    if shift_s == 0:
        assert sample.columns["speech_in_subtitles"] > 0.7
    elif abs(shift_s) == 2:
        assert sample.columns["speech_in_subtitles"] < 0.5


def test_a_corrected_shift_puts_the_clips_where_the_words_are(through, spoken):
    film, cues = spoken
    cut = CutClips(mode="subtitles", max_gap_s=0, min_s=0)
    clips = through(film, AlignSubtitles(correct=True), cut, own={"subtitles": films.to_srt(shifted(cues, 2.0))})
    right = [cue for cue in cues if cue.start_s < SECONDS - 3]
    assert [clip.columns["caption"] for clip in clips][: len(right)] == [cue.text for cue in right]
    for clip, cue in zip(clips, right, strict=False):
        assert clip.columns["clip_start_s"] == pytest.approx(cue.start_s, abs=0.1)
    assert clips[0].columns["subtitle_correction_s"] == pytest.approx(-2.0, abs=0.1)


def test_subtitles_that_fit_are_left_alone(through, spoken):
    film, cues = spoken
    (sample,) = through(film, AlignSubtitles(correct=True), own={"subtitles": films.to_srt(cues)})
    assert sample.columns["subtitle_correction_s"] == 0


def test_films_without_sound_or_subtitles_pass(through, long_gop, spoken):
    (sample,) = through(long_gop, AlignSubtitles(), own={"subtitles": "00:00:00,100 --> 00:00:01,000\nx"})
    assert sample.is_ok
    assert "subtitle_shift_s" not in sample.columns
    (sample,) = through(spoken[0], AlignSubtitles())
    assert sample.is_ok
    assert "speech_in_subtitles" not in sample.columns


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(8, 150), min_size=8, max_size=24, unique=True), st.integers(-400, 400))
def test_any_shift_in_range_is_found_exactly(lengths, steps):
    """Speech and pauses of lengths that are all different fit at one place only."""
    spoken = np.zeros(sum(lengths) + 1200, bool)
    cues, at = [], 600
    for index, length in enumerate(lengths):
        if index % 2 == 0:
            spoken[at : at + length] = True
            cues.append(Cue(at * STEP_S, (at + length) * STEP_S, "x"))
        at += length
    assume(len(cues) >= 3)
    found = align(shifted(cues, steps * STEP_S), spoken, 5.0)
    assert found.shift_s == pytest.approx(-steps * STEP_S, abs=1e-6)
    assert found.shifted_share == pytest.approx(1.0)
    assert 0 <= found.speech_share <= found.shifted_share


def test_cues_longer_than_their_words_fit_with_the_words_in_their_middle():
    spoken = np.zeros(3000, bool)
    spoken[1000:1200] = spoken[1600:1700] = True
    cues = [Cue(9.5, 12.5, "a"), Cue(15.5, 17.5, "b")]
    assert align(cues, spoken, 5).shift_s == 0
    assert align(shifted(cues, 1.0), spoken, 5).shift_s == pytest.approx(-1.0)


def test_without_speech_there_is_nothing_to_fit():
    for spoken in (np.zeros(1000, bool), np.ones(1000, bool)):
        found = align([Cue(1, 2, "x")], spoken, 5)
        assert found.shift_s == 0
        assert found.speech_share == float(spoken[0])
    assert align([Cue(100, 200, "behind the end")], np.arange(1000) < 500, 5).speech_share == 0


def test_pieces_of_sound_give_the_same_as_the_whole():
    rng = np.random.default_rng(2)
    pcm = (rng.normal(0, 3000, 48_000) * (np.arange(48_000) // 8000 % 2)).astype("<i2").tobytes()
    whole = speech_steps([pcm], 2)
    assert whole.size == 300
    assert (speech_steps([pcm[:10_002], pcm[10_002:50_000], pcm[50_000:]], 2) == whole).all()
