"""`make bench`: runs the measurements named on the command line, or all, and writes them into the README."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tests.bench import (
    audio,
    emit,
    faces,
    images,
    memory,
    recipes,
    resume,
    scoring,
    select,
    text,
    train,
    train_photos,
    video,
    what_if,
)
from tests.bench.table import Row, write

BUILD = Path(__file__).parents[2] / "build" / "bench"
SECTIONS: dict[str, Callable[[Path], list[Row]]] = {
    "images": images.rows,
    "images-large": images.large_rows,
    "score": scoring.rows,
    "video": video.rows,
    "audio": audio.rows,
    "text": text.rows,
    "faces": faces.rows,
    "select": select.rows,
    "select-large": select.large_rows,
    "recipes": recipes.rows,
    "emit": emit.rows,
    "what-if": what_if.rows,
    "memory": memory.rows,
    "resume": resume.rows,
    "train": train.rows,
    "train-photos": train_photos.rows,
}


def main() -> int:
    if "--help" in sys.argv:
        print(f"python -m tests.bench [{'|'.join(SECTIONS)}] ...")
        return 0
    wanted = sys.argv[1:] or list(SECTIONS)
    unknown = [name for name in wanted if name not in SECTIONS]
    if unknown:
        print(f"no such measurement: {', '.join(unknown)}; there are {', '.join(SECTIONS)}", file=sys.stderr)
        return 2
    missed = []
    for name in wanted:
        folder = BUILD / name
        folder.mkdir(parents=True, exist_ok=True)
        rows = SECTIONS[name](folder)
        print(write(name, rows), flush=True)
        missed += [row for row in rows if not row.is_kept]
    for row in missed:
        print(f"below what is promised: {row.what}: {row.ratio:.2f}, promised {row.promised}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
