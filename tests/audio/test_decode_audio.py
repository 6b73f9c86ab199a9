"""What comes out of decode_audio is mono 16-bit sound of the wanted rate and exactly as long as what went in."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest
import soundfile

from mmdata.audio.decode_audio import DecodeAudio, suffix_of
from mmdata.errors import Reason
from mmdata.sample import Sample
from tests.audio import sounds as s

WRITTEN_BY_FFMPEG = {  # name: (rate, container, options of FFmpeg, what the column says)
    "mp3": (44_100, "mp3", ["-c:a", "libmp3lame"], "mp3"),
    "mp3 at 22 kHz": (22_050, "mp3", ["-c:a", "libmp3lame"], "mp3"),
    "vorbis": (44_100, "ogg", ["-c:a", "libvorbis"], "vorbis"),
    "opus": (48_000, "ogg", ["-c:a", "libopus"], "opus"),
    "opus of 16 kHz": (16_000, "ogg", ["-c:a", "libopus"], "opus"),
    "webm": (48_000, "webm", ["-c:a", "libopus"], "opus"),
    "m4a": (44_100, "ipod", ["-c:a", "aac"], "aac"),
    "alac": (44_100, "ipod", ["-c:a", "alac"], "alac"),
    "wma": (44_100, "asf", ["-c:a", "wmav2"], "wmav2"),
    "adpcm in wav": (44_100, "wav", ["-c:a", "adpcm_ms"], "adpcm_ms"),
    "aiff": (44_100, "aiff", [], "pcm_s16be"),
    "wavpack": (44_100, "wv", [], "wavpack"),
    "caf": (44_100, "caf", [], "pcm_s16be"),
}
HOLLOW = {"wma"}  # does not say what of it is the encoder's filling, so length and position are near only


def wanted(num_samples: int, rate_hz: int, to_hz: int = 16_000) -> int:
    return int(Fraction(num_samples * to_hz, rate_hz) + Fraction(1, 2))


def correlation(left_T: np.ndarray, right_T: np.ndarray) -> float:
    return float(np.corrcoef(left_T, right_T)[0, 1])


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_every_rate_becomes_16_khz_of_exact_length(decode, rate_hz, kind):
    num_samples = rate_hz + 123
    sample = decode(s.file_of(s.sweep_T(num_samples, rate_hz), rate_hz, kind))
    made_TC, made_hz = s.load(sample.parts["flac"])
    assert (len(made_TC), made_TC.shape[1], made_hz) == (wanted(num_samples, rate_hz), 1, 16_000)
    assert sample.columns["duration_s"] == len(made_TC) / 16_000
    assert sample.columns["original_sample_rate_hz"] == rate_hz
    expected_T = s.tone_at(np.arange(len(made_TC)) / 16_000, num_samples / rate_hz)
    assert correlation(made_TC[:, 0], expected_T) > 0.9995


@pytest.mark.parametrize("name", WRITTEN_BY_FFMPEG)
def test_every_format_keeps_length_and_position(decode, name):
    rate_hz, container, options, codec = WRITTEN_BY_FFMPEG[name]
    num_samples = 2 * rate_hz + 123
    sample = decode(s.encode(s.sweep_T(num_samples, rate_hz), rate_hz, container, *options))
    assert sample.is_ok, sample.detail
    columns = sample.columns
    assert (columns["audio_codec"], columns["original_channels"], columns["sample_rate_hz"]) == (codec, 1, 16_000)
    made_T = s.load(sample.parts["flac"])[0][:, 0]
    assert abs(len(made_T) - wanted(num_samples, rate_hz)) <= (200 if name in HOLLOW else 1)
    if name in HOLLOW:
        return
    plain_T = s.load(decode(s.file_of(s.sweep_T(num_samples, rate_hz), rate_hz)).parts["flac"])[0][:, 0]
    both = min(len(plain_T), len(made_T))
    assert correlation(made_T[:both], plain_T[:both]) > 0.98  # a shift of two samples at 3 kHz would show


@pytest.mark.parametrize(
    ("container", "rate_hz", "options", "frame"),
    [("g722", 16_000, ["-c:a", "g722"], 4), ("amr", 8000, ["-c:a", "libopencore_amrnb", "-b:a", "12.2k"], 640)],
)
def test_telephone_formats_are_whole_frames(decode, container, rate_hz, options, frame):
    data = s.encode(s.sweep_T(2 * rate_hz + 123, rate_hz, 1500), rate_hz, container, *options)
    sample = decode(data, url=f"/sounds/en/hello.{container}")
    assert sample.is_ok
    assert 0 <= len(s.load(sample.parts["flac"])[0]) - wanted(2 * rate_hz + 123, rate_hz) < frame
    assert sample.columns["original_sample_rate_hz"] == rate_hz


@pytest.mark.parametrize("name", ["sound.wav", "sound.flac", "sound.bin", "https://media.example/a?b=c.g722"])
def test_an_mp3_is_read_as_one_whatever_it_is_named(decode, name):
    data = s.encode(s.sweep_T(44_100, 44_100), 44_100, "mp3", "-c:a", "libmp3lame")
    sample = decode(data, url=name)
    assert (sample.columns["audio_codec"], sample.columns["duration_s"]) == ("mp3", 1.0)


def test_a_g722_without_its_suffix_is_unsupported(decode):
    data = s.encode(s.sweep_T(16_000, 16_000), 16_000, "g722", "-c:a", "g722")
    assert decode(data, url="/sounds/hello.g722").is_ok
    assert decode(data, url="/sounds/hello").reason is Reason.UNSUPPORTED
    assert [suffix_of(url) for url in (None, "", "a.G722", "http://h/x.amr?y=.z", "/a.b/c")] == [
        "",
        "",
        "g722",
        "amr",
        "",
    ]


@pytest.mark.parametrize("channels", range(1, 9))
def test_channels_become_their_mean(decode, channels):
    rng = np.random.default_rng(channels)
    wave_TC = rng.uniform(-0.9, 0.9, (4000, channels))
    sample = decode(s.file_of(wave_TC, 16_000, "WAV", "FLOAT"))
    assert sample.columns["original_channels"] == channels
    np.testing.assert_allclose(s.load(sample.parts["flac"])[0][:, 0], wave_TC.mean(axis=1), atol=1 / 32768)


def test_the_mean_is_librosas_to_mono(decode):
    import librosa

    wave_TC = np.random.default_rng(1).uniform(-0.5, 0.5, (4000, 2)).astype(np.float32)
    made_T = s.load(decode(s.file_of(wave_TC, 16_000, "WAV", "FLOAT")).parts["flac"])[0][:, 0]
    np.testing.assert_allclose(made_T, librosa.to_mono(wave_TC.T), atol=1 / 32768)


def test_one_channel_can_be_chosen_and_must_be_there(decode):
    wave_TC = np.stack([s.sweep_T(4000, 16_000), np.zeros(4000)], axis=1)
    data = s.file_of(wave_TC, 16_000)
    assert np.abs(s.load(decode(data, channel=0).parts["flac"])[0]).max() > 0.4
    assert np.abs(s.load(decode(data, channel=1).parts["flac"])[0]).max() == 0
    missing = decode(data, channel=2)
    assert (missing.reason, missing.detail) == (Reason.NO_SOUND, "has 2 channels, wanted number 2")


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_every_width_of_wav_is_read(decode, subtype):
    wave_T = s.sweep_T(8000, 16_000)
    made_T = s.load(decode(s.file_of(wave_T, 16_000, "WAV", subtype)).parts["flac"])[0][:, 0]
    assert len(made_T) == 8000
    assert correlation(made_T, wave_T) > 0.995


@pytest.mark.parametrize("part", ["flac", "wav"])
def test_16_bits_of_the_same_rate_keep_every_bit(decode, part):
    wave_T = np.random.default_rng(3).integers(-32768, 32768, 20_000).astype(np.int16)
    sample = decode(s.file_of(wave_T, 16_000), format=part)
    made_T, rate_hz = soundfile.read(io.BytesIO(sample.parts[part]), dtype="int16")
    assert rate_hz == 16_000
    np.testing.assert_array_equal(made_T, wave_T)


def test_sound_beyond_full_scale_is_clipped_not_wrapped(decode):
    wave_T = 3 * np.sin(np.arange(4000) / 50)
    made_T = s.load(decode(s.file_of(wave_T, 16_000, "WAV", "FLOAT")).parts["flac"])[0][:, 0]
    np.testing.assert_allclose(made_T, np.clip(wave_T, -1, 1), atol=2 / 32768)


def test_resampling_is_librosas(decode):
    import librosa

    wave_T = s.sweep_T(44_100, 44_100).astype(np.float32)
    made_T = s.load(decode(s.file_of(wave_T, 44_100, "WAV", "FLOAT")).parts["flac"])[0][:, 0]
    expected_T = librosa.resample(wave_T, orig_sr=44_100, target_sr=16_000, res_type="soxr_hq")
    np.testing.assert_allclose(made_T, expected_T[: len(made_T)], atol=1 / 32768)


@pytest.mark.parametrize("rate_hz", [8000, 22_050, 16_000, 48_000])
def test_another_rate_can_be_wanted(decode, rate_hz):
    sample = decode(s.file_of(s.sweep_T(16_001, 16_000), 16_000), sample_rate_hz=rate_hz)
    assert len(s.load(sample.parts["flac"])[0]) == wanted(16_001, 16_000, rate_hz)
    assert sample.columns["sample_rate_hz"] == rate_hz


def test_the_same_bytes_give_the_same_bytes(decode):
    for container, options in (("mp3", ["-c:a", "libmp3lame"]), ("ipod", ["-c:a", "aac"]), ("flac", [])):
        data = s.encode(s.sweep_T(44_100, 44_100), 44_100, container, *options)
        assert decode(data).parts == decode(data).parts


@pytest.mark.parametrize(
    ("options", "reason", "detail"),
    [
        ({"max_duration_s": 1.9}, Reason.TOO_LONG, "2.00 s, wanted 1.9 s at most"),
        ({"min_duration_s": 2.1}, Reason.TOO_SHORT, "2.00 s, wanted 2.1 s at least"),
    ],
)
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_a_sound_outside_a_limit_is_dropped_with_its_length(decode, kind, options, reason, detail):
    data = s.file_of(s.sweep_T(32_000, 16_000), 16_000, kind, "VORBIS" if kind == "OGG" else "PCM_16")
    sample = decode(data, **options)
    assert sample.reason is reason
    assert sample.detail == detail or kind != "FLAC"
    assert not sample.parts
    assert decode(data, min_duration_s=2.0, max_duration_s=2.0).is_ok


def test_silence_is_sound(decode):
    sample = decode(s.file_of(np.zeros(16_000), 16_000))
    assert (sample.is_ok, sample.columns["duration_s"]) == (True, 1.0)


def test_one_bad_sample_does_not_touch_its_neighbours():
    good = s.file_of(s.sweep_T(4000, 16_000), 16_000)
    samples = [Sample(f"a-{i:012d}", {"raw": data}, {}) for i, data in enumerate([good, b"<html>", good])]
    done = DecodeAudio().process(samples)
    assert [each.reason for each in done] == [Reason.OK, Reason.UNSUPPORTED, Reason.OK]
    assert done[0].parts == done[2].parts
