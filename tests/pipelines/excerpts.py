"""Small excerpts of the published families in their own formats, over real media, and a server that has the media."""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SHARED = Path(__file__).parents[3] / "shared" / "data"
HOST = "http://media.example"
PHOTOS = 12


def shared(name: str) -> Path:
    """A folder of real media; skips the test where it is not there."""
    if not (SHARED / name).exists():
        pytest.skip(f"no shared/data/{name} beside the checkout")
    return SHARED / name


@contextlib.contextmanager
def served(folder: Path) -> Iterator[list[str]]:
    """Overrides that lead links to HOST to a server of the files in `folder`, while the block runs."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield [
            "fetch.allow_networks=[127.0.0.0/8]",
            f"fetch.connect_to={{media.example: '127.0.0.1:{server.server_address[1]}'}}",
            "fetch.retries=0",
        ]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def photos(folder: Path) -> list[tuple[str, str]]:
    """(link, caption) of some photographs, copied into the folder that is served."""
    source = shared("photos")
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in (source / "captions.jsonl").read_text().splitlines()[:PHOTOS]]
    for row in rows:
        shutil.copy(source / "images" / Path(row["image"]).name, folder)
    return [(f"{HOST}/{Path(row['image']).name}", row["captions"][0]) for row in rows]


def films(folder: Path) -> list[tuple[str, str]]:
    """(link, caption) of the smaller real clips, copied into the folder that is served."""
    source = shared("video")
    folder.mkdir(parents=True, exist_ok=True)
    with (source / "captions.tsv").open(newline="") as file:
        rows = [(row["file"], row["caption"]) for row in csv.DictReader(file, delimiter="\t")]
    small = [(name, caption) for name, caption in rows if (source / name).stat().st_size < 200_000]
    for name, _ in small:
        shutil.copy(source / name, folder)
    return [(f"{HOST}/{name}", caption) for name, caption in small]


def write_laion(path: Path, rows: list[tuple[str, str]], **columns: Any) -> Path:
    """Parquet with the columns and types of laion2B-en."""
    count = len(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {
        "SAMPLE_ID": pa.array(range(count), pa.int64()),
        "URL": [link for link, _ in rows],
        "TEXT": [caption for _, caption in rows],
        "HEIGHT": pa.array([400] * count, pa.int32()),
        "WIDTH": pa.array([600] * count, pa.int32()),
        "LICENSE": ["?"] * count,
        "NSFW": ["UNLIKELY"] * count,
        "similarity": pa.array([0.31] * count, pa.float64()),
        "punsafe": pa.array([0.01] * count, pa.float32()),
        "pwatermark": pa.array([0.1] * count, pa.float32()),
    }
    pq.write_table(pa.table(table | columns), path, compression="snappy")
    return path


def write_cc(path: Path, rows: list[tuple[str, str]]) -> Path:
    """CC3M's TSV: caption and link, no header, no quoting."""
    path.write_text("".join(f"{caption}\t{link}\n" for link, caption in rows))
    return path


def write_webvid(path: Path, rows: list[tuple[str, str]]) -> Path:
    """WebVid's CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["videoid", "contentUrl", "duration", "page_dir", "name"])
        for number, (link, caption) in enumerate(rows):
            writer.writerow([21179416 + number, link, "PT00H00M11S", "006001_006050", caption])
    return path


def write_mmc4(path: Path, rows: list[tuple[str, str]]) -> Path:
    """MMC4's JSONL: a document of two images and three sentences of each two rows, with its own matrix."""
    lines = []
    for number in range(0, len(rows) - 1, 2):
        pair = rows[number : number + 2]
        images = [
            {"image_name": f"{number + place}.jpg", "raw_url": link, "matched_text_index": place, "matched_sim": 0.3}
            for place, (link, _) in enumerate(pair)
        ]
        document = {
            "url": f"http://pages.example/{number}.html",
            "text_list": [*(caption for _, caption in pair), "That is all."],
            "image_info": images,
            "similarity_matrix": [[0.3, 0.1, 0.0], [0.1, 0.3, 0.0]],
            "could_have_url_duplicate": 0,
        }
        lines.append(json.dumps(document) + "\n")
    path.write_text("".join(lines))
    return path


def write_llava(path: Path, images: Path, names: list[str]) -> Path:
    """LLaVA's JSON over files in `images`, and one dialogue without an image."""
    records: list[dict[str, Any]] = [
        {
            "id": Path(name).stem,
            "image": name,
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is shown?"},
                {"from": "gpt", "value": f"A photograph, number {number}."},
            ],
        }
        for number, name in enumerate(names)
    ]
    records.append(
        {"id": "text", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
    )
    assert all((images / name).is_file() for name in names)
    path.write_text(json.dumps(records))
    return path
