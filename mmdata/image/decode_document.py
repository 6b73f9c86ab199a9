"""Stage decode_document: every medium of a document as decode_image would make it, and its place gone where it is lost.

An image is lost where it could not be had, cannot be decoded, or is filtered; what that means for the document is said
by on_missing and min_images. The images that are left are numbered anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import annotated_types as at
import orjson

from mmdata.errors import Reason, SampleError
from mmdata.image.decode_image import DecodeImage
from mmdata.image.hash_image import phash
from mmdata.image.header import Header
from mmdata.image.read import read_header
from mmdata.media.geometry import plan
from mmdata.options import semantic
from mmdata.sample import Sample
from mmdata.sources.messages import MEDIA_REASONS, has_text, places, raw_part, without_places

_INTERLEAVED = "interleaved"


@dataclass(kw_only=True)
class DecodeDocument(DecodeImage):
    """The options of decode_image, for each image by itself, and those of documents.

    media_reasons: a reason for each medium that the document came with, `ok` where it is kept, in their order then.
    num_images and messages are of what is left. Parts: 000.jpg, 001.jpg, ... Video and sound in documents are not
    decoded yet: `content.unsupported`.
    """

    name: ClassVar[str] = "decode_document"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({_INTERLEAVED, "instruct"})
    reads: ClassVar[frozenset[str]] = frozenset({"messages", MEDIA_REASONS})
    writes: ClassVar[frozenset[str]] = frozenset({"frames", "num_images", "messages", MEDIA_REASONS})

    format: Literal["jpg"] = semantic("jpg")  # with keep_original, what is no JPEG is written anew
    # drop_image: the document goes on without it. auto: for interleaved documents; a dialogue that speaks of an image
    # that is not there teaches to make things up, so an instruct sample ends with it.
    on_missing: Literal["auto", "drop_image", "drop_document"] = semantic("auto")
    min_images: Annotated[int, at.Ge(0)] = semantic(1)  # that a document must be left with; instruct: if it had any
    # Interleaved: an image whose phash differs from an earlier one's in at most so many bits is the same, such as a
    # logo; null keeps it.
    same_bits: Annotated[int, at.Ge(0), at.Le(64)] | None = semantic(4)

    def _process_one(self, sample: Sample) -> None:
        messages = orjson.loads(sample.columns["messages"])
        kinds = places(messages)
        reasons = list(sample.columns.get(MEDIA_REASONS) or [Reason.OK.value] * len(kinds))
        is_interleaved = sample.columns["modality"] == _INTERLEAVED
        images: list[bytes] = []
        hashes: list[int] = []
        for place, kind in enumerate(kinds):
            data = sample.parts.pop(raw_part(place), b"")
            if reasons[place] == Reason.OK.value:
                try:
                    image = self._image(kind, data)
                    if is_interleaved and self.same_bits is not None:
                        self._check_new(image, hashes, self.same_bits)
                    images.append(image)
                except SampleError as error:
                    reasons[place] = error.reason.value
                except MemoryError:
                    reasons[place] = Reason.DECODE_OOM.value
        lost = {place: Reason(reason) for place, reason in enumerate(reasons) if reason != Reason.OK.value}
        messages = without_places(messages, lost)
        sample.columns.update(
            {
                MEDIA_REASONS: reasons,
                "messages": orjson.dumps(messages).decode(),
                "num_images": len(images),
            }
        )
        self._settle(is_interleaved, lost, len(kinds), len(images))
        if not has_text(messages):
            raise SampleError(Reason.NO_TEXT)
        sample.parts.update((f"{number:03d}.jpg", image) for number, image in enumerate(images))

    def _image(self, kind: str, data: bytes) -> bytes:
        if kind != "image":
            raise SampleError(Reason.UNSUPPORTED)
        _, written, _ = self._decode(data, read_header(data))
        return written

    def _check_new(self, image: bytes, hashes: list[int], bits: int) -> None:
        """Note the hash of an image. Raises SampleError where an earlier one is the same."""
        mine = phash(image)
        if any((mine ^ other).bit_count() <= bits for other in hashes):
            raise SampleError(Reason.DUPLICATE_CONTENT)
        hashes.append(mine)

    def _settle(self, is_interleaved: bool, lost: dict[int, Reason], had: int, left: int) -> None:
        """Raise SampleError where the document cannot go on without what is lost.

        The reason is that of the first medium lost, one that another attempt may have before the others.
        """
        drops = self.on_missing == "drop_document" or (self.on_missing == "auto" and not is_interleaved)
        too_few = left < self.min_images and (is_interleaved or had > 0)
        if lost and (drops or too_few):
            reason = next((reason for reason in lost.values() if reason.is_transient), next(iter(lost.values())))
            raise SampleError(reason, f"{len(lost)} of {had} media lost")
        if too_few:
            raise SampleError(Reason.TOO_FEW_IMAGES, f"{left}, wanted {self.min_images}")

    def _keep(self, data: bytes, header: Header) -> tuple[str, bytes, tuple[int, int]]:
        if header.kind != "jpg":
            return self._make(data, header, plan(*header.upright_size, "no", self.side_px, False))
        return super()._keep(data, header)
