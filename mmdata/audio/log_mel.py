"""Stage log_mel: log-Mel spectrograms as float16, as librosa or as Whisper defines them.

Shape suffixes: T audio samples, M mel bands, N mel frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import annotated_types as at
import numpy as np
from numpy.typing import NDArray

from mmdata.audio.mel import FLOOR, MelScale, npy_bytes, samples_of
from mmdata.audio.resample import resampled
from mmdata.audio.sound import sound_of
from mmdata.options import operational, semantic
from mmdata.sample import Sample
from mmdata.stage import Resources, one_by_one

WHISPER_RATE_HZ = 16_000
_WHISPER_RANGE = 8.0  # powers of ten that Whisper keeps below the loudest band


@dataclass(kw_only=True)
class LogMel:
    """Part mel.npy [mel_bands, num_mel_frames], float16, and the number of its frames.

    kind librosa: librosa.feature.melspectrogram (power, Slaney filters, frames centred over zero padding) in decibels
    by librosa.power_to_db, or its natural logarithm. kind whisper: what WhisperFeatureExtractor gives at 16 kHz,
    without its padding unless pad_to_s is set; fmin, fmax, log and top_db are then fixed by Whisper.
    """

    name: ClassVar[str] = "log_mel"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"audio_text", "video_text"})
    reads: ClassVar[frozenset[str]] = frozenset({"sound"})
    writes: ClassVar[frozenset[str]] = frozenset({"mel", "num_mel_frames"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    kind: Literal["librosa", "whisper"] = semantic("librosa")
    mel_bands: Annotated[int, at.Ge(8), at.Le(256)] = semantic(80)
    window_ms: Annotated[float, at.Gt(0)] = semantic(25.0)
    hop_ms: Annotated[float, at.Gt(0)] = semantic(10.0)
    fmin_hz: Annotated[float, at.Ge(0)] = semantic(0.0)
    fmax_hz: Annotated[float, at.Gt(0)] | None = semantic(None)  # half the rate where not given
    log: Literal["db", "ln"] = semantic("db")
    top_db: Annotated[float, at.Gt(0)] | None = semantic(80.0)  # only for db: what is further below the loudest is cut
    # Every sound is filled up with silence, or cut, to this length: Whisper's own is 30. None leaves it as it is.
    pad_to_s: Annotated[float, at.Gt(0)] | None = semantic(None)
    # Cut longer sounds into pieces of pad_to_s, each taken by itself, and lay their frames one after the other.
    chunk: bool = semantic(False)
    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    def __post_init__(self) -> None:
        if self.chunk and self.pad_to_s is None:
            raise ValueError("chunk: needs pad_to_s, the length of a piece in seconds")
        if self.kind == "whisper" and (self.fmin_hz, self.fmax_hz, self.log) != (0.0, None, "db"):
            raise ValueError("kind: whisper fixes fmin_hz, fmax_hz and log; leave them out")
        if self.fmax_hz is not None and self.fmax_hz <= self.fmin_hz:
            raise ValueError(f"fmax_hz: found {self.fmax_hz:g}, but it must be above fmin_hz")
        self._scale = MelScale(self.mel_bands, self.window_ms, self.hop_ms, self.fmin_hz, self.fmax_hz)

    def setup(self) -> None:
        silence_T = np.zeros(WHISPER_RATE_HZ // 10, np.float32)
        self.features(silence_T, WHISPER_RATE_HZ)  # imports librosa, makes the filters

    def process(self, samples: list[Sample]) -> list[Sample]:
        return one_by_one(samples, self._process_one)

    def _process_one(self, sample: Sample) -> None:
        mel_MN = self.features(*sound_of(sample))
        sample.parts["mel.npy"] = npy_bytes(mel_MN)
        sample.columns["num_mel_frames"] = mel_MN.shape[1]

    def features(self, wave_T: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
        """The log-Mel spectrogram before it is rounded to float16, float32 [M, N]."""
        if self.kind == "whisper":
            wave_T, rate_hz = resampled(wave_T, rate_hz, WHISPER_RATE_HZ), WHISPER_RATE_HZ
        pieces = [wave_T]
        if self.pad_to_s is not None:
            size = samples_of(1000 * self.pad_to_s, rate_hz)
            count = max(1, -(-wave_T.size // size)) if self.chunk else 1
            padded_T = np.pad(wave_T, (0, max(0, count * size - wave_T.size)))
            pieces = [padded_T[index * size : (index + 1) * size] for index in range(count)]
        take = self._whisper if self.kind == "whisper" else self._librosa
        return np.concatenate([take(piece_T, rate_hz) for piece_T in pieces], axis=1)

    def _librosa(self, wave_T: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
        import librosa

        power_MN = self._scale.power(wave_T, rate_hz)
        if self.log == "ln":
            return np.log(np.maximum(power_MN, np.float32(FLOOR)))
        return np.asarray(librosa.power_to_db(power_MN, amin=FLOOR, top_db=self.top_db), np.float32)

    def _whisper(self, wave_T: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
        power_MN = self._scale.power(wave_T, rate_hz, "reflect")
        if power_MN.shape[1] > 1:
            power_MN = power_MN[:, :-1]  # Whisper leaves out the frame centred on the end
        log_MN = np.log10(np.maximum(power_MN, np.float32(FLOOR)))
        return np.asarray((np.maximum(log_MN, log_MN.max() - np.float32(_WHISPER_RANGE)) + 4) / 4, np.float32)
