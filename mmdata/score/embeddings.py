"""Any number of pictures and texts to embeddings, in batches of one shape, so that the same list gives the same bits.

Shape suffixes: B batch, H height, W width, C channels, N of all pictures or texts, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from mmdata.errors import SampleError
from mmdata.score.encoder import Encoder, sound_text
from mmdata.score.pictures import decode_rgb

Embeddings = NDArray[np.float32]


class Embedder:
    """An encoder over lists; of pictures only one batch is decoded at a time.

    decoders: threads that decode, or None to do it here.
    """

    def __init__(self, encoder: Encoder, batch_size: int, decoders: ThreadPoolExecutor | None) -> None:
        self._encoder = encoder
        self._batch_size = batch_size
        self._decoders = decoders

    def images(self, pictures: Sequence[bytes]) -> tuple[Embeddings, list[SampleError | None]]:
        """Embeddings [N, D] of JPEGs, float32, and for each why it could not be read; its row then means nothing."""
        import torch

        errors: list[SampleError | None] = [None] * len(pictures)
        rows = []
        for start in range(0, len(pictures), self._batch_size):
            some = pictures[start : start + self._batch_size]
            shape = (self._batch_size, self._encoder.height_px, self._encoder.width_px, 3)
            pixels_BHWC = torch.zeros(shape, dtype=torch.uint8)
            drawn = (self._decoders.map if self._decoders else map)(self._draw, some, pixels_BHWC.numpy())
            errors[start : start + len(some)] = drawn
            image_BD = self._encoder.embed_images(self._encoder.normalise(pixels_BHWC))
            rows.append(image_BD[: len(some)].cpu().numpy())
        return (np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)), errors

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """Embeddings [N, D] of texts, float32; each is cut at the model's context length."""
        rows = []
        for start in range(0, len(texts), self._batch_size):
            some = [sound_text(text) for text in texts[start : start + self._batch_size]]
            padded = some + [""] * (self._batch_size - len(some))
            rows.append(self._encoder.embed_texts(self._encoder.tokens(padded))[: len(some)].cpu().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)

    def _draw(self, data: bytes, row_HWC: NDArray[np.uint8]) -> SampleError | None:
        try:
            row_HWC[:] = self._encoder.fit(decode_rgb("jpg", data))
        except SampleError as error:
            return error
        return None
