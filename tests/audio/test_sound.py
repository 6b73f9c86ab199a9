"""What is written is what is read back, from memory or from the bytes."""

from __future__ import annotations

import numpy as np
import pytest

from mmdata.audio.sound import SoundWriter, read_sound, write_sound
from mmdata.errors import Reason, SampleError
from tests.audio import sounds as s


def afresh(data: bytes) -> bytes:
    """Equal bytes that nobody has read yet."""
    return bytes(bytearray(data))


@pytest.mark.parametrize("part", ["flac", "wav"])
@pytest.mark.parametrize("rate_hz", [8000, 16_000, 44_100, 192_000])
def test_a_sound_remembered_is_the_sound_read_back(part, rate_hz):
    wave_T = (3 * s.sweep_T(5000, rate_hz)).astype(np.float32)  # beyond full scale at both ends
    data = write_sound(wave_T, rate_hz, part)
    remembered_T, remembered_hz = read_sound(data)
    read_T, read_hz = read_sound(afresh(data))
    assert remembered_T is not read_T
    np.testing.assert_array_equal(remembered_T, read_T)
    assert (remembered_T.dtype, remembered_hz, read_hz) == (np.float32, rate_hz, rate_hz)
    np.testing.assert_array_equal(write_sound(read_T, rate_hz, part), data)


def test_pieces_give_the_bytes_of_the_whole():
    wave_T = s.sweep_T(50_000, 16_000).astype(np.float32)
    writer = SoundWriter(16_000, "flac")
    for piece_T in np.array_split(wave_T, 7):
        writer.write(piece_T)
    assert writer.finish() == write_sound(wave_T, 16_000, "flac")


def test_another_sound_is_not_taken_for_the_last_one():
    one, other = (write_sound(np.full(100, level, np.float32), 16_000, "flac") for level in (0.25, 0.5))
    assert [float(read_sound(data)[0][0]) for data in (one, other, one, afresh(other))] == [0.25, 0.5, 0.25, 0.5]


def test_what_was_read_cannot_be_changed_for_the_next_reader():
    wave_T, _ = read_sound(write_sound(np.zeros(100, np.float32), 16_000, "flac"))
    with pytest.raises(ValueError, match="read-only"):
        wave_T[0] = 1


@pytest.mark.parametrize("data", [b"", b"RIFF", b"fLaC" + bytes(100)])
def test_bytes_that_are_no_sound_are_corrupt(data):
    with pytest.raises(SampleError) as caught:
        read_sound(afresh(data) + b"!")
    assert caught.value.reason is Reason.CORRUPT


def test_speech_is_the_same_in_blocks_of_frames():
    from mmdata.audio import speech

    wave_T = s.spoken_T()
    with pytest.MonkeyPatch.context() as patch:
        whole_N = speech.speech_frames(wave_T, 16_000)
        patch.setattr(speech, "_BLOCK_FRAMES", 7)
        np.testing.assert_array_equal(speech.speech_frames(wave_T, 16_000), whole_N)
