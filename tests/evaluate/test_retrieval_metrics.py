"""What metrics of retrieval promise: values worked by hand, scikit-learn's average precision, nothing for ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.evaluate.retrieval_metrics import mean_average_precision, ranked, recall_at, retrieval


def test_two_pictures_with_three_captions_by_hand() -> None:
    scores_NM = np.array([[0.9, 0.1, 0.8], [0.2, 0.7, 0.3]])
    found = retrieval(scores_NM, [0, 0, 1])
    # Picture 0 finds its captions at places 1 and 3, picture 1 its own at 2.
    assert found["media_to_text"]["recall@1"] == 0.5
    assert found["media_to_text"]["recall@5"] == 1.0
    assert found["media_to_text"]["map"] == pytest.approx(((1 / 1 + 2 / 3) / 2 + 1 / 2) / 2)
    # Caption 0 finds picture 0; 1 and 2 find the other one first.
    assert found["text_to_media"]["recall@1"] == pytest.approx(1 / 3)
    assert found["text_to_media"]["map"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)


def test_the_right_pairs_first_is_one_everywhere() -> None:
    found = retrieval(np.eye(12), range(12))
    assert all(value == 1.0 for way in found.values() for value in way.values())


def test_a_scorer_that_says_the_same_of_all_finds_nothing_first() -> None:
    found = retrieval(np.zeros((20, 20)), range(20))
    assert found["media_to_text"]["recall@10"] == found["text_to_media"]["recall@10"] == 0.0
    assert found["text_to_media"]["map"] == pytest.approx(1 / 20)


def test_a_picture_without_a_caption_is_a_candidate_that_asks_nothing() -> None:
    found = retrieval(np.array([[0.5], [0.9]]), [0])
    assert found["media_to_text"]["recall@1"] == 1.0
    assert found["text_to_media"]["recall@1"] == 0.0
    assert retrieval(np.zeros((0, 0)), [])["media_to_text"]["map"] == 0.0


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 8))
def test_map_is_scikit_learns_average_precision(seed: int, queries: int, candidates: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    scores_QC = rng.permuted(np.tile(np.arange(float(candidates)), (queries, 1)), axis=1)
    relevant_QC = rng.random((queries, candidates)) < 0.4
    relevant_QC[:, 0] = True
    expected = np.mean([metrics.average_precision_score(r, s) for r, s in zip(relevant_QC, scores_QC, strict=True)])
    found_QC = ranked(scores_QC, relevant_QC)
    assert mean_average_precision(found_QC) == pytest.approx(expected)
    recalls = [recall_at(found_QC, k) for k in range(1, candidates + 1)]
    assert recalls == sorted(recalls)
    assert recalls[-1] == 1.0
