"""What the recipes keep of photographs of which 30 % have the caption of another, and what that is worth to a probe.

The photographs, with five captions each, lie beside the project (../shared/data/photos). One in five is held out with
its right captions; a probe (probe.py) is trained on all pairs of the others, and on what a recipe keeps of them: the
same steps, batch and seeds. Thresholds of the papers belong to their CLIP; with an encoder of one's own a recipe says
which share to keep: `select.thresholds.clip_similarity={top_share: 0.6}`.

What the ratio of a probe says: by how many times the spread of the seeds (best less worst) its mean R@1 is better.
datacomp_basic does not look at similarity, and two thirds of these photographs are smaller than its 200 px.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from mmdata.config import load
from mmdata.run.dataset import select_part
from mmdata.run.driver import Driver
from mmdata.run.local import LocalExecutor
from mmdata.run.status import Progress
from mmdata.shards import ledger
from mmdata.shards.folders import RunFolder
from tests.bench.probe import SEEDS, HeldOut, probed
from tests.bench.scoring import ENCODER
from tests.bench.table import Row

SHARED = Path(__file__).parents[3] / "shared"
PHOTOS, STANDIN = SHARED / "data" / "photos", SHARED / "models" / "clip-standin"
SWAPPED_SHARE, HELD_OUT_SHARE = 0.3, 0.2
SEED = 17
# By name, recipe and what is overridden. laion_tags and laion_aesthetic need tags that come with LAION's tables.
RECIPES: dict[str, tuple[str, Sequence[str]]] = {
    "datacomp_basic": ("datacomp_basic", ()),
    "laion2b_en": ("laion2b_en", ()),
    "laion2b_en, the best 60 % by our encoder": (
        "laion2b_en",
        ("select.thresholds.clip_similarity={top_share: 0.6}",),
    ),
    "clip_top30": ("clip_top30", ()),
}


@dataclass(frozen=True)
class Pairs:
    """Rows of a run in order: embeddings, which picture, whether the caption is its own, and what was kept."""

    pictures_ND: np.ndarray
    captions_ND: np.ndarray
    image_N: np.ndarray
    is_right_N: np.ndarray
    kept_N: np.ndarray


def write_tables(folder: Path) -> None:
    """pool.jsonl, in which 30 % of the captions belong to another photograph, and held-out.jsonl."""
    lines = [json.loads(line) for line in (PHOTOS / "captions.jsonl").read_text(encoding="utf-8").splitlines()]
    rng = random.Random(SEED)
    rng.shuffle(lines)
    cut = round(len(lines) * HELD_OUT_SHARE)
    for name, chosen, share in (("held-out", lines[:cut], 0.0), ("pool", lines[cut:], SWAPPED_SHARE)):
        rows = [
            {"path": line["image"], "caption": caption, "planted": "right"}
            for line in chosen
            for caption in line["captions"]
        ]
        swapped = rng.sample(range(len(rows)), round(len(rows) * share))
        captions = {place: rows[place]["caption"] for place in swapped}
        # Each takes the caption of the next one that shows another photograph.
        order = sorted(swapped, key=lambda place: rng.random())
        for index, place in enumerate(order):
            others = (order[(index + step) % len(order)] for step in range(1, len(order)))
            other = next(other for other in others if rows[other]["path"] != rows[place]["path"])
            rows[place] |= {"caption": captions[other], "planted": "swapped"}
        text = "".join(json.dumps(row) + "\n" for row in rows)
        path = folder / f"{name}.jsonl"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def carried_out(folder: Path, name: str, select: list[dict[str, object]], overrides: Sequence[str] = ()) -> Pairs:
    """Ingest and score a table, once, and select from it."""
    model = STANDIN if STANDIN.exists() else ENCODER
    tree = {
        "name": name,
        "seed": SEED,
        "sources": {"photos": {"kind": "media_table", "path": f"{name}.jsonl", "root": str(PHOTOS / "images")}},
        "stages": [{"language": {}}, {"decode_image": {"side_px": 256, "resize": "keep_ratio"}}],
        "score": [{"image_text": {"model": f"local-dir:{model}", "batch_size": 16}}],
        "select": select,
        "emit": {"val_share": 0.0},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tree))
    pipeline = load(str(path), list(overrides))
    run = RunFolder(str(folder / f"run-{name}"))
    progress = Progress(run)
    driver = Driver(pipeline, run, lambda: LocalExecutor(pipeline.run), progress)
    with driver.opened(), progress:
        driver.record.write()
        driver.ingest()
        driver.score()
        selection = select_part(driver)
    found = []
    for shard in selection.shards:
        rows = ledger.read(shard.ledger, ["path", "planted"])
        scores = ledger.read(shard.scores["image_text"], ["image_embedding", "text_embedding", "status"])
        kept = ledger.read(shard.selection, ["keep"])["keep"].to_pylist()
        found += list(zip(rows.to_pylist(), scores.to_pylist(), kept, strict=True))
    usable = [(row, score, kept) for row, score, kept in found if score["status"] == "ok"]
    assert len(usable) == len(found), f"{name}: {len(found) - len(usable)} photographs could not be scored"
    names = {path: number for number, path in enumerate(dict.fromkeys(row["path"] for row, _, _ in usable))}
    return Pairs(
        np.array([score["image_embedding"] for _, score, _ in usable], np.float32),
        np.array([score["text_embedding"] for _, score, _ in usable], np.float32),
        np.array([names[row["path"]] for row, _, _ in usable]),
        np.array([row["planted"] == "right" for row, _, _ in usable]),
        np.array([kept for _, _, kept in usable]),
    )


def rows(folder: Path) -> list[Row]:
    """The rows of the README's table; runs stay for the next time."""
    if not PHOTOS.exists():
        raise SystemExit(f"the recipes are measured on captioned photographs, which are not there: {PHOTOS}")
    write_tables(folder)
    apart = carried_out(folder, "held-out", [])
    _, firsts = np.unique(apart.image_N, return_index=True)
    held_out = HeldOut(apart.pictures_ND[firsts], apart.captions_ND, apart.image_N)
    pool = carried_out(folder, "pool", [])
    before, raw = pool.is_right_N.mean(), probed(pool.pictures_ND, pool.captions_ND, held_out)
    made = []
    for said, (recipe, overrides) in RECIPES.items():
        chosen = carried_out(folder, "pool", [{"recipe": recipe}], overrides)
        kept_N = chosen.kept_N
        assert kept_N.any(), f"recipe {said} keeps nothing"
        after = chosen.is_right_N[kept_N].mean()
        by_clip = recipe != "datacomp_basic"
        yielded = f"{kept_N.sum():,} of {len(kept_N):,} pairs kept"
        made.append(
            Row(
                f"recipe {said}: right among {yielded} (ratio: share of wrong ones, before by after)",
                f"{after:.1%}",
                f"all pairs {before:.1%}",
                (1 - before) / max(1 - after, 1 / kept_N.sum()),
                1.2 if by_clip else None,
            )
        )
        filtered = probed(chosen.pictures_ND[kept_N], chosen.captions_ND[kept_N], held_out)
        spread = max(raw.spread, filtered.spread, 1 / len(held_out.picture_Q))
        made.append(
            Row(
                f"recipe {said}: probe, {len(SEEDS)} seeds (ratio: gain in spreads)",
                str(filtered),
                f"all pairs {raw}",
                (filtered.mean - raw.mean) / spread,
                1.0 if by_clip else None,
            )
        )
    return made
