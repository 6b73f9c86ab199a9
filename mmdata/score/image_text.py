"""Image-text similarity with open_clip: cosine of the two embeddings of a picture and its caption.

A video is scored by its frames: mean and greatest of their similarities, and the mean of their embeddings.

The same shard gives the same bytes whatever ran before: batches never cross a shard, every batch has the same shape
(the last one is padded), and dtype and threads are options. Decoding runs in a thread beside the model.

Shape suffixes: B batch, C channels, H height, W width, L text tokens, D embedding.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import annotated_types as at

from mmdata.errors import Reason, SampleError
from mmdata.options import operational, semantic
from mmdata.sample import Sample
from mmdata.score import encoder
from mmdata.score.pictures import decode_rgb
from mmdata.stage import Resources

if TYPE_CHECKING:
    import torch

_READ_AHEAD_BATCHES = 2
_MAX_DECODE_THREADS = 16
VIDEO = "video_text"


@dataclass(slots=True)
class Batch:
    """Samples with what the model takes; rows of unusable samples and of padding are blank."""

    samples: list[Sample]
    pixels: torch.Tensor  # [B, C, H, W] float32 on the CPU; on CUDA uint8 [B, H, W, C] in pinned memory
    tokens_BL: torch.Tensor


@dataclass(kw_only=True)
class ImageText:
    """How well a caption fits its picture, or the frames of its video, by an open_clip model.

    clip_similarity of a video is the mean over its frames, clip_similarity_max the greatest; its image_embedding is the
    mean of the frames' embeddings, so that its product with text_embedding is clip_similarity.
    """

    name: ClassVar[str] = "image_text"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"image_text", VIDEO})
    reads: ClassVar[frozenset[str]] = frozenset({"caption"})
    reads_any: ClassVar[frozenset[str]] = frozenset({"image", "frames"})
    writes: ClassVar[frozenset[str]] = frozenset({"clip_similarity", "image_embedding", "text_embedding"})
    isolated: ClassVar[bool] = False
    resources: ClassVar[Resources] = Resources(cpus=1.0)

    model: Annotated[str, at.MinLen(1)] = semantic()  # ViT-B-32, local-dir:FOLDER, hf-hub:REPO
    pretrained: str = semantic("")  # tag of the weights where the model is a name: laion2b_s34b_b79k
    batch_size: Annotated[int, at.Ge(1)] = semantic(64)  # other batch shapes give other last bits
    precision: Literal["auto", "fp32", "bf16", "fp16"] = semantic("auto")  # auto: bf16 on CUDA, fp32 on the CPU
    threads: Annotated[int, at.Ge(1)] = semantic(1)  # torch's, per actor; sums are split by them
    embeddings: bool = semantic(True)  # keep image_embedding and text_embedding, float16
    column: Annotated[str, at.MinLen(1)] = semantic("clip_similarity")
    device: Literal["auto", "cpu", "cuda"] = operational("auto")
    decode_threads: Annotated[int, at.Ge(0)] = operational(0)  # 0: one beside a CPU model, all cores beside a GPU

    def __post_init__(self) -> None:
        kept = {"image_embedding", "text_embedding"} if self.embeddings else set()
        object.__setattr__(self, "writes", frozenset({self.column, *kept}))
        self.writes_by_modality = {VIDEO: frozenset({f"{self.column}_max"})}

    def check(self) -> None:
        """Raise ConfigError where a local model is no checkpoint; quick, without torch."""
        encoder.check_model(self.model, self.pretrained)

    def weights_sha256(self) -> str:
        """What the weights are, for the config hash: the sha256 of local files, else name and tag."""
        return encoder.identity(self.model, self.pretrained)

    def setup(self) -> None:
        """Load the model. Raises ConfigError with what to do where it cannot be had."""
        self._encoder = encoder.Encoder(self.model, self.pretrained, self.precision, self.device, self.threads)
        self._on_cuda = self._encoder.device.type == "cuda"
        cores = min(len(os.sched_getaffinity(0)), _MAX_DECODE_THREADS) if hasattr(os, "sched_getaffinity") else 4
        threads = self.decode_threads or (cores if self._on_cuda else 1)
        self._decoders = ThreadPoolExecutor(threads, "decode") if threads > 1 else None

    def facts(self) -> dict[str, str]:
        """What `auto` came to; shards of one run must agree in it. After setup."""
        return {"device": self._encoder.device.type, "precision": self._encoder.precision}

    def process(self, samples: list[Sample]) -> list[Sample]:
        """The samples of a shard, or of a part of it that begins at a multiple of batch_size."""
        if _is_video(samples[:1]):
            return list(self._score_videos(samples))
        for start in range(0, len(samples), self.batch_size):
            self.infer(self.prepare(samples[start : start + self.batch_size]))
        return samples

    def process_shard(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """All samples of a shard in order, as `process` leaves them; the next batches are read while the model works.

        Takes no more than three batches from `samples` ahead of what it yields, in another thread.
        """
        source = iter(samples)
        first = list(islice(source, 1))
        source = chain(first, source)
        if _is_video(first):  # a shard has one modality
            yield from self._score_videos(source)
            return
        with ThreadPoolExecutor(1, "prepare") as reader:

            def read() -> Batch | None:
                batch = list(islice(source, self.batch_size))
                return self.prepare(batch) if batch else None

            ahead = deque(reader.submit(read) for _ in range(_READ_AHEAD_BATCHES))
            try:
                while (batch := ahead.popleft().result()) is not None:
                    ahead.append(reader.submit(read))
                    yield from self.infer(batch)
            finally:
                for future in ahead:
                    future.cancel()

    def prepare(self, samples: list[Sample]) -> Batch:
        """Decode, fit and tokenize at most batch_size samples, padded to batch_size; ends those that cannot be used."""
        import torch

        for sample in samples:
            if sample.is_ok and not str(sample.columns.get("caption") or "").strip():
                sample.end(Reason.SCORE_FAILED, "no caption")
        shape = (self.batch_size, self._encoder.height_px, self._encoder.width_px, 3)
        pixels_BHWC = torch.zeros(shape, dtype=torch.uint8, pin_memory=self._on_cuda)
        over_samples = self._decoders.map if self._decoders else map
        for _ in over_samples(self._draw, samples, pixels_BHWC.numpy()):
            pass
        captions = [str(sample.columns["caption"]) if sample.is_ok else "" for sample in samples]
        captions += [""] * (self.batch_size - len(samples))
        tokens_BL = self._encoder.tokens([encoder.sound_text(caption) for caption in captions])
        if self._on_cuda:
            return Batch(samples, pixels_BHWC, tokens_BL.pin_memory())
        return Batch(samples, self._encoder.normalise(pixels_BHWC), tokens_BL)

    def infer(self, batch: Batch) -> list[Sample]:
        """Add similarity and embeddings to the batch's samples and return them."""
        import torch

        pixels_BCHW = self._encoder.normalise(batch.pixels) if self._on_cuda else batch.pixels
        image_BD, text_BD = self._encoder.embed_images(pixels_BCHW), self._encoder.embed_texts(batch.tokens_BL)
        with torch.inference_mode():
            similarity = (image_BD * text_BD).sum(dim=-1).tolist()
            image_rows = image_BD.half().cpu().numpy()
            text_rows = text_BD.half().cpu().numpy()
        for row, sample in enumerate(batch.samples):
            if not sample.is_ok:
                continue
            if not math.isfinite(similarity[row]):
                sample.end(Reason.SCORE_FAILED, "similarity is not finite")
                continue
            sample.columns[self.column] = similarity[row]
            if self.embeddings:
                sample.columns["image_embedding"] = image_rows[row]
                sample.columns["text_embedding"] = text_rows[row]
        return batch.samples

    def _score_videos(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        from mmdata.score.embeddings import Embedder
        from mmdata.score.frames import score_videos

        embedder = Embedder(self._encoder, self.batch_size, self._decoders)
        return score_videos(embedder, samples, self.column, self.embeddings)

    def _draw(self, sample: Sample, row_HWC: Any) -> None:
        if not sample.is_ok:
            return
        part = sample.image_part
        if part is None:
            sample.end(Reason.SCORE_FAILED, "no picture")
            return
        try:
            row_HWC[:] = self._encoder.fit(decode_rgb(part, sample.parts[part]))
        except SampleError as error:
            sample.end(error.reason, error.detail)


def _is_video(first: Sequence[Sample]) -> bool:
    return any(sample.columns.get("modality") == VIDEO for sample in first)
