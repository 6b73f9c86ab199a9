"""Written files are at least as near to a Lanczos reference as img2dataset's, for every make of input."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.image import pictures as p

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "photos" / "images"
MAKES = {
    "4:2:0": lambda image: p.encode(image),
    "4:4:4": lambda image: p.encode(image, subsampling=0),
    "grey": lambda image: p.encode(np.asarray(Image.fromarray(image).convert("L"))),
    "png": lambda image: p.encode(image, "PNG"),
}


def quality_of(decode, images, make, side):
    """(ours, img2dataset's): mean PSNR in dB of the written JPEGs against Pillow's Lanczos."""
    resizer = pytest.importorskip("img2dataset.resizer").Resizer(side, "keep_ratio", False)
    ours, theirs = [], []
    for image in images:
        data = MAKES[make](image)
        written = decode(data, side_px=side).parts["jpg"]
        reference = load_lanczos(data, p.load(written).size)
        ours.append(p.psnr(p.rgb(written), reference))
        theirs.append(p.psnr(p.rgb(resizer(io.BytesIO(data))[0]), reference))
    return np.mean(ours), np.mean(theirs)


def load_lanczos(data: bytes, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(p.load(data).convert("RGB").resize(size, Image.Resampling.LANCZOS))


@pytest.mark.parametrize("make", MAKES)
def test_made_pictures_are_written_at_least_as_true_as_by_img2dataset(decode, make):
    sizes = [(300 + 37 * i, 260 + 29 * (i * 5 % 11)) for i in range(11)]
    images = [p.photo(width, height, seed) for seed, (width, height) in enumerate(sizes)]
    ours, theirs = quality_of(decode, images, make, side=128)
    assert ours >= theirs


@pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"photographs are read from {PHOTOS}, which is absent")
@pytest.mark.parametrize("make", MAKES)
def test_photographs_are_written_at_least_as_true_as_by_img2dataset(decode, make):
    images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(PHOTOS.iterdir())[::20]]
    ours, theirs = quality_of(decode, images, make, side=112)
    assert ours >= theirs


@pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"photographs are read from {PHOTOS}, which is absent")
@pytest.mark.parametrize("make", MAKES)
def test_large_photographs_are_written_at_least_as_true_as_by_img2dataset(decode, make):
    rng = np.random.default_rng(0)
    images = []
    for path in sorted(PHOTOS.iterdir())[::42]:
        photo = Image.open(path).convert("RGB")
        scale = (rng.uniform(0.3e6, 1.0e6) / (photo.width * photo.height)) ** 0.5
        photo = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.LANCZOS)
        grain = rng.normal(0, 3, (photo.height, photo.width, 1))  # what a sensor adds, and enlarging took away
        images.append(np.clip(np.asarray(photo) + grain, 0, 255).astype(np.uint8))
    ours, theirs = quality_of(decode, images, make, side=256)
    assert ours >= theirs


@pytest.mark.parametrize("shrink", [1.0, 1.1, 1.39, 1.41, 1.7, 1.99, 2.0, 2.01, 3.3, 7.9, 16.5])
def test_nothing_is_shifted_at_any_factor(decode, shrink):
    image = p.photo(round(64 * shrink * 1.25), round(64 * shrink), seed=5)
    for make in ("4:2:0", "png"):
        data = MAKES[make](image)
        shown = p.rgb(decode(data, side_px=64, format="png").parts["png"]).astype(float)
        reference = load_lanczos(data, (shown.shape[1], shown.shape[0])).astype(float)
        here = p.psnr(shown, reference)
        for axis in (0, 1):
            for step in (-1, 1):
                half = (reference + np.roll(reference, step, axis)) / 2
                assert p.psnr(shown, half) < here
