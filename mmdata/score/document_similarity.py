"""Similarity of every image of a document with every piece of its text, with open_clip, and which belongs to which.

The matrix and the assignment are those of MMC4 (Zhu et al. 2023): each image is given the text that makes the sum of
similarities greatest where no text is given twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import annotated_types as at
import numpy as np
import orjson
from numpy.typing import NDArray

from mmdata.errors import Reason
from mmdata.options import operational, semantic
from mmdata.sample import Sample
from mmdata.score import encoder
from mmdata.score.embeddings import Embedder, Embeddings
from mmdata.sources.messages import texts
from mmdata.stage import Resources

_DECIMALS = 4
_MAX_DECODE_THREADS = 16


@dataclass(kw_only=True)
class DocumentSimilarity:
    """How the images and texts of an interleaved document fit each other.

    document_similarity: JSON, a list an image, in it the cosine with every piece of text, to 4 decimals.
    matched_text_index: JSON, for every image the piece it is given, -1 where there are more images than pieces.
    matched_similarity: mean over the images that are given one; null for a document without images.
    """

    name: ClassVar[str] = "document_similarity"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"interleaved"})
    reads: ClassVar[frozenset[str]] = frozenset({"messages"})
    writes: ClassVar[frozenset[str]] = frozenset({"document_similarity", "matched_text_index", "matched_similarity"})
    isolated: ClassVar[bool] = False
    resources: ClassVar[Resources] = Resources(cpus=1.0)

    model: Annotated[str, at.MinLen(1)] = semantic()  # as in image_text
    pretrained: str = semantic("")
    batch_size: Annotated[int, at.Ge(1)] = semantic(32)  # other batch shapes give other last bits
    precision: Literal["auto", "fp32", "bf16", "fp16"] = semantic("auto")
    threads: Annotated[int, at.Ge(1)] = semantic(1)
    device: Literal["auto", "cpu", "cuda"] = operational("auto")

    def check(self) -> None:
        """Raise ConfigError where a local model is no checkpoint; quick, without torch."""
        encoder.check_model(self.model, self.pretrained)

    def weights_sha256(self) -> str:
        """What the weights are, for the config hash."""
        return encoder.identity(self.model, self.pretrained)

    def setup(self) -> None:
        """Load the model. Raises ConfigError with what to do where it cannot be had."""
        model = encoder.Encoder(self.model, self.pretrained, self.precision, self.device, self.threads)
        cores = min(len(os.sched_getaffinity(0)), _MAX_DECODE_THREADS) if hasattr(os, "sched_getaffinity") else 4
        decoders = ThreadPoolExecutor(cores, "decode") if model.device.type == "cuda" else None
        self._encoder = model
        self._embedder = Embedder(model, self.batch_size, decoders)

    def facts(self) -> dict[str, str]:
        """What `auto` came to; shards of one run must agree in it. After setup."""
        return {"device": self._encoder.device.type, "precision": self._encoder.precision}

    def process(self, samples: list[Sample]) -> list[Sample]:
        """The documents with their columns, one after the other, so that no more than one is in memory as pixels."""
        for sample in samples:
            self._score(sample)
        return samples

    def process_shard(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """All documents of a shard in order."""
        for sample in samples:
            yield from self.process([sample])

    def _score(self, sample: Sample) -> None:
        pieces = texts(orjson.loads(sample.columns["messages"]))
        images_ID, errors = self._embedder.images([sample.parts[part] for part in sample.frame_parts])
        if error := next((error for error in errors if error is not None), None):
            sample.end(error.reason, error.detail)
            return
        if not pieces:
            sample.end(Reason.SCORE_FAILED, "no text")
            return
        similarity_IT = self._similarity(images_ID, pieces)
        if not np.isfinite(similarity_IT).all():
            sample.end(Reason.SCORE_FAILED, "similarity is not finite")
            return
        matched = assignment(similarity_IT)
        given = [(image, text) for image, text in enumerate(matched) if text >= 0]
        rounded = [[round(float(value), _DECIMALS) for value in row] for row in similarity_IT]
        sample.columns |= {
            "document_similarity": orjson.dumps(rounded).decode(),
            "matched_text_index": orjson.dumps(matched).decode(),
            "matched_similarity": float(np.mean([similarity_IT[place] for place in given])) if given else None,
        }

    def _similarity(self, images_ID: Embeddings, pieces: list[str]) -> Embeddings:
        if not len(images_ID):
            return np.zeros((0, len(pieces)), np.float32)
        return images_ID @ self._embedder.texts(pieces).T


def assignment(similarity_IT: NDArray[np.float32]) -> list[int]:
    """For every image (row) the text (column) it is given, -1 where there are not enough."""
    from scipy.optimize import linear_sum_assignment

    images, chosen = linear_sum_assignment(similarity_IT, maximize=True)
    matched = [-1] * len(similarity_IT)
    for image, text in zip(images.tolist(), chosen.tolist(), strict=True):
        matched[image] = text
    return matched
