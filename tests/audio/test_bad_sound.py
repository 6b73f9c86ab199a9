"""Any bytes whatever give a status: never another exception, never a sound that is not there."""

from __future__ import annotations

import io
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
import soundfile

from mmdata.audio import completeness
from mmdata.audio.decode_audio import DecodeAudio
from mmdata.errors import Reason
from mmdata.sample import Sample
from tests.audio import sounds as s

RATE_HZ = 16_000
WAVE_T = s.sweep_T(RATE_HZ // 2, RATE_HZ)
NO_SOUND_AT_ALL = {
    b"": Reason.UNSUPPORTED,
    b"<!DOCTYPE html><html></html>": Reason.UNSUPPORTED,
    b'{"error": "not found"}': Reason.UNSUPPORTED,
    b"\x00" * 1000: Reason.UNSUPPORTED,
    bytes(range(256)) * 20: Reason.UNSUPPORTED,
    b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n": Reason.UNSUPPORTED,
    b"ffconcat version 1.0\nfile /etc/passwd\n": Reason.UNSUPPORTED,
    b'<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1/</BaseURL></MPD>': Reason.UNSUPPORTED,
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=audio 5004 RTP/AVP 0\r\n": Reason.UNSUPPORTED,
    b"\x89PNG\r\n\x1a\n" + bytes(100): Reason.UNSUPPORTED,
    b"RIFF\x24\x00\x00\x00WAVE": Reason.TRUNCATED,
    b"fLaC": Reason.TRUNCATED,
    b"OggS": Reason.TRUNCATED,
}
ENDED = {Reason.TRUNCATED, Reason.CORRUPT, Reason.UNSUPPORTED, Reason.NO_SOUND}


def files() -> dict[str, bytes]:
    """One file of each kind whose header or pages tell how much there must be."""
    return {
        "wav": s.file_of(WAVE_T, RATE_HZ),
        "wav 24 bit": s.file_of(WAVE_T, RATE_HZ, "WAVEX", "PCM_24"),
        "flac": s.file_of(WAVE_T, RATE_HZ, "FLAC"),
        "vorbis": s.file_of(WAVE_T, RATE_HZ, "OGG", "VORBIS"),
        "mp3": s.encode(WAVE_T, RATE_HZ, "mp3", "-c:a", "libmp3lame"),
        "m4a": s.encode(WAVE_T, RATE_HZ, "ipod", "-c:a", "aac", "-movflags", "faststart"),
        "aiff": s.encode(WAVE_T, RATE_HZ, "aiff"),
    }


@pytest.fixture(scope="module", params=["wav", "wav 24 bit", "flac", "vorbis", "mp3", "m4a", "aiff"])
def whole(request: pytest.FixtureRequest) -> bytes:
    return files()[request.param]


@pytest.mark.parametrize(("data", "reason"), NO_SOUND_AT_ALL.items())
def test_what_is_no_sound_says_so(decode, data, reason):
    assert decode(data).reason is reason


@pytest.mark.parametrize("hint", ["m3u8", "mp3", "wav", "g722"])
def test_a_playlist_is_unsupported_under_any_name(decode, hint):
    assert decode(b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", url=f"list.{hint}").reason is Reason.UNSUPPORTED


def test_a_cut_file_is_never_taken_for_a_whole_one(decode, whole):
    assert decode(whole).is_ok
    audible = len(whole) * 4 // 5  # what is cut off holds sound, not only the rounding of its last frame
    for cut in {*range(1, audible, max(1, audible // 40)), 4, 8, 12, 44, audible}:
        sample = decode(whole[:cut])
        assert sample.reason in ENDED, cut
        assert not sample.parts


@pytest.mark.parametrize("kind", ["mp3", "g722", "amr", "adts"])
def test_formats_that_may_end_anywhere_give_what_is_there_or_a_reason(decode, kind):
    rate_hz, options = {
        "mp3": (RATE_HZ, ["-c:a", "libmp3lame", "-write_xing", "0"]),
        "g722": (RATE_HZ, ["-c:a", "g722"]),
        "amr": (8000, ["-c:a", "libopencore_amrnb", "-b:a", "12.2k"]),
        "adts": (RATE_HZ, ["-c:a", "aac"]),
    }[kind]
    data = s.encode(s.sweep_T(rate_hz // 2, rate_hz), rate_hz, kind, *options)
    lengths = []
    for cut in [*range(0, len(data), max(1, len(data) // 40)), len(data)]:
        sample = decode(data[:cut], url=f"a.{kind}")
        assert sample.reason in {Reason.OK, *ENDED}
        lengths += [len(s.load(sample.parts["flac"])[0])] if sample.is_ok else []
    assert lengths == sorted(lengths)
    assert abs(lengths[-1] - RATE_HZ // 2) < 3000


@pytest.mark.parametrize("size", [1 << 20, 0x7FFF0000, 3 * (len(WAVE_T) * 2)])
def test_a_wav_that_claims_more_than_it_has_is_truncated(decode, size):
    data = bytearray(files()["wav"])
    data[40:44] = struct.pack("<I", size)
    assert decode(bytes(data)).reason is Reason.TRUNCATED


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_whose_writer_could_not_go_back_is_read_to_its_end(decode, size):
    data = bytearray(files()["wav"])
    data[40:44] = struct.pack("<I", size)
    sample = decode(bytes(data))
    assert (sample.is_ok, sample.columns.get("duration_s")) == (True, 0.5), sample.detail


def test_a_wav_that_claims_less_is_read_as_far_as_it_says(decode):
    data = bytearray(files()["wav"])
    data[40:44] = struct.pack("<I", 1600)
    assert decode(bytes(data)).columns["duration_s"] == 0.05


def with_flac_samples(data: bytes, num_samples: int) -> bytes:
    number = int.from_bytes(data[18:26], "big") >> 36 << 36 | num_samples
    return data[:18] + number.to_bytes(8, "big") + data[26:]


def test_a_flac_of_unknown_length_is_read_and_one_that_claims_more_is_not(decode):
    data = files()["flac"]
    assert decode(with_flac_samples(data, 0)).columns["duration_s"] == 0.5
    assert decode(with_flac_samples(data, 10**6)).reason in ENDED
    assert decode(with_flac_samples(data, 10**9)).reason is Reason.TOO_LONG  # refused before a sample is decoded
    assert decode(with_flac_samples(data, 10**9), max_duration_s=1e6).reason in ENDED


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "AU"])
def test_a_file_without_a_sample_has_no_sound(decode, kind):
    assert decode(s.file_of(np.zeros(0), RATE_HZ, kind)).reason is Reason.NO_SOUND


def test_a_video_without_sound_has_no_sound(decode, tmp_path):
    import subprocess

    from mmdata.media.ffmpeg import executable

    path = tmp_path / "mute.mp4"
    words = [executable(), "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=64x64:d=0.2", str(path)]
    subprocess.run(words, check=True)
    sample = decode(path.read_bytes())
    assert (sample.reason, sample.detail) == (Reason.NO_SOUND, "mov without a sound stream")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_samples_that_are_no_numbers_are_corrupt(decode, bad, subtype):
    wave_T = WAVE_T.copy()
    wave_T[-1] = bad
    sample = decode(s.file_of(wave_T, RATE_HZ, "WAV", subtype))
    assert (sample.reason, sample.detail) == (Reason.CORRUPT, "has samples that are no numbers")


def test_an_hour_in_a_small_file_is_refused_without_their_memory(decode):
    stream = io.BytesIO()
    with soundfile.SoundFile(stream, "w", RATE_HZ, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(100):
            file.write(np.zeros(3600 * RATE_HZ // 100, np.int16))
    bomb = stream.getvalue()
    assert len(bomb) < 400_000
    for data in (bomb, with_flac_samples(bomb, 0)):  # by its header, and by what comes out of it
        tracemalloc.start()
        sample = decode(data, max_duration_s=300)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert sample.reason is Reason.TOO_LONG
        assert peak < 40_000_000


def test_a_rate_or_channels_out_of_this_world_are_a_status(decode):
    data = bytearray(files()["wav"])
    for rate_hz in (0, 1, 2**31 - 1, 2**32 - 1):
        data[24:28] = struct.pack("<I", rate_hz)
        assert decode(bytes(data)).reason in ENDED
    data = bytearray(files()["wav"])
    for channels in (0, 1000, 65_535):
        data[22:24] = struct.pack("<H", channels)
        assert decode(bytes(data)).reason in {Reason.OK, *ENDED}


def mutants(data: bytes, count: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    for number in range(count):
        mutant = bytearray(data)
        at, upto = sorted(int(i) for i in rng.integers(0, len(data), 2))
        match number % 4:
            case 0:
                for bit in rng.integers(0, 8 * len(data), rng.integers(1, 20)):
                    mutant[bit // 8] ^= 1 << bit % 8
            case 1:
                mutant[at : at + 30] = rng.bytes(30)
            case 2:
                mutant[at:upto] = b""
            case 3:
                for place in rng.integers(0, min(len(data), 100), 4):  # headers are where it hurts
                    mutant[place] = int(rng.integers(256))
        yield bytes(mutant)


def test_mutants_always_end_in_a_status(whole):
    stage = DecodeAudio(max_duration_s=60)
    allowed = {Reason.OK, Reason.TOO_LONG, *ENDED}
    for number, mutant in enumerate(mutants(whole, 60, seed=5)):
        sample = Sample(f"mutants-{number:012d}", {"raw": mutant}, {})
        stage.process([sample])
        assert sample.reason in allowed, sample.detail
        if sample.is_ok:
            made_TC, rate_hz = s.load(sample.parts["flac"])
            assert (len(made_TC) / rate_hz, rate_hz) == (sample.columns["duration_s"], 16_000)


def test_what_a_header_claims_is_read_from_any_bytes_without_error():
    rng = np.random.default_rng(11)
    for number in range(300):
        data = [b"RIFF____WAVEfmt ", b"fLaC", b"OggS", b"ID3", b""][number % 5] + rng.bytes(int(rng.integers(80)))
        for demuxer in ("wav", "flac", "ogg", "mp3"):
            claimed = completeness.claimed_samples(data, demuxer)
            assert claimed is None or claimed >= 0
            assert completeness.is_streamed(data, demuxer) in (True, False)
