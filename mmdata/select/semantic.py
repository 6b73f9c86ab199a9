"""Pairs of embeddings with a cosine above a limit: k-means, then cosines inside clusters, after SemDeDup.

Abbas et al. 2023, "SemDeDup: Data-efficient learning at web-scale through semantic deduplication". A row is compared
with the rows of the few clusters nearest to it, not of its own alone, so that pairs on a border are found.
Embeddings are rounded to whole numbers so small that every sum of products is exact in float32: outcomes do not depend
on threads, on the order of rows, or on the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Of a rounded embedding: any sum of products is at most its square, below 2^24, so float32 holds it in any order.
LENGTH = 4000
_ROWS_PER_CLUSTER = 400
_TRAIN_PER_CLUSTER = 48
_ITERATIONS = 8
_NEAREST = 6  # clusters in which a row looks for its like
_BLOCK_ROWS = 8192
Vectors = NDArray[np.float16]


def near_pairs(
    vectors: Vectors, order: NDArray[np.int64], cosine: float, threads: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places (i, j) of pairs with at least this cosine, every pair once.

    vectors: float16 [N, D], any length but 0, read in blocks. order: places in an order that does not depend on that of
    the rows, for the choice of first centroids.
    """
    import faiss

    faiss.omp_set_num_threads(threads)
    clusters = max(1, len(vectors) // _ROWS_PER_CLUSTER)
    centroids = _centroids(vectors, order, clusters)
    nearest = np.empty((len(vectors), min(_NEAREST, clusters)), np.int32)
    # Blocks of about one size, as faiss searches for a handful of rows in another way, with other ties.
    for places in np.array_split(np.arange(len(vectors)), len(vectors) // _BLOCK_ROWS + 1):
        nearest[places] = _nearest(rounded(vectors[places]), centroids, nearest.shape[1])
    found = list(_pairs(vectors, nearest, clusters, cosine))
    left, right = (np.concatenate([pair[side] for pair in found] or [np.empty(0, np.int64)]) for side in (0, 1))
    low, high = np.minimum(left, right), np.maximum(left, right)
    one = np.unique(np.stack([low, high]), axis=1)
    return one[0], one[1]


def rounded(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Vectors as whole numbers, all of about the length LENGTH; zero stays zero."""
    wide = vectors.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    return np.rint(wide * (LENGTH / np.where(lengths > 0, lengths, 1))).astype(np.float32)


def cosines(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosines row by row of rounded vectors; float64."""
    products = (left.astype(np.float64) * right).sum(axis=1)
    lengths = (left.astype(np.float64) ** 2).sum(axis=1) * (right.astype(np.float64) ** 2).sum(axis=1)
    quotients: NDArray[np.float64] = products / np.sqrt(np.where(lengths > 0, lengths, 1))
    return quotients


def _centroids(vectors: Vectors, order: NDArray[np.int64], clusters: int) -> NDArray[np.float32]:
    """Spherical k-means over the first rows in `order`; a cluster that is left empty keeps its centroid."""
    chosen = np.sort(order[: clusters * _TRAIN_PER_CLUSTER])
    train = np.concatenate([rounded(vectors[part]) for part in np.array_split(chosen, len(chosen) // _BLOCK_ROWS + 1)])
    centroids = rounded(vectors[np.sort(order[:clusters])])
    for _ in range(_ITERATIONS if clusters > 1 else 0):
        label = _nearest(train, centroids, 1)[:, 0]
        by_label = np.argsort(label, kind="stable")
        present, starts = np.unique(label[by_label], return_index=True)
        sums = np.add.reduceat(train[by_label].astype(np.float64), starts, axis=0)  # whole numbers: exact
        centroids[present] = rounded(sums)
    return centroids


def _nearest(rows: NDArray[np.float32], centroids: NDArray[np.float32], number: int) -> NDArray[np.int64]:
    import faiss

    _, labels = faiss.knn(rows, centroids, number, metric=faiss.METRIC_INNER_PRODUCT)
    nearest: NDArray[np.int64] = labels
    return nearest


def _pairs(
    vectors: Vectors, nearest: NDArray[np.int32], clusters: int, cosine: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Of every cluster: its own rows against all rows that have it among their nearest."""
    flat = nearest.ravel()
    places = np.argsort(flat, kind="stable")
    starts = np.searchsorted(flat[places], np.arange(clusters + 1))
    width = nearest.shape[1]
    # Rounding moves a length by at most sqrt(D) / 2; what passes here is computed exactly.
    limit = cosine * LENGTH * LENGTH - 2 * LENGTH * np.sqrt(vectors.shape[1])
    for cluster in range(clusters):
        visits = places[starts[cluster] : starts[cluster + 1]]
        rows = np.sort(visits // width)
        theirs = rounded(vectors[rows])
        own = np.flatnonzero(nearest[rows, 0] == cluster)
        for first in range(0, len(own), 1024):
            part = own[first : first + 1024]
            left, right = np.nonzero(theirs[part] @ theirs.T >= limit)
            left = part[left]
            apart = left != right
            left, right = left[apart], right[apart]
            close = cosines(theirs[left], theirs[right]) >= cosine
            if close.any():
                yield rows[left[close]], rows[right[close]]
