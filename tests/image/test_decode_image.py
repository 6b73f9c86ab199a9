"""What comes out of decode_image is upright 8-bit sRGB over white of the size that the columns say."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from mmdata.errors import Reason
from mmdata.image.decode_image import DecodeImage
from mmdata.sample import Sample
from tests.image import pictures as p

KINDS = ["JPEG", "PNG", "WEBP", "GIF"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["jpg", "png", "webp"])
def test_every_readable_kind_becomes_every_writable_one(decode, kind, part):
    sample = decode(p.encode(p.photo(), kind), side_px=64, format=part)
    assert sample.is_ok
    assert list(sample.parts) == [part] == [sample.image_part]
    picture = p.load(sample.parts[part])
    assert picture.mode == "RGB"
    assert picture.size == (85, 64) == (sample.columns["width_px"], sample.columns["height_px"])
    assert (sample.columns["original_width_px"], sample.columns["original_height_px"]) == (320, 240)
    assert p.psnr(np.asarray(picture), np.asarray(Image.fromarray(p.photo()).resize((85, 64), 1))) > 28


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_rotated_picture_comes_out_upright(decode, kind, orientation):
    image = p.photo(160, 96)
    sample = decode(p.with_exif(image, orientation, kind), side_px=48)
    assert sample.is_ok
    assert p.load(sample.parts["jpg"]).size == (80, 48)
    assert (sample.columns["original_width_px"], sample.columns["original_height_px"]) == (160, 96)
    assert p.psnr(p.rgb(sample.parts["jpg"]), np.asarray(Image.fromarray(image).resize((80, 48), 1))) > 28


def test_exif_of_either_byte_order_is_read_and_nonsense_means_upright(decode):
    from mmdata.image.header import exif_orientation

    assert [exif_orientation(p.exif(6, order)) for order in "<>"] == [6, 6]
    assert exif_orientation(p.exif(9)) == exif_orientation(b"") == exif_orientation(b"II*\x00\xff\xff\xff\xff") == 1
    assert exif_orientation(p.exif(6)[:20]) == 1


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"quality": 30}]
)
@pytest.mark.parametrize("size", [(320, 240), (321, 243), (1000, 41), (17, 9)])
def test_every_make_of_jpeg_is_read(decode, options, size):
    image = p.photo(*size)
    sample = decode(p.encode(image, **options), resize="no")
    assert p.load(sample.parts["jpg"]).size == size
    assert p.psnr(p.rgb(sample.parts["jpg"]), p.rgb(p.encode(image, **options))) > 28


def test_a_cmyk_jpeg_has_its_colours(decode):
    image = p.photo()
    sample = decode(p.encode(Image.fromarray(image).convert("CMYK")), resize="no")
    assert p.psnr(p.rgb(sample.parts["jpg"]), image) > 26


def test_a_grey_picture_becomes_rgb(decode):
    grey = p.photo()[:, :, 1]
    for kind in ("JPEG", "PNG"):
        sample = decode(p.encode(grey, kind), resize="no", format="png")
        pixels = p.rgb(sample.parts["png"])
        assert (pixels[:, :, 0] == pixels[:, :, 2]).all()
        assert p.psnr(pixels[:, :, 0], grey) > 35


@pytest.mark.parametrize("colour", [True, False])
def test_16_bits_are_scaled_not_clipped(decode, colour):
    image = p.photo() if colour else p.photo()[:, :, 1]
    sample = decode(p.png_16_bit(image.astype(np.uint16) * 257), resize="no", format="png")
    shown = p.rgb(sample.parts["png"])
    assert np.array_equal(shown if colour else shown[:, :, 0], image)


def test_what_is_transparent_is_white(decode):
    image = np.dstack([p.photo(64, 64), np.repeat(np.arange(64, dtype=np.uint8) * 4, 64).reshape(64, 64)])
    want = np.rint(image[..., :3] * (image[..., 3:] / 255.0) + 255 - image[..., 3:])
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        shown = p.rgb(decode(p.encode(image, kind, **options), resize="no", format="png").parts["png"])
        assert np.abs(shown - want).max() <= 1
    palette = Image.fromarray(image[..., :3]).quantize(8)
    sample = decode(p.encode(palette, "PNG", transparency=0), resize="no", format="png")
    hidden = np.asarray(palette) == 0
    assert hidden.any()
    assert (p.rgb(sample.parts["png"])[hidden] == 255).all()
    grey = Image.fromarray(p.photo()[:, :, 0])
    sample = decode(p.encode(grey, "PNG", transparency=128), resize="no", format="png")
    assert (p.rgb(sample.parts["png"])[np.asarray(grey) == 128] == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(decode, kind):
    shown = p.rgb(decode(p.animation(kind), resize="no", format="png").parts["png"])
    assert (shown[..., 0] > 250).all()
    assert (shown[..., 1:] < 5).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_colour_profile_is_applied_and_an_srgb_one_changes_nothing(decode, kind):
    image = np.full((32, 32, 3), (200, 60, 40), np.uint8)
    options = {} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    plain = p.rgb(decode(p.encode(image, kind, **options), resize="no", format="png").parts["png"])
    named = decode(p.encode(image, kind, icc_profile=p.srgb_profile(), **options), resize="no", format="png")
    swapped = decode(p.encode(image, kind, icc_profile=p.swapped_profile(), **options), resize="no", format="png")
    assert np.array_equal(p.rgb(named.parts["png"]), plain)
    assert np.abs(p.rgb(swapped.parts["png"])[..., [1, 0, 2]].astype(int) - plain).max() < 12
    broken = decode(p.encode(image, kind, icc_profile=p.srgb_profile()[:200], **options), resize="no", format="png")
    assert np.array_equal(p.rgb(broken.parts["png"]), plain)


def test_the_same_bytes_give_the_same_bytes(decode):
    for data in (p.encode(p.photo(700, 500)), p.encode(p.photo(), "PNG"), p.encode(p.photo(), "WEBP")):
        assert decode(data).parts == decode(data).parts


LIMITS = [
    ({"min_side_px": 241}, Reason.TOO_SMALL),
    ({"max_aspect": 1.3}, Reason.ASPECT),
    ({"max_area_px": 76_799}, Reason.TOO_LARGE_AREA),
    ({"max_megapixels": 0.0767}, Reason.TOO_MANY_PIXELS),
]


@pytest.mark.parametrize(("options", "reason"), LIMITS)
def test_a_picture_outside_a_limit_ends_with_its_reason(decode, options, reason):
    sample = decode(p.encode(p.photo()), **options)
    assert sample.reason is reason
    assert "320 x 240" in sample.detail
    assert not sample.parts


def test_a_picture_exactly_at_the_limits_passes(decode):
    options = {"min_side_px": 240, "max_aspect": 320 / 240, "max_area_px": 76_800, "resize": "no"}
    assert decode(p.encode(p.photo()), max_megapixels=0.0768, **options).is_ok


def test_a_bomb_is_refused_by_its_header_without_its_memory(decode):
    data = p.png_bomb()
    assert len(data) < 50_000
    tracemalloc.start()
    sample = decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sample.reason is Reason.TOO_MANY_PIXELS
    assert peak < 2_000_000


def test_a_thin_strip_that_would_grow_into_a_bomb_is_refused(decode):
    data = p.encode(np.zeros((2, 4000, 3), np.uint8), "PNG")
    assert decode(data, side_px=1024, format="png").reason is Reason.TOO_MANY_PIXELS


def test_one_bad_sample_does_not_touch_its_neighbours():
    good, bad = p.encode(p.photo()), b"<html>"
    samples = [Sample(f"a-{i:012d}", {"raw": data}) for i, data in enumerate([good, bad, good])]
    done = DecodeImage().process(samples)
    assert [s.key for s in done] == [f"a-{i:012d}" for i in range(3)]
    assert [s.reason for s in done] == [Reason.OK, Reason.TYPE_MISMATCH, Reason.OK]
    assert done[0].parts == done[2].parts


def test_a_compression_that_png_does_not_have_is_refused():
    with pytest.raises(ValueError, match="0 to 9"):
        DecodeImage(format="png", quality=95)
