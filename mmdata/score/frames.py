"""Scores of videos by their frames: how well a caption fits what is seen in them.

Shape suffixes: F frames of one video, N frames of all videos of a group, D embedding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from mmdata.errors import Reason
from mmdata.sample import Sample
from mmdata.score.embeddings import Embedder

GROUP_VIDEOS = 64
GROUP_BYTES = 64 << 20  # of frames; a group ends with the video that reaches it


def score_videos(embedder: Embedder, samples: Iterable[Sample], column: str, embeddings: bool) -> Iterator[Sample]:
    """All samples in order, with `column`, `column`_max and the embeddings, or with the reason why not.

    Groups depend on the samples alone and every batch has one shape, so the same shard gives the same bits.
    """
    for group in _groups(samples):
        _score_group(embedder, group, column, embeddings)
        yield from group


def _groups(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    group: list[Sample] = []
    size = 0
    for sample in samples:
        frames = set(sample.frame_parts)
        sample.parts = {name: data for name, data in sample.parts.items() if name in frames}  # films are large
        group.append(sample)
        size += sum(map(len, sample.parts.values()))
        if len(group) == GROUP_VIDEOS or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _score_group(embedder: Embedder, group: list[Sample], column: str, embeddings: bool) -> None:
    for sample in group:
        if not str(sample.columns.get("caption") or "").strip():
            sample.end(Reason.SCORE_FAILED, "no caption")
        elif not sample.frame_parts:
            sample.end(Reason.SCORE_FAILED, "no frames")
    scored = [sample for sample in group if sample.is_ok]
    frames = [sample.parts[part] for sample in scored for part in sample.frame_parts]
    counts = [len(sample.frame_parts) for sample in scored]
    image_ND, errors = embedder.images(frames)
    texts = embedder.texts([str(sample.columns["caption"]) for sample in scored])
    start = 0
    for sample, count, text_D in zip(scored, counts, texts, strict=True):
        image_FD = image_ND[start : start + count]
        error = next((error for error in errors[start : start + count] if error is not None), None)
        start += count
        if error is not None:
            sample.end(error.reason, error.detail)
            continue
        similarity_F = (image_FD * text_D).sum(axis=-1)
        mean = float(similarity_F.mean())
        if not math.isfinite(mean):
            sample.end(Reason.SCORE_FAILED, "similarity is not finite")
            continue
        sample.columns[column] = mean
        sample.columns[f"{column}_max"] = float(similarity_F.max())
        if embeddings:
            sample.columns["image_embedding"] = image_FD.mean(axis=0).astype(np.float16)
            sample.columns["text_embedding"] = text_D.astype(np.float16)
