"""Metrics of retrieval, both ways, from a matrix of scores. Shape suffixes: N media, M texts, Q queries, C candidates.

A medium may have several texts, each text has one medium. Among equal scores wrong candidates come first, so a scorer
that cannot tell candidates apart earns nothing by their order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RANKS = (1, 5, 10)


def retrieval(scores_NM: np.ndarray, medium_M: Sequence[int]) -> dict[str, dict[str, float]]:
    """Recall@1/5/10 and mAP of texts found for media and of media found for texts; medium_M: to which a text belongs.

    A medium without a text asks for nothing and stays a candidate.
    """
    relevant_NM = np.asarray(medium_M)[np.newaxis] == np.arange(len(scores_NM))[:, np.newaxis]
    asking = relevant_NM.any(axis=1)
    ways = {
        "media_to_text": ranked(scores_NM[asking], relevant_NM[asking]),
        "text_to_media": ranked(scores_NM.T, relevant_NM.T),
    }
    return {
        way: {**{f"recall@{k}": recall_at(found_QC, k) for k in RANKS}, "map": mean_average_precision(found_QC)}
        for way, found_QC in ways.items()
    }


def ranked(scores_QC: np.ndarray, relevant_QC: np.ndarray) -> np.ndarray:
    """Which candidates are relevant, bool [Q, C], best score first."""
    order_QC = np.lexsort((relevant_QC, -scores_QC), axis=-1)
    return np.take_along_axis(relevant_QC, order_QC, axis=-1)


def recall_at(ranked_QC: np.ndarray, k: int) -> float:
    """Share of queries with a relevant candidate among their first k."""
    return float(ranked_QC[:, :k].any(axis=1).mean()) if len(ranked_QC) else 0.0


def mean_average_precision(ranked_QC: np.ndarray) -> float:
    """Mean over queries of the mean precision at each relevant candidate's place."""
    if not len(ranked_QC):
        return 0.0
    precision_QC = ranked_QC.cumsum(axis=1) / np.arange(1, ranked_QC.shape[1] + 1)
    return float(((precision_QC * ranked_QC).sum(axis=1) / ranked_QC.sum(axis=1)).mean())
