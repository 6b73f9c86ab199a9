"""Documents of interleaved text and images: MMC4's JSONL and OBELICS' Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mmdata.errors import SourceError
from mmdata.options import semantic
from mmdata.sources.document_table import Document, DocumentTable, Reader, listed
from mmdata.sources.media_list import capped, medium
from mmdata.sources.messages import text_piece
from mmdata.sources.rows import InputFile

_IMAGE = {"type": "image"}


@dataclass(frozen=True, kw_only=True)
class Interleaved(DocumentTable):
    """A row a document; what kind of table it is, its columns tell.

    MMC4 (Zhu et al. 2023): text_list and image_info, each image with raw_url (or image_name below root) and
    matched_text_index. OBELICS (Laurençon et al. 2023): images and texts of the same length, of which one is null at
    every place. All other columns are passed on, image_info and images too.
    """

    kind: ClassVar[str] = "interleaved"
    version: ClassVar[int] = 1

    modality: Literal["interleaved"] = semantic("interleaved")
    image_place: Literal["before", "after"] = semantic("before")  # MMC4: side of the matched text an image stands on
    files: bool = semantic(False)  # images are files below root, though links are there too

    def batches(self, input: InputFile) -> Iterator[Any]:
        return self.documents(input, lambda names: self._reader(names, input.path))

    def _reader(self, names: Sequence[str], path: str) -> Reader:
        if {"text_list", "image_info"} <= set(names):
            return _Mmc4(self)
        if {"texts", "images"} <= set(names):
            return _Obelics(self)
        raise SourceError(
            f"{path}: found neither text_list and image_info (MMC4) nor texts and images (OBELICS), but: "
            + ", ".join(names)
        )


class _Mmc4:
    reads = ("text_list", "image_info")
    consumed = ("text_list",)

    def __init__(self, options: Interleaved) -> None:
        self._options = options

    def read(self, row: Mapping[str, Any], root: str) -> Document:
        texts = [_text(text, "text_list") for text in listed(row["text_list"], "text_list")]
        images: list[tuple[int, Any]] = []
        for info in listed(row["image_info"], "image_info"):
            matched = info.get("matched_text_index") if isinstance(info, dict) else None
            if not isinstance(matched, int) or not 0 <= matched < len(texts):
                raise ValueError(f"image_info: found matched_text_index {matched!r}, allowed is 0 to {len(texts) - 1}")
            images.append((matched, info))
        content: list[dict[str, Any]] = []
        media = []
        for index, text in enumerate(texts):
            here = [info for matched, info in images if matched == index]
            media += [medium("image", info, root, prefer_files=self._options.files) for info in here]
            shown = [dict(_IMAGE) for _ in here]
            said = [text_piece(text)]
            content += shown + said if self._options.image_place == "before" else said + shown
        return _document(content), capped(media, self._options.max_images)


class _Obelics:
    reads = ("texts", "images")
    consumed = ("texts",)

    def __init__(self, options: Interleaved) -> None:
        self._options = options

    def read(self, row: Mapping[str, Any], root: str) -> Document:
        texts, images = listed(row["texts"], "texts"), listed(row["images"], "images")
        if len(texts) != len(images):
            raise ValueError(f"found {len(texts)} texts and {len(images)} images, allowed is the same number")
        content: list[dict[str, Any]] = []
        media = []
        for text, image in zip(texts, images, strict=True):
            if image is not None:
                content.append(dict(_IMAGE))
                media.append(medium("image", image, root, prefer_files=self._options.files))
            if text is not None:
                content.append(text_piece(_text(text, "texts")))
        return _document(content), capped(media, self._options.max_images)


def _document(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": content}] if content else []


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name}: found {type(value).__name__} in it, allowed is text")
    return value
