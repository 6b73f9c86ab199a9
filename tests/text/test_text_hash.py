"""text_hash: equal for the same words, near for nearly the same, far for others."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from mmdata.text.text_hash import TextHash, fold, hash_of, simhash
from tests.text.captions import NASTY, through

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "photos"


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def near(text: str) -> int:
    return simhash(fold(text), 4)


def test_hashes_do_not_change_between_versions_and_machines() -> None:
    columns = through(TextHash(), "A dog runs.").columns
    assert (columns["caption_hash"], columns["caption_simhash"]) == (0x98CAFD70745E51AD, 0x6B75A4CA372867CF)


@pytest.mark.parametrize("other", ["a DOG, runs!", "  A dog\nruns", "Ａ ｄｏｇ ｒｕｎｓ"])
def test_case_width_marks_and_space_do_not_count(other: str) -> None:
    assert hash_of(fold("A dog runs.")) == hash_of(fold(other))
    assert near("A dog runs.") == near(other)


@pytest.mark.parametrize("caption", ["", None, "?!", "\ud800"])
def test_a_caption_without_words_has_no_hash(caption: str | None) -> None:
    columns = through(TextHash(), caption).columns
    assert (columns["caption_hash"], columns["caption_simhash"]) == (None, None)


def test_nearly_equal_real_captions_are_near_and_others_far() -> None:
    if not PHOTOS.is_dir():
        pytest.skip("../shared/data/photos is absent")
    with (PHOTOS / "captions.jsonl").open() as lines:
        captions = [json.loads(line)["captions"][0] for line in lines]
    captions = [caption for caption in captions if len(caption.split()) >= 8]
    edited = [distance(near(text), near(" ".join(["Photo", *text.split()[1:]]))) for text in captions]
    others = [distance(near(one), near(other)) for one, other in itertools.pairwise(captions)]
    assert np.percentile(edited, 90) <= 12
    assert np.percentile(others, 1) > 16


@settings(max_examples=100, deadline=None)
@given(NASTY)
def test_any_text_has_64_bits_or_none(text: str) -> None:
    columns = through(TextHash(), text).columns
    assert all(value is None or 0 <= value < 1 << 64 for value in (columns["caption_hash"], columns["caption_simhash"]))
