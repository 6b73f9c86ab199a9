"""How well the demo's encoder tells right captions from wrong ones, and the threshold that follows.

    python -m pipelines.demo.encoder.measure [--photos DIR]

Pictures are scored as the pipeline stores them (over white, shorter side at most 256 px, JPEG quality 95). A wrong pair
is a picture with the caption of another row. The threshold needs no labels: of all pairs of a picture with the caption
of another row, as the tables have them (swapped ones and all), 92 % score below it: 85 % are required, and with some 80
swapped rows the share that is seen may lie two standard errors, 6 points, below the one expected. What the threshold
then does to the rows that were planted as swapped is reported, not used.

Exit status 1 if a required value is missed: AUC 0.92 on the demo, 0.75 on the photographs, 85 % of swapped captions
dropped while 85 % of the right ones stay.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from pipelines.demo.encoder.build import CHECKPOINT, build_encoder
from pipelines.demo.encoder.towers import as_the_pipeline_stores

Scores = npt.NDArray[np.float32]
DEMO = Path(__file__).resolve().parent.parent
HOST = "http://media.example/"
WRONG_BELOW = 0.92
REQUIRED_DEMO, REQUIRED_PHOTOS, REQUIRED_SHARE = 0.92, 0.75, 0.85


class Encoder:
    """The checkpoint, loaded as any open_clip user would."""

    def __init__(self, checkpoint: Path) -> None:
        import open_clip

        self.model, _, self.preprocess = open_clip.create_model_and_transforms(f"local-dir:{checkpoint}")
        self.tokenizer = open_clip.get_tokenizer(f"local-dir:{checkpoint}")
        self.model.eval()

    def pictures(self, files: Sequence[Path]) -> Scores:
        """Unit embeddings of picture files, passed through the pipeline's resize and JPEG."""
        import torch

        rows = []
        for start in range(0, len(files), 32):
            stored = [as_the_pipeline_stores(file) for file in files[start : start + 32]]
            with torch.inference_mode():
                pixels = torch.stack([self.preprocess(picture) for picture in stored])
                rows.append(self.model.encode_image(pixels, normalize=True).float().numpy())
        return np.concatenate(rows)

    def texts(self, texts: Sequence[str]) -> Scores:
        """Unit embeddings of captions."""
        import torch

        rows = []
        for start in range(0, len(texts), 128):
            with torch.inference_mode():
                tokens = self.tokenizer(list(texts[start : start + 128]))
                rows.append(self.model.encode_text(tokens, normalize=True).float().numpy())
        return np.concatenate(rows)


def read_tables(tables: Path = DEMO / "tables") -> list[dict[str, Any]]:
    """All rows of the demo's tables."""
    rows: list[dict[str, Any]] = pq.read_table(tables / "nature.parquet").to_pylist()
    objects = gzip.decompress((tables / "objects.tsv.gz").read_bytes()).decode()
    rows += csv.DictReader(io.StringIO(objects), delimiter="\t")
    rows += csv.DictReader(io.StringIO((tables / "photos.csv").read_text(encoding="utf-8")))
    rows += [json.loads(line) for line in (tables / "planted.jsonl").read_text(encoding="utf-8").splitlines()]
    return rows


def auc(right: Scores, wrong: Scores) -> float:
    """The probability that a right pair scores above a wrong one (ties count half)."""
    ordered = np.sort(wrong)
    below = np.searchsorted(ordered, right, "left") + np.searchsorted(ordered, right, "right")
    return float(below.mean() / 2 / len(wrong))


def threshold_of(scores: Scores) -> float:
    """The value below which `WRONG_BELOW` of the pairs off the diagonal lie, rounded to three digits."""
    return round(float(np.quantile(scores[~np.eye(len(scores), dtype=bool)], WRONG_BELOW)), 3)


def measure_demo(encoder: Encoder) -> bool:
    """Print what is known of the demo's rows; True if it suffices."""
    rows = [row for row in read_tables() if row["planted"] in ("right", "swapped")]
    pictures = encoder.pictures([DEMO / "media" / row["URL"].removeprefix(HOST) for row in rows])
    scores = pictures @ encoder.texts([row["TEXT"] for row in rows]).T
    is_right = np.array([row["planted"] == "right" for row in rows])
    given = scores.diagonal()
    among_right = scores[np.ix_(is_right, is_right)]
    reached = auc(among_right.diagonal(), among_right[~np.eye(len(among_right), dtype=bool)])
    print(f"demo: {is_right.sum()} right and {(~is_right).sum()} swapped captions")
    print(f"AUC of right against wrong captions: {reached:.4f} (required {REQUIRED_DEMO})")
    print(f"AUC of right against swapped rows:   {auc(given[is_right], given[~is_right]):.4f}")
    threshold = threshold_of(scores)
    print("threshold   swapped dropped   right kept")
    for value in sorted({threshold, *(step / 50 for step in range(16))}):
        dropped, kept = (given[~is_right] < value).mean(), (given[is_right] >= value).mean()
        mark = f"   <- {WRONG_BELOW:.0%} of pairs with another row's caption lie below" if value == threshold else ""
        print(f"{value:9.3f} {dropped:16.1%} {kept:12.1%}{mark}")
    dropped, kept = (given[~is_right] < threshold).mean(), (given[is_right] >= threshold).mean()
    return bool(reached >= REQUIRED_DEMO and min(dropped, kept) >= REQUIRED_SHARE)


def measure_photos(encoder: Encoder, folder: Path) -> bool:
    """The same AUC on a folder with `captions.jsonl` (`image`, `captions`) and `images/`."""
    lines = (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    pictures = encoder.pictures([folder / "images" / entry["image"] for entry in entries])
    right, wrong = [], []
    for place in range(min(len(entry["captions"]) for entry in entries)):
        scores = pictures @ encoder.texts([entry["captions"][place] for entry in entries]).T
        right.append(scores.diagonal())
        wrong.append(scores[~np.eye(len(scores), dtype=bool)])
    reached = auc(np.concatenate(right), np.concatenate(wrong))
    print(
        f"{len(entries)} photographs, AUC of right against wrong captions: {reached:.4f} (required {REQUIRED_PHOTOS})"
    )
    return reached >= REQUIRED_PHOTOS


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--photos", type=Path, help="folder of captioned photographs, for a second opinion")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="built there if it is not yet")
    arguments = parser.parse_args()
    encoder = Encoder(build_encoder(arguments.checkpoint))
    enough = measure_demo(encoder)
    if arguments.photos is None or not (arguments.photos / "captions.jsonl").is_file():
        print(f"photographs: skipped, no captions.jsonl in {arguments.photos}")
    else:
        enough = measure_photos(encoder, arguments.photos) and enough
    raise SystemExit(0 if enough else 1)


if __name__ == "__main__":
    main()
