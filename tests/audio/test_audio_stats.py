"""The numbers of audio_stats are those that were put into the sound."""

from __future__ import annotations

import numpy as np
import pytest

from mmdata.audio.audio_stats import AudioStats, bandwidth_hz, clipping_share, snr_db
from mmdata.audio.levels import frame_power
from mmdata.audio.resample import resampled
from mmdata.audio.sound import read_sound
from mmdata.audio.speech import speech_frames
from tests.audio import sounds as s

RATE_HZ = 16_000


def white_T(num_samples: int, power: float, seed: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=num_samples) * np.sqrt(power)).astype(np.float32)


def measured(sample) -> dict:
    (done,) = AudioStats().process([sample])
    assert done.is_ok
    return done.columns


@pytest.mark.parametrize("snr", [0, 5, 10, 20])
@pytest.mark.parametrize("speaker", [0, 3, 7])
def test_the_snr_of_speech_in_white_noise_is_found_to_2_db(snr, speaker):
    speech_T = s.spoken_T(speaker)
    mixed_T = speech_T + white_T(speech_T.size, float(np.mean(speech_T**2)) / 10 ** (snr / 10))
    assert abs(snr_db(frame_power(mixed_T, RATE_HZ)) - snr) < 2


def test_the_snr_of_silence_of_noise_and_of_a_tone_between_silences():
    assert snr_db(frame_power(np.zeros(RATE_HZ, np.float32), RATE_HZ)) == -20
    assert snr_db(frame_power(white_T(RATE_HZ, 0.01), RATE_HZ)) < -5
    tone_T = np.concatenate([np.zeros(8000), s.sweep_T(8000, RATE_HZ)]).astype(np.float32)
    assert snr_db(frame_power(tone_T, RATE_HZ)) == 100


@pytest.mark.parametrize("gain_db", [6, 12, 20])
@pytest.mark.parametrize("ceiling", [1.0, 0.3])
def test_the_clipped_share_is_found_at_any_level(gain_db, ceiling):
    speech_T = s.spoken_T() / np.abs(s.spoken_T()).max() * 10 ** (gain_db / 20)
    true_share = float((np.abs(speech_T) >= 1).mean())
    found = clipping_share(np.clip(speech_T, -1, 1).astype(np.float32) * ceiling)
    assert abs(found - true_share) < 0.2 * true_share


def test_clipping_before_resampling_is_still_seen_at_full_scale():
    high_T = resampled(s.spoken_T(), RATE_HZ, 44_100)
    clipped_T = np.clip(high_T / np.abs(high_T).max() * 4, -1, 1)
    true_share = float((np.abs(clipped_T) >= 1).mean())
    found = clipping_share(np.clip(resampled(clipped_T, 44_100, RATE_HZ), -1, 1))
    assert 0.5 * true_share < found < 1.2 * true_share


@pytest.mark.parametrize("hz", [53.7, 443.1, 3011.3])
def test_tones_and_clean_speech_are_not_clipped(hz):
    assert clipping_share(np.sin(2 * np.pi * hz * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32)) == 0
    assert clipping_share(s.spoken_T()) < 1e-3
    assert clipping_share(np.zeros(100, np.float32)) == 0


def test_up_sampled_8_khz_sound_is_found_by_its_bandwidth():
    for number in range(5):
        low_T = resampled(s.spoken_T(number), RATE_HZ, 8000)
        again_T = np.rint(resampled(low_T, 8000, RATE_HZ) * 32768).astype(np.float32) / 32768
        assert 3500 < bandwidth_hz(again_T, RATE_HZ) < 4200
        assert bandwidth_hz(s.spoken_T(number), RATE_HZ) > 5500


def test_telephone_recordings_at_16_khz_have_half_the_band(decode):
    for path in s.spoken_files("speech-en")[::30]:
        sample = decode(path.read_bytes())
        assert sample.columns["original_sample_rate_hz"] == 8000
        assert bandwidth_hz(*read_sound(sample.parts["flac"])) < 4300


def test_the_bandwidth_of_noise_of_silence_and_of_a_low_tone():
    assert bandwidth_hz(white_T(RATE_HZ, 0.01), RATE_HZ) == RATE_HZ / 2
    assert bandwidth_hz(np.zeros(RATE_HZ, np.float32), RATE_HZ) == 0
    tone_T = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE_HZ) / RATE_HZ)
    assert 1000 <= bandwidth_hz((np.rint(tone_T * 32768) / 32768).astype(np.float32), RATE_HZ) < 1200


def test_quiet_sound_is_not_taken_for_wide_by_its_rounding():
    low_T = resampled(resampled(s.spoken_T(), RATE_HZ, 8000), 8000, RATE_HZ) * 0.02
    assert bandwidth_hz(np.rint(low_T * 32768).astype(np.float32) / 32768, RATE_HZ) < 4300


def test_silence_speech_and_level_are_shares_of_what_was_put_together(heard):
    speech_T = s.spoken_T(0, 4.0)
    columns = measured(heard(np.concatenate([np.zeros(4 * RATE_HZ), speech_T])))
    alone = measured(heard(speech_T))
    assert columns["silence_share"] == pytest.approx(0.5 + alone["silence_share"] / 2, abs=0.02)
    assert columns["speech_share"] == pytest.approx(alone["speech_share"] / 2, abs=0.04)
    assert alone["speech_share"] > 0.6
    assert columns["rms_db"] == pytest.approx(alone["rms_db"] - 3.01, abs=0.05)


def test_the_level_of_a_full_scale_sine_is_minus_3_db(heard):
    columns = measured(heard(np.sin(2 * np.pi * 1000 * np.arange(RATE_HZ) / RATE_HZ)))
    assert columns["rms_db"] == pytest.approx(-3.01, abs=0.01)


def test_silence_is_no_speech(heard):
    columns = measured(heard(np.zeros(RATE_HZ)))
    assert (columns["silence_share"], columns["speech_share"], columns["rms_db"]) == (1.0, 0.0, -100.0)


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 22_050, 44_100, 48_000])
def test_speech_is_found_at_every_rate(rate_hz):
    wave_T = resampled(s.spoken_T(), RATE_HZ, rate_hz)
    spoken_N = speech_frames(wave_T, rate_hz)
    assert abs(spoken_N.size - 300) <= 1
    assert spoken_N.mean() > 0.6
    assert not speech_frames(np.zeros(rate_hz, np.float32), rate_hz).any()


@pytest.mark.parametrize("num_samples", [1, 100, 321, 511])
def test_the_shortest_sounds_have_numbers_that_json_can_hold(heard, num_samples):
    import orjson

    columns = measured(heard(s.sweep_T(num_samples, RATE_HZ)))
    assert AudioStats.writes <= columns.keys()
    assert orjson.loads(orjson.dumps(columns)) == columns
