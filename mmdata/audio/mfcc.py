"""Stage mfcc: Mel-frequency cepstral coefficients in librosa's definition, with their changes over time.

Shape suffixes: M mel bands, K coefficients, N mel frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types as at
import numpy as np
from numpy.typing import NDArray

from mmdata.audio.mel import MelScale, npy_bytes
from mmdata.audio.sound import sound_of
from mmdata.options import operational, semantic
from mmdata.sample import Sample
from mmdata.stage import Resources, one_by_one

_DELTA_FRAMES = 9  # librosa's width


@dataclass(kw_only=True)
class Mfcc:
    """Part mfcc.npy [coefficients * (1 + deltas), frames], float16: coefficients, then first and second derivatives.

    librosa.feature.mfcc (orthonormal DCT-II of the log-Mel spectrogram in decibels, 80 dB deep) and
    librosa.feature.delta over 9 frames; a sound of fewer frames goes on with its outermost ones.
    """

    name: ClassVar[str] = "mfcc"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"audio_text", "video_text"})
    reads: ClassVar[frozenset[str]] = frozenset({"sound"})
    writes: ClassVar[frozenset[str]] = frozenset({"mfcc"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    coefficients: Annotated[int, at.Ge(13), at.Le(40)] = semantic(13)
    deltas: Annotated[int, at.Ge(0), at.Le(2)] = semantic(0)  # 1: first derivatives too, 2: and second ones
    mel_bands: Annotated[int, at.Ge(13), at.Le(256)] = semantic(128)
    window_ms: Annotated[float, at.Gt(0)] = semantic(25.0)
    hop_ms: Annotated[float, at.Gt(0)] = semantic(10.0)
    fmin_hz: Annotated[float, at.Ge(0)] = semantic(0.0)
    fmax_hz: Annotated[float, at.Gt(0)] | None = semantic(None)  # half the rate where not given
    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    def __post_init__(self) -> None:
        if self.mel_bands < self.coefficients:
            raise ValueError(f"mel_bands: found {self.mel_bands}, but {self.coefficients} coefficients need as many")
        if self.fmax_hz is not None and self.fmax_hz <= self.fmin_hz:
            raise ValueError(f"fmax_hz: found {self.fmax_hz:g}, but it must be above fmin_hz")
        self._scale = MelScale(self.mel_bands, self.window_ms, self.hop_ms, self.fmin_hz, self.fmax_hz)

    def setup(self) -> None:
        self.features(np.zeros(1600, np.float32), 16_000)  # imports librosa, makes the filters

    def process(self, samples: list[Sample]) -> list[Sample]:
        return one_by_one(samples, self._process_one)

    def _process_one(self, sample: Sample) -> None:
        sample.parts["mfcc.npy"] = npy_bytes(self.features(*sound_of(sample)))

    def features(self, wave_T: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
        """The coefficients before they are rounded to float16, float32 [K * (1 + deltas), N]."""
        import librosa

        power_MN = self._scale.power(wave_T, rate_hz)
        mfcc_KN = librosa.feature.mfcc(S=librosa.power_to_db(power_MN), n_mfcc=self.coefficients)
        mode = "interp" if mfcc_KN.shape[1] >= _DELTA_FRAMES else "nearest"
        orders = range(1, self.deltas + 1)
        changes = [librosa.feature.delta(mfcc_KN, width=_DELTA_FRAMES, order=order, mode=mode) for order in orders]
        return np.concatenate([mfcc_KN, *changes]).astype(np.float32)
