"""LICENSES.md: every media file of the demo under its licence. Used by `build.py` and the tests."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.demo.listing import Work

_PUBLIC = "public domain"
# File name under photos/: licence, author and source as scikit-image's documentation of `skimage.data` states them.
PHOTOGRAPHS = {
    "astronaut.jpg": (_PUBLIC, "NASA, portrait of Eileen Collins (`skimage.data.astronaut`)"),
    "rocket.jpg": (_PUBLIC, "SpaceX, launch of DSCOVR, released in the public domain (`skimage.data.rocket`)"),
    "hubble-deep-field.jpg": (_PUBLIC, "NASA, Hubble eXtreme Deep Field (`skimage.data.hubble_deep_field`)"),
    "clock-motion.jpg": (_PUBLIC, "Stefan van der Walt, released in the public domain (`skimage.data.clock`)"),
    "camera.jpg": ("CC0-1.0", "Lav Varshney (`skimage.data.camera`)"),
    "chelsea.jpg": ("CC0-1.0", "Stefan van der Walt (`skimage.data.chelsea`)"),
    "coffee.jpg": ("CC0-1.0", "Rachel Michetti (`skimage.data.coffee`)"),
    "horse.jpg": ("CC0-1.0", "Andreas Preuss (`skimage.data.horse`)"),
    "brick.jpg": ("CC0-1.0", "CC0Textures, Bricks25 (`skimage.data.brick`)"),
    "grass.jpg": ("CC0-1.0", "linolafett (`skimage.data.grass`)"),
    "gravel.jpg": ("CC0-1.0", "CC0Textures, Gravel04 (`skimage.data.gravel`)"),
    "retina.jpg": ("CC0-1.0", "Mikael Haggstrom (`skimage.data.retina`)"),
}
_HEAD = """# Licences of the demo's media

Written by `build.py`. The first column names a file or a pattern under `media/`; each file falls under exactly one row.

| file | licence | author and source |
|---|---|---|
"""
FLUENT = "Microsoft, Fluent Emoji 3D; npm `@lobehub/fluent-emoji-3d` 1.1.0 by LobeHub"
_TAIL = """
Films are cut, scaled and encoded anew from Big Buck Bunny, (c) copyright 2008, Blender Foundation,
https://peach.blender.org, Creative Commons Attribution 3.0 (https://creativecommons.org/licenses/by/3.0/). Speech is
Asterisk's prompts, recorded by Allison Smith, Creative Commons Attribution-ShareAlike 3.0
(https://creativecommons.org/licenses/by-sa/3.0/): so are the files made from it, which are converted, and where the
list says so changed.

Photographs come from the PyPI package `scikit-image` 0.26.0, whose documentation states the terms; they are scaled to
at most 512 px. English and Chinese names in the tables come from the PyPI package `emoji` 2.16.0 (BSD-3-Clause), which
takes them from Unicode CLDR (Unicode-3.0).

The MIT licence of Fluent Emoji:

> Copyright (c) Microsoft Corporation.
>
> Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
> documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
> rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
> persons to whom the Software is furnished to do so, subject to the following conditions:
>
> The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
> Software.
>
> THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
> WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
> COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
> OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def write(path: Path, media: Path, made: Sequence[str], works: Mapping[str, Work]) -> None:
    """One row per file, but the drawings share one. works: of the films, sounds and captions, by path under media/."""
    rows = [("fluent/*", "MIT", FLUENT)]
    rows += [(name, work.license, work.source) for name, work in sorted(works.items())]
    rows += [(f"photos/{name}", *PHOTOGRAPHS[name]) for name in sorted(PHOTOGRAPHS)]
    for file in sorted((media / "planted").iterdir()):
        name = f"planted/{file.name}"
        if name in works:
            continue
        made_here = ("CC0-1.0", "made by `planted.py`, shows nobody's picture")
        rows.append((name, *made_here) if name in made else (name, "MIT", f"{FLUENT}; changed by `planted.py`"))
    table = "".join(f"| `{name}` | {license_name} | {source} |\n" for name, license_name, source in rows)
    path.write_text(_HEAD + table + _TAIL, encoding="utf-8")


def read_patterns(path: Path) -> list[str]:
    """The first column."""
    return re.findall(r"^\| `([^`]+)` \|", path.read_text(encoding="utf-8"), flags=re.MULTILINE)


def covering(patterns: Sequence[str], file: str) -> list[str]:
    """The patterns that a file under media/ falls under."""
    return [pattern for pattern in patterns if fnmatch.fnmatchcase(file, pattern)]
