"""Speech recognisers of the Whisper family: CTranslate2 folders by faster-whisper, others by transformers.

Both decode without sampling, without earlier text as a prompt, and one sound at a time, so a sound has one text.
Shape suffix: T audio samples at 16 kHz.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmdata.errors import ConfigError
from mmdata.score.encoder import settle
from mmdata.score.local_model import folder_of, loaded

RATE_HZ = 16_000
_WINDOW_S = 30
_CTRANSLATE2_FILE = "model.bin"
_CTRANSLATE2_NAME = "faster-whisper"  # what such models are called on the hub
_MAX_NEW_TOKENS = 224


class Recogniser(Protocol):
    """What hears words in a sound. device: `cpu` or `cuda`."""

    device: str

    def text(self, wave_T: NDArray[np.float32], language: str) -> str:
        """What is said; language: an ISO 639-1 code, or empty to have it detected."""


def is_ctranslate2(model: str) -> bool:
    """True where the model is one for faster-whisper."""
    folder = folder_of(model)
    if folder is None:
        return _CTRANSLATE2_NAME in model
    return (folder / _CTRANSLATE2_FILE).is_file()


def open_recogniser(model: str, device: str, threads: int, beam_size: int, precision: str) -> Recogniser:
    """The recogniser of a folder or name, loaded. Raises ConfigError where it or what it needs is missing."""
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError("score.transcript.device: found cuda, but torch sees no CUDA device; use auto or cpu")
    kind = FasterWhisper if is_ctranslate2(model) else TransformersWhisper
    return kind(model, device, threads, beam_size, precision)


class FasterWhisper:
    """faster-whisper (extra `speech`) on one device."""

    def __init__(self, model: str, device: str, threads: int, beam_size: int, precision: str) -> None:
        if importlib.util.find_spec("faster_whisper") is None:
            raise ConfigError(f"model: {model} needs faster-whisper: pip install mmdata[speech]")
        from faster_whisper import WhisperModel

        options = {"device": device, "cpu_threads": threads, "num_workers": 1, "compute_type": precision}
        self._model = loaded(model, WhisperModel, **options)
        self._beam_size = beam_size
        self.device = str(self._model.model.device)

    def text(self, wave_T: NDArray[np.float32], language: str) -> str:
        """What is said, as Recogniser has it; a model of one language hears that one."""
        segments, _ = self._model.transcribe(
            wave_T,
            language=(language or None) if self._model.model.is_multilingual else None,
            beam_size=self._beam_size,
            temperature=0.0,
            condition_on_previous_text=False,
            vad_filter=False,
        )
        return "".join(segment.text for segment in segments).strip()


class TransformersWhisper:
    """WhisperForConditionalGeneration on one device; long sounds in windows of 30 s, each by itself."""

    def __init__(self, model: str, device: str, threads: int, beam_size: int, precision: str) -> None:
        import torch
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        cuda = device != "cpu" and torch.cuda.is_available()
        settle(threads, cuda)
        self.device = "cuda" if cuda else "cpu"
        dtypes = {"float32": torch.float32, "float16": torch.float16}
        if precision not in dtypes:
            raise ConfigError(f"score.transcript.precision: found {precision}, but {model} takes float32 or float16")
        self._dtype = dtypes[precision]
        self._processor = loaded(model, WhisperProcessor.from_pretrained)
        network = loaded(model, WhisperForConditionalGeneration.from_pretrained, dtype=self._dtype)
        self._network = network.to(self.device).eval().requires_grad_(False)
        self._beam_size = beam_size

    def text(self, wave_T: NDArray[np.float32], language: str) -> str:
        """What is said, as Recogniser has it."""
        window = _WINDOW_S * RATE_HZ
        texts = [self._window(wave_T[start : start + window], language) for start in range(0, wave_T.size, window)]
        return " ".join(text for text in texts if text)

    def _window(self, wave_T: NDArray[np.float32], language: str) -> str:
        import torch

        features = self._processor(wave_T, sampling_rate=RATE_HZ, return_tensors="pt")["input_features"]
        options: dict[str, Any] = {"num_beams": self._beam_size, "do_sample": False, "max_new_tokens": _MAX_NEW_TOKENS}
        if getattr(self._network.generation_config, "is_multilingual", False):
            options |= {"task": "transcribe", **({"language": language} if language else {})}
        with torch.inference_mode():
            tokens = self._network.generate(features.to(self.device, self._dtype), **options)
        return str(self._processor.batch_decode(tokens, skip_special_tokens=True)[0]).strip()
