"""Stage decode_image: bytes of a stranger to an upright 8-bit sRGB picture of the wanted size, without metadata.

Shapes: H height, W width, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import annotated_types as at

from mmdata.errors import Reason, SampleError
from mmdata.image import jpeg, png, webp
from mmdata.image.colour import to_srgb
from mmdata.image.header import Header
from mmdata.image.read import read_header, read_pixels
from mmdata.media.geometry import Geometry, plan
from mmdata.media.resample import TAPS_FROM, TAPS_FROM_REDUCED, resample
from mmdata.media.write import DEFAULT_QUALITY, crop_or_pad, turn_upright, write
from mmdata.options import operational, semantic
from mmdata.sample import RAW, Sample
from mmdata.stage import Resources, one_by_one

_STRIP = {"jpg": jpeg.strip, "png": png.strip, "webp": webp.strip}
_WEBP_SIDE_PX, _JPEG_SIDE_PX = 16383, 65500


@dataclass(kw_only=True)
class DecodeImage:
    """Decode, check, resize and write again; or, with keep_original, check and strip.

    original_width_px and original_height_px are the size as shown (EXIF orientation applied) before resizing.
    """

    name: ClassVar[str] = "decode_image"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"image_text"})
    reads: ClassVar[frozenset[str]] = frozenset({RAW})
    writes: ClassVar[frozenset[str]] = frozenset(
        {"image", "width_px", "height_px", "original_width_px", "original_height_px"}
    )
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    side_px: Annotated[int, at.Ge(1), at.Le(_WEBP_SIDE_PX)] = semantic(256)
    resize: Literal["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"] = semantic("keep_ratio")
    resize_only_if_bigger: bool = semantic(False)
    min_side_px: Annotated[int, at.Ge(0)] = semantic(0)  # of the original; smaller ones are dropped
    max_aspect: Annotated[float, at.Ge(1)] | None = semantic(None)  # longer side / shorter side
    max_area_px: Annotated[int, at.Ge(1)] | None = semantic(None)
    # Larger ones fail before a pixel is decoded; so do results that would be larger.
    max_megapixels: Annotated[float, at.Gt(0)] = semantic(64.0)
    format: Literal["jpg", "png", "webp"] = semantic("jpg")
    quality: Annotated[int, at.Ge(0), at.Le(100)] | None = semantic(None)  # 95; for png the compression, 0 to 9, 6
    # The source's own pixels, unresized, in its own format. Only what cannot be kept so is written anew, in `format`:
    # GIF, animations, and pictures that an EXIF tag turns, since most loaders do not look at it.
    keep_original: bool = semantic(False)
    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    def __post_init__(self) -> None:
        if self.format == "png" and (self.quality or 0) > 9:
            raise ValueError(f"quality {self.quality}: for png it is the compression, 0 to 9")

    def setup(self) -> None:
        import cv2

        cv2.setNumThreads(1)  # workers are the parallelism; cv2's own threads would fight over the same cores
        cv2.ocl.setUseOpenCL(False)

    def process(self, samples: list[Sample]) -> list[Sample]:
        return one_by_one(samples, self._process_one)

    def _process_one(self, sample: Sample) -> None:
        data = sample.parts[RAW]
        header = read_header(data)
        width, height = header.upright_size
        sample.columns.update(original_width_px=width, original_height_px=height)
        extension, written, size = self._decode(data, header)
        sample.columns.update(width_px=size[0], height_px=size[1])
        del sample.parts[RAW]
        sample.parts[extension] = written

    def _decode(self, data: bytes, header: Header) -> tuple[str, bytes, tuple[int, int]]:
        """(extension, bytes, upright size) of one picture as the options want it. Raises SampleError."""
        width, height = header.upright_size
        self._check(width, height)
        if self.keep_original:
            return self._keep(data, header)
        return self._make(data, header, self._geometry(width, height))

    def _check(self, width: int, height: int) -> None:
        if width * height > self.max_megapixels * 1e6:
            raise SampleError(Reason.TOO_MANY_PIXELS, f"{width} x {height}, allowed {self.max_megapixels:g} megapixels")
        if min(width, height) < self.min_side_px:
            raise SampleError(Reason.TOO_SMALL, f"{width} x {height}, wanted {self.min_side_px} px at least")
        if self.max_area_px is not None and width * height > self.max_area_px:
            raise SampleError(Reason.TOO_LARGE_AREA, f"{width} x {height}, wanted {self.max_area_px} pixels at most")
        if self.max_aspect is not None and max(width, height) > self.max_aspect * min(width, height):
            raise SampleError(Reason.ASPECT, f"{width} x {height}, wanted 1 : {self.max_aspect:g} at most")

    def _geometry(self, width: int, height: int) -> Geometry:
        """Where the picture goes. Raises SampleError(TOO_MANY_PIXELS) where a thin strip would grow out of bounds."""
        geometry = plan(width, height, self.resize, self.side_px, self.resize_only_if_bigger)
        longest = max(geometry.width, geometry.height, geometry.out_width, geometry.out_height)
        limit = _WEBP_SIDE_PX if self.format == "webp" else _JPEG_SIDE_PX
        if geometry.num_pixels > self.max_megapixels * 1e6 or longest > limit:
            raise SampleError(Reason.TOO_MANY_PIXELS, f"would be written as {geometry.width} x {geometry.height}")
        return geometry

    def _keep(self, data: bytes, header: Header) -> tuple[str, bytes, tuple[int, int]]:
        """(extension, bytes, upright size) of the picture as it came, after it has been seen to decode."""
        width, height = header.upright_size
        strip = _STRIP.get(header.kind)
        if strip is None or header.orientation != 1 or (header.is_animated and header.kind != "png"):
            return self._make(data, header, plan(width, height, "no", self.side_px, False))
        read_pixels(data, header, eighths=1)  # reads every coded bit; the pixels themselves are not needed
        return header.kind, strip(data), (width, height)

    def _make(self, data: bytes, header: Header, geometry: Geometry) -> tuple[str, bytes, tuple[int, int]]:
        """(extension, bytes, upright size) of the picture resized and written anew."""
        width, height = geometry.width, geometry.height  # upright; the pixels are resized as they are stored
        if header.orientation >= 5:
            width, height = height, width
        eighths = jpeg.scale_for(header, width, height) if header.kind == "jpg" else 8
        covered = header.width_px * eighths / 8, header.height_px * eighths / 8
        taps_from = TAPS_FROM if eighths == 8 else TAPS_FROM_REDUCED
        image_HWC = resample(read_pixels(data, header, eighths), width, height, covered, taps_from)
        image_HWC = turn_upright(to_srgb(image_HWC, header.icc), header.orientation)
        quality = DEFAULT_QUALITY[self.format] if self.quality is None else self.quality
        written = write(crop_or_pad(image_HWC, geometry), self.format, quality)
        return self.format, written, (geometry.out_width, geometry.out_height)
