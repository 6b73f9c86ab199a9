"""No metadata reaches the output, and keep_original changes no pixel."""

from __future__ import annotations

import numpy as np
import pytest

from tests.image import pictures as p

LOADED = {
    "jpg": p.jpeg_with_everything(p.photo()),
    "png": p.png_with_everything(p.photo()),
    "webp": p.webp_with_everything(p.photo()),
}
TRACES = [p.CANARY, b"Exif", b"EXIF", b"xmpmeta", b"XMP ", b"JFXX", b"Photoshop", b"tEXt", b"iTXt", b"PK\x03\x04"]


@pytest.mark.parametrize("kind", LOADED)
def test_the_test_files_do_carry_metadata(kind):
    assert p.CANARY in LOADED[kind]


@pytest.mark.parametrize("kind", LOADED)
@pytest.mark.parametrize("options", [{}, {"format": "png"}, {"format": "webp"}, {"keep_original": True}])
def test_no_metadata_reaches_the_output(decode, kind, options):
    sample = decode(LOADED[kind], **options)
    assert sample.is_ok
    written = sample.parts[sample.image_part]
    assert [trace for trace in TRACES if trace in written] == []
    assert not p.load(written).getexif()


@pytest.mark.parametrize("kind", LOADED)
def test_kept_originals_are_pixel_identical_and_keep_their_colour_profile(decode, kind):
    sample = decode(LOADED[kind], keep_original=True, side_px=16)
    assert list(sample.parts) == [kind]
    before, after = p.load(LOADED[kind]), p.load(sample.parts[kind])
    assert np.array_equal(np.asarray(before), np.asarray(after))
    assert before.info.get("icc_profile") == after.info.get("icc_profile")
    assert after.size == (sample.columns["width_px"], sample.columns["height_px"]) == (320, 240)


OTHERS = {
    "progressive": p.encode(p.photo(), progressive=True, comment=p.CANARY),
    "restarts": p.encode(p.photo(), restart_marker_rows=1, comment=p.CANARY),
    "grey": p.encode(p.photo()[:, :, 0], comment=p.CANARY),
    "cmyk": p.encode(p.load(LOADED["png"]).convert("CMYK"), comment=p.CANARY),
    "16 bits": p.png_16_bit(p.photo().astype(np.uint16) * 257),
    "palette": p.encode(p.load(LOADED["png"]).quantize(16), "PNG", transparency=3),
    "lossy": p.encode(p.photo(), "WEBP", exif=b"Exif\x00\x00" + p.exif(text=p.CANARY)),
    "alpha": p.encode(np.dstack([p.photo(), p.photo()[:, :, 0]]), "WEBP", xmp=p.XMP),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_make_of_picture_survives_stripping(decode, name):
    sample = decode(OTHERS[name], keep_original=True)
    assert sample.is_ok
    written = sample.parts[sample.image_part]
    assert p.CANARY not in written
    before, after = p.load(OTHERS[name]), p.load(written)
    assert before.mode == after.mode
    assert np.array_equal(np.asarray(before.convert("RGBA")), np.asarray(after.convert("RGBA")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_turned_original_is_written_upright(decode, kind):
    image = p.photo(96, 64)
    sample = decode(p.with_exif(image, 6, kind), keep_original=True)
    assert list(sample.parts) == ["jpg"]
    assert p.load(sample.parts["jpg"]).size == (96, 64)
    assert p.psnr(p.rgb(sample.parts["jpg"]), image) > 28


@pytest.mark.parametrize(("kind", "part"), [("GIF", "jpg"), ("WEBP", "jpg"), ("PNG", "png")])
def test_a_kept_animation_is_a_still_picture(decode, kind, part):
    sample = decode(p.animation(kind), keep_original=True)
    assert list(sample.parts) == [part]
    picture = p.load(sample.parts[part])
    assert getattr(picture, "n_frames", 1) == 1
    assert np.asarray(picture.convert("RGB"))[..., 0].min() > 250
