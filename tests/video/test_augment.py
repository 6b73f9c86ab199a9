"""Varied copies: drawn from the key, all frames and the MP4 alike, sound and times in step, pitch kept."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
import soundfile

from mmdata.augment import VideoAugment
from mmdata.video.augment import augment, draw, vary
from mmdata.video.cut_clips import CutClips
from mmdata.video.encode_clip import EncodeClip
from mmdata.video.sample_frames import SampleFrames
from mmdata.video.sound_track import SoundTrack
from tests.video import films

NOTHING = VideoAugment(min_speed=1, max_speed=1, crop=0, flip=0, colour=0)
PITCH_HZ = 880


@pytest.fixture(scope="module")
def clip(through, tmp_path_factory):
    """Two seconds of numbered frames with a tone: frames, MP4 and FLAC."""
    time = np.arange(2 * films.RATE_HZ) / films.RATE_HZ
    sound = films.wav(0.4 * np.sin(2 * np.pi * PITCH_HZ * time))
    arguments = ["-c:v", "copy", "-c:a", "aac"]
    data = films.with_sound(tmp_path_factory.mktemp("clip"), films.encode(), sound, "a.mp4", *arguments)
    stages = [CutClips(mode="fixed"), SampleFrames(side_px=96), EncodeClip(side_px=96, crf=10), SoundTrack()]
    (sample,) = through(data, *stages)
    del sample.parts["raw"]
    sample.parts["txt"] = b"numbers"
    return sample


def _copy(clip, key="films-000000000042_0000-x02", **options):
    columns = dict(clip.columns)
    return augment(dict(clip.parts), columns, key, VideoAugment(**options)), columns


def _film(mp4):
    with av.open(io.BytesIO(mp4)) as container:
        frames = [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return [time for time, _ in frames], [image for _, image in frames]


def test_the_same_key_gives_the_same_copy_and_another_key_another(clip):
    first, again, other = _copy(clip), _copy(clip), _copy(clip, "films-000000000042_0000-x03")
    assert first == again
    assert set(first[0]) == set(clip.parts)
    assert first[0]["txt"] == b"numbers"
    for part in ("000.jpg", "mp4", "flac"):
        assert first[0][part] not in (clip.parts[part], other[0][part])


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.6, 2.0])
def test_speed_changes_sound_and_times_alike_and_keeps_the_pitch(clip, speed):
    parts, columns = _copy(clip, min_speed=speed, max_speed=speed, crop=0, colour=0)
    assert columns["duration_s"] == pytest.approx(2 / speed)
    assert columns["fps"] == pytest.approx(20 * speed)
    assert columns["frame_times_s"] == pytest.approx([time / speed for time in clip.columns["frame_times_s"]])
    times_s, images = _film(parts["mp4"])
    assert times_s == pytest.approx([number / 20 / speed for number in range(40)], abs=0.002)
    assert [films.number_of(image) for image in images] == list(range(40))
    wave, rate = soundfile.read(io.BytesIO(parts["flac"]))
    assert (rate, wave.size) == (16000, round(32000 / speed))
    middle = wave[4000:12000] * np.hanning(8000)
    assert np.abs(np.fft.rfft(middle)).argmax() * 2 == pytest.approx(PITCH_HZ, abs=8)
    assert films.numbers_of_parts(parts) == films.numbers_of_parts(clip.parts)


def test_features_of_the_sound_keep_its_speed(clip):
    with_mel = {**clip.parts, "mel.npy": b"features"}
    columns = dict(clip.columns)
    parts = augment(with_mel, columns, "k-x02", VideoAugment(min_speed=2, max_speed=2))
    assert parts["mel.npy"] == b"features"
    assert parts["flac"] == clip.parts["flac"]
    assert columns["duration_s"] == clip.columns["duration_s"]


def test_frames_and_film_are_cropped_alike(clip):
    parts, columns = _copy(clip, min_speed=1, max_speed=1, crop=0.3, colour=0)
    frame = films.rgb(parts["002.jpg"])
    assert (columns["height_px"], columns["width_px"]) == frame.shape[:2]
    assert 0.68 <= frame.shape[0] / 96 <= 1
    assert 0.68 <= frame.shape[1] / 160 <= 1
    _, images = _film(parts["mp4"])
    number = films.numbers_of_parts(clip.parts)[2]
    height, width = min(frame.shape[0], images[number].shape[0]), min(frame.shape[1], images[number].shape[1])
    difference = np.abs(frame[:height, :width].astype(int) - images[number][:height, :width])
    assert np.median(difference) <= 4


def test_a_flip_mirrors_all(clip):
    parts, _ = _copy(clip, min_speed=1, max_speed=1, crop=0, colour=0, flip=1.0)
    for part in ("000.jpg", "004.jpg"):
        assert np.abs(films.rgb(parts[part]).astype(int) - films.rgb(clip.parts[part])[:, ::-1]).mean() < 4
    (_, images), (_, before) = _film(parts["mp4"]), _film(clip.parts["mp4"])
    assert np.abs(images[10].astype(int) - before[10][:, ::-1]).mean() < 4


@pytest.mark.parametrize("number", range(4))
def test_colours_of_film_and_frames_change_alike(clip, number):
    parts, _ = _copy(clip, f"films-{number}-x02", min_speed=1, max_speed=1, crop=0, colour=0.4)
    _, images = _film(parts["mp4"])
    frame, image = films.rgb(parts["000.jpg"]), images[films.numbers_of_parts(clip.parts)[0]]
    for place in ((-4, 40), (20, 4)):  # white, black
        assert np.abs(image[place].astype(int) - frame[place]).max() <= 6
    assert parts["000.jpg"] != clip.parts["000.jpg"]


def test_no_change_leaves_pictures_as_they_are():
    change = draw("any", NOTHING)
    assert (change.speed, change.kept, change.is_flipped, change.offset) == (1, 1, False, 0)
    image = np.random.default_rng(1).integers(0, 255, (20, 30, 3), np.uint8)
    assert (vary(image, change) == image).all()


def test_draws_stay_within_their_options():
    options = VideoAugment(min_speed=0.5, max_speed=2, crop=0.2, flip=0.5, colour=0.1)
    changes = [draw(f"films-{index}-x02", options) for index in range(300)]
    speeds = [change.speed for change in changes]
    assert min(speeds) >= 0.5
    assert max(speeds) <= 2
    assert abs(np.mean(np.log(speeds))) < 0.1
    assert min(change.kept for change in changes) >= 0.8
    assert 100 < sum(change.is_flipped for change in changes) < 200
