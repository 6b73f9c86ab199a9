"""A CLAP model of transformers: sounds and texts to embeddings of one space.

Shape suffixes: B batch, T audio samples, K mel spectrograms of one sound, N mel frames, M mel bands, D embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmdata.audio.resample import resampled
from mmdata.errors import ConfigError
from mmdata.score.encoder import settle
from mmdata.score.local_model import loaded

if TYPE_CHECKING:
    import torch

_TEXT_TOKENS = 77  # what the published models were trained with


class Clap:
    """Both towers in float32 and evaluation mode on one device. Raises ConfigError where the model cannot be had."""

    def __init__(self, model: str, device: str, threads: int) -> None:
        import torch
        from transformers import ClapModel, ClapProcessor

        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("score.audio_text.device: found cuda, but torch sees no CUDA device; use auto or cpu")
        cuda = device != "cpu" and torch.cuda.is_available()
        settle(threads, cuda)
        self.device = torch.device("cuda" if cuda else "cpu")
        network = loaded(model, ClapModel.from_pretrained, dtype=torch.float32)
        processor = loaded(model, ClapProcessor.from_pretrained)
        self._network = network.to(self.device).eval().requires_grad_(False)
        self._extractor, self._tokenizer = processor.feature_extractor, processor.tokenizer
        self._tokens = min(_TEXT_TOKENS, network.config.text_config.max_position_embeddings - 2)

    def features(self, wave_T: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
        """What the audio tower takes, float32 [K, N, M]: of a sound longer than the model's window, its middle.

        The extractor itself would take a random part of it. Shorter sounds are repeated or padded as the model has it.
        """
        wave_T = resampled(wave_T, rate_hz, self._extractor.sampling_rate)
        window = self._extractor.nb_max_samples
        start = max(0, (wave_T.size - window) // 2)
        made = self._extractor(wave_T[start : start + window], sampling_rate=self._extractor.sampling_rate)
        return np.asarray(made["input_features"][0], np.float32)

    def embed_sounds(self, features_BKNM: NDArray[np.float32]) -> torch.Tensor:
        """Embeddings [B, D] of unit length."""
        import torch

        # No sound is longer than the window. The extractor marks a random one as longer in every batch, for training.
        is_longer_B1 = torch.zeros((len(features_BKNM), 1), dtype=torch.bool, device=self.device)
        with torch.inference_mode():
            taken = torch.from_numpy(features_BKNM).to(self.device)
            return _unit(self._network.get_audio_features(input_features=taken, is_longer=is_longer_B1))

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        """Embeddings [B, D] of unit length; texts are cut or padded to one number of tokens."""
        import torch

        tokens = self._tokenizer(
            texts, padding="max_length", truncation=True, max_length=self._tokens, return_tensors="pt"
        )
        with torch.inference_mode():
            return _unit(
                self._network.get_text_features(
                    input_ids=tokens["input_ids"].to(self.device),
                    attention_mask=tokens["attention_mask"].to(self.device),
                )
            )


def _unit(found: Any) -> torch.Tensor:
    """The embeddings themselves, whichever way this version of transformers hands them over."""
    from torch.nn.functional import normalize

    return normalize(getattr(found, "pooler_output", found), dim=-1)
