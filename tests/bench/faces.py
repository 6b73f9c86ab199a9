"""How many faces blur_faces finds: `python -m tests.bench.faces` prints it for the labelled photographs.

faces.json has, for 63 photographs drawn at random from those whose captions speak of people, a box for every face of
which eyes, nose or mouth can be seen and that is 8 px high or higher: left, top, right, bottom. The boxes were drawn by
looking at enlarged photographs with the network's own weakest guesses beside them, so they are a little kind to it.
A face counts as found where the blurred area covers at least four fifths of its box.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdata.image.blur_faces import BlurFaces, grown
from mmdata.image.read import read_srgb
from tests.bench.table import Row

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "photos" / "images"
LABELS = Path(__file__).with_name("faces.json")
COVERED = 0.8
LARGE_PX = 16
Finder = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


def covered_share(face: list[int], boxes_F4: NDArray[np.int64]) -> float:
    """Share of a labelled box that lies in any of the blurred ones."""
    left, top, right, bottom = face
    inside_HW = np.zeros((bottom - top, right - left), bool)
    for low_x, low_y, high_x, high_y in boxes_F4.tolist():
        inside_HW[max(0, low_y - top) : max(0, high_y - top), max(0, low_x - left) : max(0, high_x - left)] = True
    return float(inside_HW.mean())


def measure(find: Finder, margin: float, every: int = 1) -> dict[str, int]:
    """Counts over each `every`-th labelled photograph: faces, found, large ones, those found, other things blurred."""
    counts = dict.fromkeys(("photographs", "faces", "found", "large", "found_large", "others_blurred"), 0)
    for name, faces in list(json.loads(LABELS.read_text()).items())[::every]:
        image_HWC = read_srgb((PHOTOS / name).read_bytes())
        boxes_F4 = grown(find(image_HWC), margin, image_HWC.shape[1], image_HWC.shape[0])
        counts["photographs"] += 1
        for face in faces:
            is_found = covered_share(face, boxes_F4) >= COVERED
            is_large = face[3] - face[1] >= LARGE_PX
            counts["faces"] += 1
            counts["found"] += is_found
            counts["large"] += is_large
            counts["found_large"] += is_found and is_large
        counts["others_blurred"] += sum(
            all(covered_share(face, box_4[None]) == 0 for face in faces) for box_4 in boxes_F4
        )
    return counts


def stage() -> BlurFaces:
    """The stage with its defaults, set up."""
    made = BlurFaces()
    made.setup()
    return made


def cascades() -> Finder | None:
    """OpenCV's frontal and profile cascades together, on the picture at 640 px; None where OpenCV has them no more."""
    import cv2

    if not hasattr(cv2, "CascadeClassifier"):
        return None
    names = ("haarcascade_frontalface_alt2.xml", "haarcascade_profileface.xml")
    detectors = [cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / name)) for name in names]

    def find(image_HWC: NDArray[np.uint8]) -> NDArray[np.float64]:
        scale = 640 / max(image_HWC.shape[:2])
        grey_HW = cv2.resize(cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY), None, fx=scale, fy=scale)
        found = [box for each in detectors for box in each.detectMultiScale(grey_HW, 1.05, 3)]
        boxes_F4 = np.array(found, float).reshape(-1, 4) / scale
        boxes_F4[:, 2:] += boxes_F4[:, :2]
        return boxes_F4  # type: ignore[no-any-return]

    return find


def rows(folder: Path) -> list[Row]:
    """The rows of the README's table."""
    ours = stage()
    made = [("faces found", measure(ours._finder.find, ours.margin))]
    old = cascades()
    peer = measure(old, ours.margin)["found"] if old else None
    return [
        Row(
            f"{what}, {counts['faces']} in {counts['photographs']} photographs",
            f"{counts['found']} ({counts['found'] / counts['faces']:.0%}); "
            f"from {LARGE_PX} px {counts['found_large']} of {counts['large']}",
            "OpenCV's cascades: not in this OpenCV" if peer is None else f"OpenCV's cascades {peer}",
            None if peer is None else counts["found"] / peer,
        )
        for what, counts in made
    ]


def main() -> int:
    if not PHOTOS.is_dir():
        print(f"the labelled photographs are absent: {PHOTOS}", file=sys.stderr)
        return 2
    ours, old = stage(), cascades()
    finders: dict[str, Any] = {f"blur_faces (side_px {ours.side_px}, min_score {ours.min_score})": ours._finder.find}
    if old:
        finders["OpenCV's frontal and profile cascades"] = old
    for name, find in finders.items():
        counts = measure(find, ours.margin)
        print(
            f"{name}: {counts['found']} of {counts['faces']} faces in {counts['photographs']} photographs blurred "
            f"({counts['found'] / counts['faces']:.1%}), of those {LARGE_PX} px high and higher "
            f"{counts['found_large']} of {counts['large']} ({counts['found_large'] / counts['large']:.1%}); "
            f"{counts['others_blurred']} blurs of something else"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
