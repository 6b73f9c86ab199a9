"""Any bytes whatever give a status: never another exception, and never a half picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mmdata.errors import Reason
from mmdata.image.channel_stats import ChannelStats
from mmdata.image.hash_image import HashImage
from mmdata.sample import Sample
from tests.image import pictures as p

FILES = {
    "jpg": p.encode(p.photo(96, 64), icc_profile=p.swapped_profile()),
    "jpg-progressive": p.encode(p.photo(96, 64), progressive=True),
    "png": p.encode(p.photo(64, 48), "PNG", icc_profile=p.swapped_profile()),
    "webp": p.encode(p.photo(64, 48), "WEBP"),
    "webp-animated": p.animation("WEBP"),
    "gif": p.animation("GIF"),
}
FOREIGN = {
    b"": Reason.TYPE_MISMATCH,
    b"<!DOCTYPE html><html><body><svg></svg></body></html>": Reason.TYPE_MISMATCH,
    b'{"error": "not found"}': Reason.TYPE_MISMATCH,
    b"\x00" * 100: Reason.TYPE_MISMATCH,
    b"\x00\x00\x00\x18ftypmp42": Reason.TYPE_MISMATCH,
    b'<?xml version="1.0"?><!-- a --><svg xmlns="x"/>': Reason.UNSUPPORTED,
    b"%PDF-1.7": Reason.UNSUPPORTED,
    b"\x00\x00\x00\x18ftypavif": Reason.UNSUPPORTED,
    b"\x00\x00\x00\x18ftypheic": Reason.UNSUPPORTED,
    p.encode(p.photo(8, 8), "TIFF"): Reason.UNSUPPORTED,
    p.encode(p.photo(8, 8), "BMP"): Reason.UNSUPPORTED,
}


@pytest.mark.parametrize(("data", "reason"), FOREIGN.items())
def test_what_is_no_readable_picture_says_so(decode, data, reason):
    assert decode(data).reason is reason


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [False, True])
def test_a_cut_file_is_truncated_wherever_it_is_cut(decode, name, keep):
    data = FILES[name]
    cuts = {*range(20, len(data), max(1, len(data) // 60)), len(data) - 2, len(data) - 1}
    reasons = {decode(data[:cut], keep_original=keep, side_px=48).reason for cut in cuts}
    assert reasons == {Reason.TRUNCATED}


def test_a_jpeg_without_its_end_marker_is_truncated_not_grey(decode):
    assert decode(p.encode(p.photo())[:-2]).reason is Reason.TRUNCATED


def test_bytes_behind_the_end_of_a_picture_are_ignored(decode):
    for data in FILES.values():
        assert decode(data + b"PK\x03\x04 and more").parts == decode(data).parts


def test_padding_before_the_end_marker_is_no_damage(decode):
    data = p.encode(p.photo())
    assert decode(data[:-2] + b"\x00" * 20 + data[-2:]).parts == decode(data).parts


def test_a_wrong_checksum_is_corrupt(decode):
    data = bytearray(FILES["png"])
    data[data.index(b"IDAT") + 100] ^= 1
    assert decode(bytes(data)).reason is Reason.CORRUPT


def mutants(data: bytes, others: list[bytes], count: int, seed: int):
    """Bit flips, cuts, splices of two files, repeats and erased stretches."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        mutant = bytearray(data)
        at, upto = sorted(int(i) for i in rng.integers(0, len(data), 2))
        match number % 5:
            case 0:
                for bit in rng.integers(0, 8 * len(data), rng.integers(1, 20)):
                    mutant[bit // 8] ^= 1 << bit % 8
            case 1:
                mutant = mutant[:at]
            case 2:
                other = others[int(rng.integers(len(others)))]
                mutant = mutant[:at] + other[int(rng.integers(len(other))) :]
            case 3:
                mutant[at:upto] = mutant[at:upto] * 2
            case 4:
                mutant[at : at + 30] = rng.bytes(30)
        yield bytes(mutant)


@pytest.mark.parametrize("name", FILES)
def test_mutants_always_end_in_a_status(name):
    from mmdata.image.decode_image import DecodeImage

    stages = DecodeImage(side_px=32), DecodeImage(keep_original=True)
    later = HashImage(), ChannelStats()
    allowed = {
        Reason.OK, Reason.CORRUPT, Reason.TRUNCATED, Reason.TYPE_MISMATCH, Reason.UNSUPPORTED, Reason.TOO_MANY_PIXELS,
    }  # fmt: skip
    for number, mutant in enumerate(mutants(FILES[name], list(FILES.values()), 500, seed=7)):
        sample = Sample(f"mutants-{number:012d}", {"raw": mutant})
        stages[number % 2].process([sample])
        assert sample.reason in allowed
        if sample.is_ok:
            size = p.load(sample.parts[sample.image_part]).size
            assert size == (sample.columns["width_px"], sample.columns["height_px"])
            for stage in later:
                stage.process([sample])
            assert sample.is_ok
            assert 0 <= sample.columns["phash"] < 1 << 64


def test_a_jpeg_that_lacks_its_middle_is_corrupt_not_grey(decode):
    data = FILES["jpg"]
    assert decode(data[: len(data) * 2 // 3] + data[-2:]).reason is Reason.CORRUPT


def test_pillow_is_left_strict(decode):
    from PIL import ImageFile

    decode(FILES["png"])
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert Image.open  # the reader itself stays as it is
