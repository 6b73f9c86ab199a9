"""Documents: every image against every text, and the assignment that has the greatest sum."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmdata.errors import Reason
from mmdata.sample import Sample, sample_key
from mmdata.score.document_similarity import DocumentSimilarity, assignment
from mmdata.score.image_text import ImageText
from tests.builders import image_sample, jpeg
from tests.score.checkpoints import stand_in, write_tiny_checkpoint


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny-clip"))


@pytest.fixture(scope="module")
def scorer(tiny: str) -> DocumentSimilarity:
    stage = DocumentSimilarity(model=tiny, batch_size=4)
    stage.setup()
    return stage


def document(row: int, contents: list[int], pieces: list[str]) -> Sample:
    content = [{"type": "image"} for _ in contents] + [{"type": "text", "text": piece} for piece in pieces]
    messages = json.dumps([{"role": "assistant", "content": content}])
    parts = {f"{place:03d}.jpg": jpeg(content) for place, content in enumerate(contents)}
    return Sample(sample_key("docs", row), parts, {"modality": "interleaved", "messages": messages})


def test_the_matrix_is_what_pictures_and_texts_score_one_by_one(scorer: DocumentSimilarity, tiny: str) -> None:
    contents, pieces = [1, 2, 3, 4, 5], ["a cat", "a dog", "the sea"]
    (sample,) = scorer.process([document(0, contents, pieces)])
    single = ImageText(model=tiny, batch_size=4)
    single.setup()
    together = list(itertools.product(contents, pieces))
    pairs = [image_sample("p", row, text, content) for row, (content, text) in enumerate(together)]
    expected = np.array([s.columns["clip_similarity"] for s in single.process(pairs)]).reshape(5, 3)
    found = np.array(json.loads(sample.columns["document_similarity"]))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    matched = json.loads(sample.columns["matched_text_index"])
    assert matched == assignment(found.astype(np.float32))
    assert sorted(text for text in matched if text >= 0) == [0, 1, 2]
    chosen = [found[image, text] for image, text in enumerate(matched) if text >= 0]
    assert sample.columns["matched_similarity"] == pytest.approx(np.mean(chosen), abs=1e-4)


def test_a_document_without_images_has_an_empty_matrix_and_one_without_text_fails(scorer: DocumentSimilarity) -> None:
    empty, mute = scorer.process([document(0, [], ["a", "b"]), document(1, [1], [])])
    assert (empty.columns["document_similarity"], empty.columns["matched_text_index"]) == ("[]", "[]")
    assert empty.columns["matched_similarity"] is None
    assert (mute.reason, mute.detail) == (Reason.SCORE_FAILED, "no text")


def test_a_shard_gives_the_same_bytes_again(scorer: DocumentSimilarity) -> None:
    def scored() -> list[str]:
        given = [document(row, [row, row + 1], ["x", f"text {row}"]) for row in range(3)]
        return [s.columns["document_similarity"] for s in scorer.process_shard(iter(given))]

    assert scored() == scored()


SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=4)


@given(hnp.arrays(np.float32, SHAPES, elements=st.floats(-1, 1, width=32)))
def test_no_assignment_has_a_greater_sum(similarity_IT: np.ndarray) -> None:
    images, pieces = similarity_IT.shape
    matched = assignment(similarity_IT)
    given_text = [(image, text) for image, text in enumerate(matched) if text >= 0]
    assert len(given_text) == len({text for _, text in given_text}) == min(images, pieces)
    least = min(images, pieces)
    best = max(
        sum(float(similarity_IT[i, t]) for i, t in zip(chosen, order, strict=True))
        for chosen in itertools.combinations(range(images), least)
        for order in itertools.permutations(range(pieces), least)
    )
    assert sum(float(similarity_IT[place]) for place in given_text) == pytest.approx(best, abs=1e-5)


def test_a_real_encoder_gives_photographs_their_own_captions() -> None:
    folder = Path(__file__).parents[3] / "shared" / "data" / "photos"
    if not (folder / "captions.jsonl").is_file():
        pytest.skip("no shared/data/photos beside the checkout")
    stage = DocumentSimilarity(model=stand_in(), batch_size=4)
    stage.setup()
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()[:40:10]]
    sample = document(0, [0] * len(rows), [row["captions"][0] for row in rows])
    for place, row in enumerate(rows):
        (path,) = [p for p in (folder / row["image"], folder / "images" / row["image"]) if p.is_file()]
        sample.parts[f"{place:03d}.jpg"] = path.read_bytes()
    stage.process([sample])
    assert json.loads(sample.columns["matched_text_index"]) == [0, 1, 2, 3]
    assert sample.columns["matched_similarity"] > 0.2
