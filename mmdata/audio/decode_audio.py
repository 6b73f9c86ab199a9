"""Stage decode_audio: bytes of a stranger to mono 16-bit sound at one rate, without metadata. T samples, C channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

import annotated_types as at
import numpy as np
from numpy.typing import NDArray

from mmdata.audio.recording import Recording, open_recording
from mmdata.audio.resample import resampled, resampled_pieces
from mmdata.audio.sound import SoundWriter
from mmdata.errors import Reason, SampleError
from mmdata.options import operational, outcome, semantic
from mmdata.sample import RAW, Sample
from mmdata.stage import Resources, one_by_one


@dataclass(kw_only=True)
class DecodeAudio:
    """Decode, mix, resample and write again.

    Channels become their mean (librosa.to_mono), whatever places they stand for, unless `channel` takes one of them.
    The length is round(n * sample_rate_hz / rate) samples. Sound beyond full scale, as MP3 and float files can have it,
    is clipped; samples are rounded to 16 bits without dither, so a mono 16-bit sound of the same rate keeps every bit.
    original_sample_rate_hz is that of the file, for Opus that of the sound it was made from.
    """

    name: ClassVar[str] = "decode_audio"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"audio_text"})
    reads: ClassVar[frozenset[str]] = frozenset({RAW})
    writes: ClassVar[frozenset[str]] = frozenset(
        {"sound", "duration_s", "sample_rate_hz", "original_sample_rate_hz", "original_channels", "audio_codec"}
    )
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    sample_rate_hz: Annotated[int, at.Ge(1000), at.Le(192_000)] = semantic(16_000)
    format: Literal["flac", "wav"] = semantic("flac")
    channel: Annotated[int, at.Ge(0)] | None = semantic(None)  # 0 is the first; a sound that lacks it fails
    min_duration_s: Annotated[float, at.Ge(0)] = outcome(0.0)
    max_duration_s: Annotated[float, at.Gt(0)] = outcome(1800.0)  # also bounds what a small file may grow to
    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    def setup(self) -> None:
        import av  # noqa: F401  # here, before the limits of the child, as is librosa by the first resampling

        resampled(np.zeros(800, np.float32), 2 * self.sample_rate_hz, self.sample_rate_hz)

    def process(self, samples: list[Sample]) -> list[Sample]:
        return one_by_one(samples, self._process_one)

    def _process_one(self, sample: Sample) -> None:
        recording = open_recording(sample.parts[RAW], suffix_of(sample.columns.get("url")))
        sample.columns.update(
            original_sample_rate_hz=recording.rate_hz,
            original_channels=recording.channels,
            audio_codec=recording.codec,
        )
        if recording.claimed_s:
            self._check(recording.claimed_s)
        writer = SoundWriter(self.sample_rate_hz, self.format)
        num_samples = 0
        for piece_T in resampled_pieces(self._mixed(recording), recording.rate_hz, self.sample_rate_hz):
            writer.write(piece_T)
            num_samples += piece_T.size
        if not num_samples:
            raise SampleError(Reason.NO_SOUND, "not one sample")
        written = writer.finish()
        sample.columns.update(duration_s=num_samples / self.sample_rate_hz, sample_rate_hz=self.sample_rate_hz)
        del sample.parts[RAW]
        sample.parts[self.format] = written

    def _mixed(self, recording: Recording) -> Iterator[NDArray[np.float32]]:
        """The recording's pieces as mono; raises where it is too long, and at its end where it is too short."""
        if self.channel is not None and self.channel >= recording.channels:
            raise SampleError(Reason.NO_SOUND, f"has {recording.channels} channels, wanted number {self.channel}")
        taken = 0
        for piece_TC in recording.pieces:
            taken += len(piece_TC)
            if taken > self.max_duration_s * recording.rate_hz:
                self._check(taken / recording.rate_hz)
            if self.channel is not None:
                yield np.ascontiguousarray(piece_TC[:, self.channel])
            else:
                yield mean_of(piece_TC)
        if taken:
            self._check(taken / recording.rate_hz)

    def _check(self, duration_s: float) -> None:
        if duration_s > self.max_duration_s:
            raise SampleError(Reason.TOO_LONG, f"{duration_s:.2f} s, wanted {self.max_duration_s:g} s at most")
        if duration_s < self.min_duration_s:
            raise SampleError(Reason.TOO_SHORT, f"{duration_s:.2f} s, wanted {self.min_duration_s:g} s at least")


def mean_of(piece_TC: NDArray[np.float32]) -> NDArray[np.float32]:
    """The channels' mean, float32 [T]. One by one: NumPy's mean over so short an axis takes five times as long."""
    if piece_TC.shape[1] == 1:
        return np.ascontiguousarray(piece_TC[:, 0])
    sum_T = piece_TC[:, 0] + piece_TC[:, 1]
    for channel in range(2, piece_TC.shape[1]):
        sum_T += piece_TC[:, channel]
    sum_T *= np.float32(1 / piece_TC.shape[1])
    return sum_T


def suffix_of(url: str | None) -> str:
    """The suffix in a link or path, lower case without its dot: `g722`; empty without one."""
    return PurePosixPath(urlsplit(url or "").path).suffix.lower().removeprefix(".")
