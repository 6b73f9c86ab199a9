"""The sound part of a sample, mono 16-bit FLAC or WAV, as float32 and back. Shape suffix: T audio samples.

Written without any tag: libsndfile names the FLAC library in a comment block, which is cut out again, so that the bytes
say nothing but the sound. Reading back what was written gives the same 16-bit numbers.
"""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmdata.errors import Reason, SampleError
from mmdata.sample import Sample

Format = Literal["flac", "wav"]
FULL_SCALE = 32768
_PIECE_SAMPLES = 1 << 20  # that are rounded at a time, and that are remembered as a sound of ordinary length
_FLAC_MAGIC, _STREAM_INFO, _LAST_BLOCK = b"fLaC", 0, 0x80


# The sound that was read or written last, by its bytes: one stage after the other wants the same.
_last: list[tuple[bytes, NDArray[np.float32], int]] = [(b"", np.zeros(0, np.float32), 0)]


def read_sound(data: bytes) -> tuple[NDArray[np.float32], int]:
    """(wave_T float32 in [-1, 1), rate in Hz) of a sound part; several channels become their mean; read-only.

    Raises SampleError(decode.corrupt) where the bytes are no sound.
    """
    found = _last[0]
    if data is not found[0]:
        found = (data, *_read(data))
        _last[0] = found
    return found[1:]


def _read(data: bytes) -> tuple[NDArray[np.float32], int]:
    import soundfile

    try:
        wave_TC, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise SampleError(Reason.CORRUPT, str(error)) from error
    wave_T = np.ascontiguousarray(wave_TC[:, 0] if wave_TC.shape[1] == 1 else wave_TC.mean(axis=1), np.float32)
    return _read_only(wave_T), int(rate_hz)


def _read_only(wave_T: NDArray[np.float32]) -> NDArray[np.float32]:
    wave_T.flags.writeable = False
    return wave_T


def sound_of(sample: Sample) -> tuple[NDArray[np.float32], int]:
    """What read_sound gives for the sample's sound part. Raises SampleError(content.no_sound) without one."""
    if sample.sound_part is None:
        raise SampleError(Reason.NO_SOUND)
    return read_sound(sample.parts[sample.sound_part])


def replace_sound(sample: Sample, wave_T: NDArray[np.float32], rate_hz: int) -> None:
    """Put another wave in the place of the sample's sound, in the same format; features of the one before go."""
    for stale in ("mel.npy", "mfcc.npy"):
        sample.parts.pop(stale, None)
    part: Format = "wav" if sample.sound_part == "wav" else "flac"
    sample.parts[part] = write_sound(wave_T, rate_hz, part)


def write_sound(wave_T: NDArray[np.float32], rate_hz: int, part: Format) -> bytes:
    """The wave as 16-bit mono FLAC or WAV, rounded and held within full scale; the same wave gives the same bytes."""
    writer = SoundWriter(rate_hz, part)
    writer.write(wave_T)
    return writer.finish()


def int16_of(wave_T: NDArray[np.float32]) -> NDArray[np.int16]:
    """The wave rounded to 16 bits and held within full scale."""
    scaled_T = np.rint(wave_T * np.float32(FULL_SCALE))
    return np.asarray(np.clip(scaled_T, -FULL_SCALE, FULL_SCALE - 1), np.int16)


class SoundWriter:
    """Writes a sound piece by piece, so that only its encoded form is in memory."""

    def __init__(self, rate_hz: int, part: Format) -> None:
        import soundfile

        self._part, self._rate_hz = part, rate_hz
        self._written: list[NDArray[np.int16]] = []
        self._stream = io.BytesIO()
        self._file = soundfile.SoundFile(
            self._stream, "w", samplerate=rate_hz, channels=1, format=part.upper(), subtype="PCM_16"
        )

    def write(self, wave_T: NDArray[np.float32]) -> None:
        """Append float32 samples, full scale is 1; what lies beyond is clipped."""
        for start in range(0, wave_T.size, _PIECE_SAMPLES):
            numbers_T = int16_of(wave_T[start : start + _PIECE_SAMPLES])
            self._file.write(numbers_T)
            self._written = [*self._written, numbers_T][:2]

    def finish(self) -> bytes:
        """The whole file."""
        self._file.close()
        data = _without_tags(self._stream.getvalue()) if self._part == "flac" else self._stream.getvalue()
        if len(self._written) == 1:  # one piece: as it would be read back
            _last[0] = (data, _read_only(self._written[0].astype(np.float32) / np.float32(FULL_SCALE)), self._rate_hz)
        return data


def _without_tags(data: bytes) -> bytes:
    """A FLAC file with its stream information only."""
    place, kept = len(_FLAC_MAGIC), b""
    while True:
        kind, size = data[place], int.from_bytes(data[place + 1 : place + 4], "big")
        block = data[place + 1 : place + 4 + size]
        if kind & ~_LAST_BLOCK == _STREAM_INFO:
            kept = bytes([_STREAM_INFO | _LAST_BLOCK]) + block
        place += 4 + size
        if kind & _LAST_BLOCK:
            return b"".join([_FLAC_MAGIC, kept, memoryview(data)[place:]])
