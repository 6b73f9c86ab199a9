"""A folder of pictures: media_folder for pictures, under the name that Hugging Face's users know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from mmdata.options import semantic
from mmdata.sources.media_folder import MediaFolder


@dataclass(frozen=True, kw_only=True)
class ImageFolder(MediaFolder):
    """Rows of a folder's pictures in the order of their names, below it too."""

    kind: ClassVar[str] = "image_folder"

    modality: Literal["image_text"] = semantic("image_text")
