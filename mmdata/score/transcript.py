"""Transcript agreement: what a recogniser hears in a sound, and how far that is from what is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import annotated_types as at

from mmdata.audio.resample import resampled
from mmdata.audio.sound import sound_of
from mmdata.errors import Reason, SampleError
from mmdata.options import operational, semantic
from mmdata.sample import Sample
from mmdata.score import local_model
from mmdata.score.agreement import char_error_rate, word_error_rate, words_of
from mmdata.score.recognisers import RATE_HZ, is_ctranslate2, open_recogniser
from mmdata.stage import Resources


@dataclass(kw_only=True)
class Transcript:
    """recognised_text, and its word_error_rate and char_error_rate against the caption (see score/agreement.py).

    A high rate means that transcript and sound do not belong together, or that the recogniser does not know the
    language or the words: a small English one knows neither Chinese nor names. Chinese is compared by characters.
    """

    name: ClassVar[str] = "transcript"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"audio_text", "video_text"})
    reads: ClassVar[frozenset[str]] = frozenset({"sound", "caption"})
    writes: ClassVar[frozenset[str]] = frozenset({"recognised_text", "word_error_rate", "char_error_rate"})
    isolated: ClassVar[bool] = False
    resources: ClassVar[Resources] = Resources(cpus=1.0)

    model: Annotated[str, at.MinLen(1)] = semantic()  # local-dir:FOLDER (faster-whisper, transformers) or a hub name
    # ISO 639-1: en, zh. Empty: the sample's column `language`, and where that is empty too, it is detected.
    language: str = semantic("")
    beam_size: Annotated[int, at.Ge(1)] = semantic(1)
    precision: Literal["int8", "float16", "float32"] = semantic("float32")  # int8 with faster-whisper only
    threads: Annotated[int, at.Ge(1)] = semantic(1)  # per actor; sums are split by them
    device: Literal["auto", "cpu", "cuda"] = operational("auto")

    def check(self) -> None:
        """Raise ConfigError where a local model is no checkpoint; quick, without torch."""
        local_model.require_files(self.model, "config.json")
        if is_ctranslate2(self.model):
            local_model.require_files(self.model, "tokenizer.json")

    def weights_sha256(self) -> str:
        """What the weights are, for the config hash: the sha256 of local files, else the name."""
        return local_model.identity(self.model)

    def setup(self) -> None:
        """Load the model. Raises ConfigError with what to do where it cannot be had."""
        self._recogniser = open_recogniser(self.model, self.device, self.threads, self.beam_size, self.precision)

    def facts(self) -> dict[str, str]:
        """What `auto` came to; shards of one run must agree in it. After setup."""
        return {"device": self._recogniser.device, "precision": self.precision}

    def process(self, samples: list[Sample]) -> list[Sample]:
        """Each sample by itself."""
        for sample in samples:
            if sample.is_ok:
                try:
                    self._score(sample)
                except SampleError as error:
                    sample.end(Reason.SCORE_FAILED, error.detail or error.reason.value)
        return samples

    def process_shard(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """All samples of a shard in order, one after the other."""
        for sample in samples:
            yield from self.process([sample])

    def _score(self, sample: Sample) -> None:
        language = self.language or str(sample.columns.get("language") or "")
        written = words_of(str(sample.columns.get("caption") or ""), language)
        if not written:
            raise SampleError(Reason.SCORE_FAILED, "no caption with words")
        wave_T, rate_hz = sound_of(sample)
        text = self._recogniser.text(resampled(wave_T, rate_hz, RATE_HZ), language)
        heard = words_of(text, language)
        sample.columns.update(
            recognised_text=text,
            word_error_rate=word_error_rate(written, heard),
            char_error_rate=char_error_rate(written, heard),
        )
