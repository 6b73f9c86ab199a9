"""What copies of repeated samples may differ in: the options of `emit.augment`, and where the randomness comes from.

Selection may repeat a rare sample; its copies have keys `-x02`, `-x03`, ... A copy is the sample itself unless
`emit.augment` names what to vary. The first one, without a suffix, is never touched. Each kind is one function

    augment(parts: dict[str, bytes], columns: dict[str, Any], key: str, options) -> dict[str, bytes]

in `mmdata/<room>/augment.py`. It gets the media of a sample and gives the same names back, those that it need not touch
as they are; what else changes (duration_s, width_px, ...) it writes into `columns`, the copy's own. `mel.npy` and
`mfcc.npy` are not among the parts: the stages that made them make them again. The same key gives the same bytes.
For captions it is `augment(caption, key, options) -> str`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import annotated_types as at

from mmdata.options import semantic

if TYPE_CHECKING:
    import numpy as np

Share = Annotated[float, at.Ge(0), at.Le(1)]
Cut = Annotated[float, at.Ge(0), at.Le(0.5)]
Speed = Annotated[float, at.Ge(0.5), at.Le(2)]


@dataclass(frozen=True, kw_only=True)
class ImageAugment:
    """How a copy of a picture may differ. A flip turns left into right under a caption that says which."""

    crop: Cut = semantic(0.1)  # at most this share of each side is cut off
    flip: Share = semantic(0.0)  # probability of a mirrored picture
    colour: Share = semantic(0.1)  # brightness, contrast and saturation change by at most this share


@dataclass(frozen=True, kw_only=True)
class VideoAugment:
    """How a copy of a clip may differ: all frames alike, the sound track in step, its pitch kept."""

    min_speed: Speed = semantic(0.8)
    max_speed: Speed = semantic(1.25)
    crop: Cut = semantic(0.1)
    flip: Share = semantic(0.0)
    colour: Share = semantic(0.1)

    def __post_init__(self) -> None:
        check_speeds(self.min_speed, self.max_speed)


@dataclass(frozen=True, kw_only=True)
class AudioAugment:
    """How a copy of a sound may differ; its pitch is kept."""

    min_speed: Speed = semantic(0.9)
    max_speed: Speed = semantic(1.1)
    noise_db: Annotated[float, at.Ge(0)] = semantic(30.0)  # white noise at least this far below the sound; 0: none

    def __post_init__(self) -> None:
        check_speeds(self.min_speed, self.max_speed)


@dataclass(frozen=True, kw_only=True)
class CaptionAugment:
    """How a copy of a caption may differ; not of a transcript, which must be what is said."""

    synonyms: dict[str, list[str]] = semantic(factory=dict)  # word in small letters -> others for its place
    synonym_share: Share = semantic(0.3)  # of the words that have synonyms
    delete_share: Share = semantic(0.0)  # of the other words; one always stays, and so do negations
    modalities: list[Literal["image_text", "video_text", "audio_text"]] = semantic(
        factory=lambda: ["image_text", "video_text"]
    )


# Option class of each kind, and the module of its function. In this order they are applied.
AUGMENTS: dict[str, type[Any]] = {
    "image": ImageAugment,
    "video": VideoAugment,
    "audio": AudioAugment,
    "caption": CaptionAugment,
}
MODULES = {
    "image": "mmdata.image.augment",
    "video": "mmdata.video.augment",
    "audio": "mmdata.audio.augment",
    "caption": "mmdata.text.augment",
}


def check_speeds(min_speed: float, max_speed: float) -> None:
    """Raise ValueError where the range is empty."""
    if min_speed > max_speed:
        raise ValueError(f"min_speed {min_speed:g} is above max_speed {max_speed:g}")


def rng_of(key: str, use: str) -> np.random.Generator:
    """Random numbers that depend on the copy's key alone; `use` keeps two uses of one key apart."""
    import numpy as np

    digest = hashlib.sha256(f"{use}\n{key}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
