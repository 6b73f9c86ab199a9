"""Sound and pictures of a clip are in step: a flash and a beep at one instant stay so in every container."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from mmdata.errors import Reason
from mmdata.video.cut_clips import CutClips
from mmdata.video.sample_frames import SampleFrames
from mmdata.video.sound_track import SoundTrack
from tests.video import films

FPS, SECONDS = 25, 6
EVENTS_S = (0.4, 2.0, 3.52, 5.2)
STEP_S = 0.02  # what the two may differ by
CLOCK_S = 0.09  # a container's clock may begin with its sound's priming, or with what B-frames delay
COPIED = ["-c:v", "copy"]
FILES = {
    "aac.mp4": [*COPIED, "-c:a", "aac"],
    "aac.mov": [*COPIED, "-c:a", "aac"],
    "pcm.mov": [*COPIED, "-c:a", "pcm_s16le"],
    "mp3.mp4": [*COPIED, "-c:a", "libmp3lame"],
    "fragments.mp4": [*COPIED, "-c:a", "aac", "-movflags", "frag_keyframe+delay_moov"],
    "aac.mkv": [*COPIED, "-c:a", "aac"],
    "opus.mkv": [*COPIED, "-c:a", "libopus"],
    "vorbis.mkv": [*COPIED, "-c:a", "libvorbis"],
    "opus.webm": ["-c:v", "libvpx", "-deadline", "realtime", "-b:v", "1M", "-c:a", "libopus"],
    "aac.ts": [*COPIED, "-c:a", "aac"],
    "ac3.ts": [*COPIED, "-c:a", "ac3"],
    "mp2.mpg": ["-c:v", "mpeg2video", "-q:v", "3", "-c:a", "mp2"],
    "pcm.avi": ["-c:v", "mpeg4", "-q:v", "3", "-c:a", "pcm_s16le"],
    "aac.flv": [*COPIED, "-c:a", "aac"],
}


@pytest.fixture(scope="module")
def flashes():
    """(film with a white frame at each event, sound with a beep that begins there)."""
    images = [np.full((64, 96, 3), 16, np.uint8) for _ in range(FPS * SECONDS)]
    wave = np.random.default_rng(1).normal(0, 0.001, films.RATE_HZ * SECONDS)
    for event_s in EVENTS_S:
        images[round(event_s * FPS)][:] = 235
        start, length = round(event_s * films.RATE_HZ), films.RATE_HZ // FPS
        wave[start : start + length] += 0.5 * np.sin(2 * np.pi * 1000 * np.arange(length) / films.RATE_HZ)
    return films.encode(images=images, fps=FPS, options={"g": "40", "bf": "2"}), films.wav(wave)


def _onsets_s(flac: bytes) -> list[float]:
    wave, rate = soundfile.read(io.BytesIO(flac))
    loud = np.convolve(np.abs(wave), np.ones(32) / 32, "same") > 0.1
    starts = np.flatnonzero(loud[1:] & ~loud[:-1])
    return [start / rate for start in starts if not loud[max(0, start - rate // 20) : start].any()]


def _flashes_s(clip) -> list[float]:
    lights = [films.rgb(clip.parts[part]).mean() for part in clip.frame_parts]
    return [time for time, light in zip(clip.columns["frame_times_s"], lights, strict=True) if light > 120]


def _check(clips, spans) -> None:
    for clip, (start_s, end_s) in zip(clips, spans, strict=True):
        assert clip.is_ok, clip.detail
        wanted = [event_s - start_s for event_s in EVENTS_S if start_s <= event_s < end_s]
        assert _flashes_s(clip) == pytest.approx(wanted, abs=CLOCK_S)
        assert _onsets_s(clip.parts["flac"]) == pytest.approx(_flashes_s(clip), abs=STEP_S)
        assert soundfile.info(io.BytesIO(clip.parts["flac"])).frames == round((end_s - start_s) * 16000)


SPANS = [(0, 6), (0.2, 1.2), (1.5, 4.03), (3.333, 5.9)]


def _clips(through, data, spans=SPANS):
    own = {"spans": [list(span) for span in spans]}
    return through(data, CutClips(mode="spans"), SampleFrames(fps=FPS, side_px=16), SoundTrack(), own=own)


@pytest.mark.parametrize("name", FILES)
def test_sound_is_in_step_in_every_container(through, tmp_path, flashes, name):
    film, sound = flashes
    _check(_clips(through, films.with_sound(tmp_path, film, sound, name, *FILES[name])), SPANS)


@pytest.mark.parametrize("name", ["aac.mp4", "aac.mkv", "aac.ts"])
@pytest.mark.parametrize("offset_s", [0.3, -0.3])
def test_sound_that_begins_later_or_earlier_is_in_step(through, tmp_path, flashes, name, offset_s):
    """The first 0.3 s of sound are cut off, or there is 0.3 s more of it in front, with time stamps that say so."""
    film, sound = flashes
    wave, _ = soundfile.read(io.BytesIO(sound))
    missing = round(offset_s * films.RATE_HZ)
    cut = wave[missing:] if missing > 0 else np.concatenate([np.zeros(-missing), wave])
    before = ["-itsoffset", str(offset_s)]
    data = films.with_sound(tmp_path, film, films.wav(cut), name, *FILES[name], before_sound=before)
    samples = _clips(through, data, [(0, 6)])
    (sample,) = samples
    assert _onsets_s(sample.parts["flac"]) == pytest.approx(_flashes_s(sample), abs=STEP_S)
    assert len(_flashes_s(sample)) >= 3


def test_the_sound_is_mono_16_bit_16_khz_without_metadata(through, tmp_path, flashes):
    film, sound = flashes
    tags = ["-metadata", "title=secret", "-c:v", "copy", "-ac", "2", "-c:a", "aac"]
    (sample,) = through(films.with_sound(tmp_path, film, sound, "a.mp4", *tags), SoundTrack())
    info = soundfile.info(io.BytesIO(sample.parts["flac"]))
    assert (info.channels, info.samplerate, info.subtype, info.format) == (1, 16000, "PCM_16", "FLAC")
    assert info.frames == SECONDS * 16000
    assert sample.columns["sample_rate_hz"] == 16000
    assert b"secret" not in sample.parts["flac"]
    assert b"Lav" not in sample.parts["flac"]


def test_the_same_sound_comes_again(through, tmp_path, flashes):
    film, sound = flashes
    data = films.with_sound(tmp_path, film, sound, "a.mp4", "-c:v", "copy", "-c:a", "aac")
    (first,), (again,) = (through(data, SoundTrack()) for _ in range(2))
    assert first.parts["flac"] == again.parts["flac"]


def test_sound_that_ends_before_the_pictures_ends_in_silence(through, tmp_path, flashes):
    film, _ = flashes
    short = films.wav(np.full(films.RATE_HZ, 0.3))
    (sample,) = through(films.with_sound(tmp_path, film, short, "a.mkv", "-c:v", "copy", "-c:a", "flac"), SoundTrack())
    wave, _ = soundfile.read(io.BytesIO(sample.parts["flac"]))
    assert wave.size == SECONDS * 16000
    assert np.abs(wave[16100:]).max() == 0
    assert np.abs(wave[100:15900]).min() > 0.25


def test_a_hole_in_the_sound_is_silence_and_what_follows_stays_in_step(through, tmp_path, flashes):
    film, sound = flashes
    hole = ["-af", "aselect='not(between(t,2.5,3.2))'", "-c:v", "copy", "-c:a", "aac"]
    (sample,) = _clips(through, films.with_sound(tmp_path, film, sound, "a.mkv", *hole), [(0, 6)])
    assert _onsets_s(sample.parts["flac"]) == pytest.approx(EVENTS_S, abs=STEP_S)


def test_lengths_are_exact_for_any_span(through, tmp_path, flashes):
    film, sound = flashes
    data = films.with_sound(tmp_path, film, sound, "a.mp4", "-c:v", "copy", "-c:a", "aac")
    rng = np.random.default_rng(3)
    spans = [(float(start), float(start + length)) for start, length in rng.uniform(0.01, 2.9, (6, 2))]
    clips = through(data, CutClips(mode="spans", min_s=0), SoundTrack(), own={"spans": [list(span) for span in spans]})
    lengths = {clip.key[-4:]: soundfile.info(io.BytesIO(clip.parts["flac"])).frames for clip in clips}
    assert len(lengths) >= 5
    for key, frames in lengths.items():
        start_s, end_s = spans[int(key)]
        assert frames == round((end_s - start_s) * 16000)


def test_a_film_without_sound_passes_or_fails_where_sound_is_required(through, flashes):
    (sample,) = through(flashes[0], SoundTrack())
    assert sample.is_ok
    assert sample.sound_part is None
    assert sample.columns["has_sound"] is False
    (sample,) = through(flashes[0], SoundTrack(require=True))
    assert sample.reason is Reason.NO_SOUND
