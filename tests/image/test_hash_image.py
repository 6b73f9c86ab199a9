"""phash: near for the same picture in other clothes, far for others."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from mmdata.errors import Reason
from mmdata.image.hash_image import HashImage, phash
from mmdata.sample import Sample
from tests.image import pictures as p


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def test_a_re_encoded_or_resized_copy_is_near():
    for seed in range(6):
        image = p.photo(400, 300, seed)
        first = phash(p.encode(image, quality=95))
        small = np.asarray(Image.fromarray(image).resize((200, 150), Image.Resampling.LANCZOS))
        for copy in (
            p.encode(image, quality=40),
            p.encode(image, "PNG"),
            p.encode(image, "WEBP", quality=60),
            p.encode(small),
            p.encode(np.clip(image * 0.9 + 15, 0, 255).astype(np.uint8)),
        ):
            assert distance(first, phash(copy)) <= 6


def test_other_pictures_are_far():
    hashes = [phash(p.encode(p.photo(seed=seed))) for seed in range(12)]
    distances = [distance(one, other) for one, other in itertools.combinations(hashes, 2)]
    assert np.mean([d > 10 for d in distances]) > 0.95


def test_a_hash_is_the_one_of_imagehash():
    scipy_fft = pytest.importorskip("scipy.fft")
    for seed in range(5):
        data = p.encode(p.photo(300, 300, seed), "PNG")
        grey = np.asarray(p.load(data).convert("L").resize((32, 32), Image.Resampling.LANCZOS), dtype=float)
        low = scipy_fft.dct(scipy_fft.dct(grey, axis=0), axis=1)[:8, :8]
        theirs = int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")
        assert distance(phash(data), theirs) <= 4


def test_a_flat_picture_has_a_hash():
    assert 0 <= phash(p.encode(np.full((20, 20, 3), 7, np.uint8), "PNG")) < 1 << 64


def test_the_stage_writes_its_column_and_leaves_the_bytes():
    data = p.encode(p.photo())
    sample = Sample("a-000000000001", {"jpg": data})
    assert HashImage().process([sample]) == [sample]
    assert sample.columns == {"phash": phash(data)}
    assert sample.parts == {"jpg": data}


def test_bytes_that_do_not_decode_end_with_a_reason():
    sample = Sample("a-000000000001", {"jpg": p.encode(p.photo())[:900]})
    HashImage().process([sample])
    assert sample.reason is Reason.TRUNCATED
