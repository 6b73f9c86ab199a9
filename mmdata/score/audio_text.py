"""Audio-text similarity with CLAP: cosine of the two embeddings of a sound and its caption.

The same shard gives the same bytes: batches never cross a shard, every batch has one shape (the last is padded), and
nothing is random.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, ClassVar, Literal

import annotated_types as at
import numpy as np

from mmdata.audio.sound import sound_of
from mmdata.errors import Reason, SampleError
from mmdata.options import operational, semantic
from mmdata.sample import Sample
from mmdata.score import local_model
from mmdata.score.clap import Clap
from mmdata.score.encoder import sound_text
from mmdata.stage import Resources


@dataclass(kw_only=True)
class AudioText:
    """How well a caption fits a sound, by a CLAP model of transformers (the middle of longer sounds than it takes)."""

    name: ClassVar[str] = "audio_text"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"audio_text", "video_text"})
    reads: ClassVar[frozenset[str]] = frozenset({"sound", "caption"})
    writes: ClassVar[frozenset[str]] = frozenset({"clap_similarity"})
    isolated: ClassVar[bool] = False
    resources: ClassVar[Resources] = Resources(cpus=1.0)

    model: Annotated[str, at.MinLen(1)] = semantic()  # laion/clap-htsat-unfused, local-dir:FOLDER
    batch_size: Annotated[int, at.Ge(1)] = semantic(16)  # other batch shapes give other last bits
    threads: Annotated[int, at.Ge(1)] = semantic(1)  # torch's, per actor; sums are split by them
    device: Literal["auto", "cpu", "cuda"] = operational("auto")

    def check(self) -> None:
        """Raise ConfigError where a local model is no checkpoint; quick, without torch."""
        local_model.require_files(self.model, "config.json")

    def weights_sha256(self) -> str:
        """What the weights are, for the config hash: the sha256 of local files, else the name."""
        return local_model.identity(self.model)

    def setup(self) -> None:
        """Load the model. Raises ConfigError with what to do where it cannot be had."""
        self._clap = Clap(self.model, self.device, self.threads)
        self._blank_KNM = np.zeros_like(self._clap.features(np.zeros(16_000, np.float32), 16_000))

    def facts(self) -> dict[str, str]:
        """What `auto` came to; shards of one run must agree in it. After setup."""
        return {"device": self._clap.device.type, "precision": "fp32"}

    def process(self, samples: list[Sample]) -> list[Sample]:
        """The samples of a shard, or of a part of it that begins at a multiple of batch_size."""
        for start in range(0, len(samples), self.batch_size):
            self._score(samples[start : start + self.batch_size])
        return samples

    def process_shard(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """All samples of a shard in order, as `process` leaves them, one batch after the other."""
        source = iter(samples)
        while batch := list(islice(source, self.batch_size)):
            yield from self.process(batch)

    def _score(self, batch: list[Sample]) -> None:
        features = [self._features(sample) for sample in batch]
        padding = self.batch_size - len(batch)
        captions = [sound_text(str(sample.columns.get("caption") or "")) for sample in batch]
        sound_BD = self._clap.embed_sounds(np.stack(features + [self._blank_KNM] * padding))
        text_BD = self._clap.embed_texts(captions + [""] * padding)
        for sample, similarity in zip(batch, (sound_BD * text_BD).sum(dim=-1).tolist(), strict=False):
            if not sample.is_ok:
                continue
            if math.isfinite(similarity):
                sample.columns["clap_similarity"] = similarity
            else:
                sample.end(Reason.SCORE_FAILED, "similarity is not finite")

    def _features(self, sample: Sample) -> np.ndarray:
        """What the model takes; blank, with a reason, for a sample that cannot be scored."""
        if sample.is_ok and not str(sample.columns.get("caption") or "").strip():
            sample.end(Reason.SCORE_FAILED, "no caption")
        if not sample.is_ok:
            return self._blank_KNM
        try:
            return self._clap.features(*sound_of(sample))
        except SampleError as error:
            sample.end(Reason.SCORE_FAILED, error.detail or error.reason.value)
            return self._blank_KNM
