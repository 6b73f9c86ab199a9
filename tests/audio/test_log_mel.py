"""log_mel gives librosa's and Whisper's own numbers, as float16."""

from __future__ import annotations

import io

import librosa
import numpy as np
import pytest

from mmdata.audio.log_mel import LogMel
from mmdata.errors import ConfigError
from mmdata.options import build
from tests.audio import sounds as s

LENGTHS = [1, 159, 160, 161, 399, 400, 401, 5000, 16_000, 16_001, 200_000]


def noisy_T(num_samples: int, rate_hz: int = 16_000) -> np.ndarray:
    noise_T = np.random.default_rng(num_samples).normal(size=num_samples) * 0.01
    return (s.sweep_T(num_samples, rate_hz) + noise_T).astype(np.float32)


@pytest.mark.parametrize("num_samples", LENGTHS)
@pytest.mark.parametrize("bands", [80, 128])
def test_librosas_own_numbers(num_samples, bands):
    wave_T = noisy_T(num_samples)
    power = librosa.feature.melspectrogram(
        y=np.pad(wave_T, (0, max(0, 400 - num_samples))), sr=16_000, n_fft=400, hop_length=160, n_mels=bands
    )[:, : 1 + num_samples // 160]
    expected = librosa.power_to_db(power)
    made = LogMel(mel_bands=bands).features(wave_T, 16_000)
    assert made.shape == (bands, 1 + num_samples // 160)
    np.testing.assert_allclose(made, expected, atol=2e-3)


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 22_050, 44_100, 48_000])
def test_every_rate_has_its_window_in_milliseconds(rate_hz):
    wave_T = noisy_T(rate_hz + 77, rate_hz)
    window, hop = round(rate_hz * 0.025), round(rate_hz * 0.010)
    expected = librosa.power_to_db(
        librosa.feature.melspectrogram(
            y=wave_T, sr=rate_hz, n_fft=window, hop_length=hop, n_mels=64, fmin=60, fmax=min(7000, rate_hz / 2)
        )
    )
    made = LogMel(mel_bands=64, fmin_hz=60, fmax_hz=7000).features(wave_T, rate_hz)
    assert made.shape == expected.shape
    np.testing.assert_allclose(made, expected, atol=2e-3)


def test_other_windows_logarithms_and_depths():
    wave_T = noisy_T(20_000)
    power = librosa.feature.melspectrogram(y=wave_T, sr=16_000, n_fft=512, hop_length=128, n_mels=40)
    options = {"mel_bands": 40, "window_ms": 32, "hop_ms": 8}
    np.testing.assert_allclose(
        LogMel(**options, log="ln").features(wave_T, 16_000), np.log(np.maximum(power, 1e-10)), atol=1e-3
    )
    np.testing.assert_allclose(
        LogMel(**options, top_db=None).features(wave_T, 16_000), librosa.power_to_db(power, top_db=None), atol=1e-3
    )


@pytest.mark.parametrize("bands", [80, 128])
@pytest.mark.parametrize("num_samples", [1, 161, 5000, 16_000, 77_777, 480_000, 500_000])
def test_whispers_own_numbers_with_its_padding(num_samples, bands):
    from transformers import WhisperFeatureExtractor

    wave_T = noisy_T(num_samples)
    extractor = WhisperFeatureExtractor(feature_size=bands)
    expected = extractor(wave_T, sampling_rate=16_000, return_tensors="np")["input_features"][0]
    made = LogMel(kind="whisper", mel_bands=bands, pad_to_s=30).features(wave_T, 16_000)
    assert made.shape == expected.shape == (bands, 3000)
    np.testing.assert_allclose(made, expected, atol=1e-4)


@pytest.mark.parametrize("num_samples", [401, 5000, 16_000, 77_777])
def test_whispers_own_numbers_without_padding(num_samples):
    from transformers import WhisperFeatureExtractor

    wave_T = noisy_T(num_samples)
    expected = WhisperFeatureExtractor()(wave_T, sampling_rate=16_000, padding="do_not_pad", return_tensors="np")
    made = LogMel(kind="whisper").features(wave_T, 16_000)
    assert made.shape == (80, num_samples // 160)
    np.testing.assert_allclose(made, expected["input_features"][0], atol=1e-4)


def test_a_pure_tone_equals_whispers_own_double_precision_more_closely_than_its_single():
    """Next to a loud tone the extractor's float32 transform is itself off by 1e-4; its NumPy form is not."""
    from transformers import WhisperFeatureExtractor

    wave_T = s.sweep_T(480_000, 16_000).astype(np.float32)
    extractor = WhisperFeatureExtractor(feature_size=128)
    expected = extractor._np_extract_fbank_features(wave_T[None], "cpu")[0]
    made = LogMel(kind="whisper", mel_bands=128).features(wave_T, 16_000)
    np.testing.assert_allclose(made, expected, atol=2e-5)


def test_whispers_numbers_of_real_speech():
    from transformers import WhisperFeatureExtractor

    wave_T = s.spoken_T()
    expected = WhisperFeatureExtractor()(wave_T, sampling_rate=16_000, return_tensors="np")["input_features"][0]
    np.testing.assert_allclose(LogMel(kind="whisper", pad_to_s=30).features(wave_T, 16_000), expected, atol=1e-4)


def test_a_long_sound_in_chunks_is_each_chunk_by_itself():
    wave_T = noisy_T(70_000)
    whole = LogMel(kind="whisper", pad_to_s=2, chunk=True).features(wave_T, 16_000)
    one = LogMel(kind="whisper", pad_to_s=2)
    chunks = [one.features(wave_T[start : start + 32_000], 16_000) for start in (0, 32_000, 64_000)]
    assert whole.shape == (80, 600)
    np.testing.assert_array_equal(whole, np.concatenate(chunks, axis=1))


def test_whisper_hears_at_16_khz_whatever_the_rate_of_the_sound():
    made = LogMel(kind="whisper").features(noisy_T(48_000, 48_000), 48_000)
    expected = LogMel(kind="whisper").features(
        librosa.resample(noisy_T(48_000, 48_000), orig_sr=48_000, target_sr=16_000), 16_000
    )
    np.testing.assert_allclose(made, expected, atol=1e-4)


@pytest.mark.parametrize("part", ["flac", "wav"])
def test_the_part_is_float16_and_the_column_its_frames(heard, part):
    sample = heard(noisy_T(16_000), part=part)
    (done,) = LogMel().process([sample])
    mel_MN = np.load(io.BytesIO(done.parts["mel.npy"]), allow_pickle=False)
    assert (mel_MN.dtype, mel_MN.shape) == (np.float16, (80, 101))
    assert done.columns["num_mel_frames"] == 101
    assert set(done.parts) == {part, "mel.npy"}
    rounded_T = np.rint(noisy_T(16_000) * 32768) / 32768
    np.testing.assert_allclose(mel_MN, LogMel().features(rounded_T.astype(np.float32), 16_000), atol=0.05)


def test_the_same_sound_gives_the_same_bytes(heard):
    once, again = (LogMel().process([heard(noisy_T(30_000))])[0].parts["mel.npy"] for _ in range(2))
    assert once == again


def test_a_long_sound_is_the_same_in_blocks_of_frames():
    wave_T = noisy_T(16_000 * 25)  # more than two blocks
    power = librosa.feature.melspectrogram(y=wave_T, sr=16_000, n_fft=400, hop_length=160, n_mels=80)
    made = LogMel(top_db=None).features(wave_T, 16_000)
    np.testing.assert_allclose(made, librosa.power_to_db(power, top_db=None), atol=2e-3)


def test_silence_and_one_sample_have_features():
    assert np.isfinite(LogMel().features(np.zeros(1, np.float32), 16_000)).all()
    assert np.isfinite(LogMel(kind="whisper").features(np.zeros(1, np.float32), 16_000)).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"chunk": True}, "chunk: needs pad_to_s"),
        ({"kind": "whisper", "log": "ln"}, "whisper fixes fmin_hz, fmax_hz and log"),
        ({"fmin_hz": 300, "fmax_hz": 200}, "must be above fmin_hz"),
        ({"mel_bands": 4}, "mel_bands"),
        ({"window": 25}, "no such option (did you mean window_ms?)"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, says):
    with pytest.raises(ConfigError) as caught:
        build(LogMel, options, "stages[0].log_mel")
    assert says in str(caught.value)
