"""Fit the linear map that joins the two towers, and choose the demo's concepts. For maintainers; users need neither.

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0     (then unpack both)
    python -m pipelines.demo.encoder.fit --google google/package --twitter twitter/package

writes `map.safetensors` and `concepts.tsv` beside this file. The fit sees Noto and Twemoji drawings and the 1,000
ImageNet class names; it never sees a Fluent picture nor a photograph, which are what `measure` judges it on.

1. Text side: the mean direction of all names is projected out, then directions in which names hardly differ are raised
   (a softened whitening, the covariance plus `WHITEN`): names of things are close together in MiniLM's space.
2. Prior, in closed form and without pictures (as in DeViSE): centred classifier weights times centred class names.
3. Ridge regression of the names' texts on the drawings' features, shrunk towards `PRIOR` times the prior.
4. Concepts: things whose name is told from the others on Twemoji by a fit on Noto, and the other way round. So the
   choice depends on what a name can say about a drawing, not on the pictures that the demo shows.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance, ImageOps
from safetensors.numpy import save_file

from pipelines.demo.encoder import names, towers
from pipelines.demo.encoder.towers import Array, unit

HERE = Path(__file__).parent
RIDGE = 0.1
PRIOR = 5.0  # in units of the multiple of the prior that fits the drawings best
WHITEN = 1e-3
CONCEPTS = 612
JITTERED = 2  # views of each drawing besides itself and its mirror image
_SKIN_TONES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")


@dataclass
class Drawings:
    """The drawings of one artist: features, and per row the code and the name."""

    features: Array
    codes: list[str]
    texts: Array


@dataclass
class Maps:
    """`unit(features @ image + bias)` and `unit(text @ text_map)` lie in one space."""

    image: Array
    bias: Array
    text: Array


def load_drawings(package: Path, set_name: str) -> Drawings:
    """Each drawing that has a name, in several views; skin tones are left out."""
    paths = [
        path
        for path in sorted((package / "img" / set_name / "64").glob("*.png"))
        if names.names(path.stem) and not any(tone in path.stem for tone in _SKIN_TONES)
    ]
    model = towers.image_model()
    features = [towers.image_features(model, map(towers.as_the_pipeline_stores, paths))]
    features.append(towers.image_features(model, (ImageOps.mirror(towers.as_the_pipeline_stores(p)) for p in paths)))
    for view in range(JITTERED):
        rng = random.Random(view)
        features.append(towers.image_features(model, (jittered(path, rng) for path in paths)))
    codes = [path.stem for path in paths]
    texts = towers.text_embeddings([english_of(code) for code in codes])
    return Drawings(np.concatenate(features), codes * len(features), np.concatenate([texts] * len(features)))


def jittered(path: Path, rng: random.Random) -> Image.Image:
    """The drawing turned, shrunk and recoloured a little: another artist would have done so too."""
    drawing = Image.open(path).convert("RGBA").resize((256, 256), Image.Resampling.BICUBIC)
    drawing = drawing.rotate(rng.uniform(-15, 15), Image.Resampling.BICUBIC)
    size = rng.randint(176, 256)
    canvas = Image.new("RGBA", (256, 256), (255, 255, 255, 255))
    place = (rng.randint(0, 256 - size), rng.randint(0, 256 - size))
    canvas.alpha_composite(drawing.resize((size, size), Image.Resampling.LANCZOS), place)
    picture = canvas.convert("RGB")
    if rng.random() < 0.5:
        picture = ImageOps.mirror(picture)
    picture = ImageEnhance.Color(picture).enhance(rng.uniform(0.6, 1.4))
    picture = ImageEnhance.Brightness(picture).enhance(rng.uniform(0.8, 1.15))
    return ImageEnhance.Contrast(picture).enhance(rng.uniform(0.7, 1.3))


def english_of(code: str) -> str:
    """The English name of a code that has one."""
    found = names.names(code)
    assert found is not None
    return found[0]


def class_prior() -> tuple[Array, Array]:
    """Centred classifier weights `[1000, 1280]` and the texts of the class names `[1000, 384]`."""
    from torchvision.models import MobileNet_V2_Weights  # type: ignore[import-untyped]

    weights: Array = towers.image_model().get_classifier().weight.detach().double().numpy()
    return weights - weights.mean(0), towers.text_embeddings(MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"])


def text_map(name_texts: Array, class_texts: Array) -> Array:
    """Step 1: `[384, 384]`, applied from the right."""
    mean = unit(unit(np.stack([name_texts.mean(0), class_texts.mean(0)])).mean(0, keepdims=True))
    project = np.eye(towers.TEXT_DIM) - mean.T @ mean
    both = np.concatenate([name_texts, class_texts])
    centred = (both - both.mean(0)) @ project
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    whitened = project @ (vectors / np.sqrt(values + WHITEN)) @ vectors.T
    return whitened / np.sqrt((whitened**2).sum() / towers.TEXT_DIM)  # type: ignore[no-any-return]


def fit(features: Array, texts: Array, weights: Array, class_texts: Array, mapped: Array) -> Maps:
    """Steps 2 and 3."""
    target = unit(texts @ mapped)
    feature_mean, target_mean = features.mean(0), target.mean(0)
    centred, wanted = features - feature_mean, target - target_mean
    class_target = unit(class_texts @ mapped)
    prior = weights.T @ (class_target - class_target.mean(0))
    guess = centred @ prior
    prior *= PRIOR * (guess * wanted).sum() / (guess**2).sum()
    gram = centred.T @ centred / len(centred) + RIDGE * np.eye(features.shape[1])
    image = prior + np.linalg.solve(gram, centred.T @ (wanted - centred @ prior) / len(centred))
    return Maps(image, target_mean - feature_mean @ image, mapped)


def told_apart(fitted: Maps, shown: Drawings, codes: list[str]) -> dict[str, float]:
    """Per code: the share of the other names that score below its own on the artist's drawing."""
    row_of = {code.replace("-fe0f", ""): row for row, code in reversed(list(enumerate(shown.codes)))}
    rows = [row_of[code.replace("-fe0f", "")] for code in codes]
    pictures = unit(shown.features[rows] @ fitted.image + fitted.bias)
    scores = pictures @ unit(shown.texts[rows] @ fitted.text).T
    return dict(zip(codes, (scores < scores.diagonal()[:, None]).mean(1).tolist(), strict=True))


def write_concepts(path: Path, told: list[dict[str, float]], categories: dict[str, tuple[str, str]]) -> None:
    """The best `CONCEPTS` by the worse of both artists, best first."""
    worst = {code: min(entry[code] for entry in told) for code in told[0]}
    chosen = sorted(worst, key=lambda code: (-round(worst[code], 6), code))[:CONCEPTS]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["code", "name", "category", "subcategory", "told_apart"])
        for code in chosen:
            writer.writerow([code, english_of(code), *categories[code], f"{worst[code]:.4f}"])


def read_categories(package: Path) -> dict[str, tuple[str, str]]:
    """Code to category and subcategory of every concrete thing that both artists drew."""
    entries = json.loads((package / "emoji.json").read_text(encoding="utf-8"))
    found: dict[str, tuple[str, str]] = {}
    for entry in entries:
        code = Path(entry["image"]).stem
        named = names.names(code)
        drawn = entry["has_img_google"] and entry["has_img_twitter"]
        if named and drawn and names.is_concrete(named[0], entry["category"], entry["subcategory"]):
            found[code] = (entry["category"], entry["subcategory"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--google", type=Path, required=True, help="unpacked npm package emoji-datasource-google")
    parser.add_argument("--twitter", type=Path, required=True, help="unpacked npm package emoji-datasource-twitter")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    noto = load_drawings(arguments.google, "google")
    twemoji = load_drawings(arguments.twitter, "twitter")
    weights, class_texts = class_prior()
    name_texts = np.unique(np.concatenate([noto.texts, twemoji.texts]).round(6), axis=0)
    mapped = text_map(name_texts, class_texts)

    categories = read_categories(arguments.google)
    told = [
        told_apart(fit(seen.features, seen.texts, weights, class_texts, mapped), shown, sorted(categories))
        for seen, shown in ((noto, twemoji), (twemoji, noto))
    ]
    write_concepts(HERE / "concepts.tsv", told, categories)

    features = np.concatenate([noto.features, twemoji.features])
    texts = np.concatenate([noto.texts, twemoji.texts])
    maps = fit(features, texts, weights, class_texts, mapped)
    tensors: dict[str, npt.NDArray[Any]] = {
        "image_map": np.ascontiguousarray(maps.image.T, dtype=np.float16),
        "image_bias": maps.bias.astype(np.float32),
        "text_map": np.ascontiguousarray(maps.text.T, dtype=np.float16),
    }
    save_file(tensors, HERE / "map.safetensors", metadata={"ridge": str(RIDGE), "prior": str(PRIOR)})
    print(f"{len(features)} drawings, {len(name_texts)} names -> {HERE / 'map.safetensors'}")


if __name__ == "__main__":
    main()
