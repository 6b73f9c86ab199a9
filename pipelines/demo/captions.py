"""Captions as the web writes them, under pictures that the demo has: names of files, markup, addresses, Chinese.

Used by `build.py` only. Rows whose caption is of use have a picture of their own, since a copy would be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.demo.listing import Listing, Row, Work
from pipelines.demo.planted import Base, encoded

TABLE = "captions"
_DROPPED = "filtered.caption"
# What says nothing of its picture: planted as, caption.
EMPTY: Sequence[tuple[str, str]] = (
    ("file_name", "IMG_2034.JPG"),
    ("file_name", "DSC01234"),
    ("file_name", "holiday-17.webp"),
    ("boilerplate", "Image may contain: 1 person, indoor"),
    ("boilerplate", "No description available."),
    ("boilerplate", "click to enlarge"),
    ("boilerplate", "\u70b9\u51fb\u67e5\u770b\u5927\u56fe"),
    ("stop_words", "of the and with"),
    ("link_only", "http://shop.example/item/17.html"),
    ("no_caption", ""),
    ("no_caption", "&nbsp; <br>"),
)
# What can be mended: planted as, caption and what it should become, with the name of the picture in it.
MENDED: Sequence[tuple[str, str, str]] = (
    ("html_entities", "&quot;{}&quot;", '"{}"'),
    ("html_entities", "&amp;quot;{}&amp;quot; &amp; more", '"{}" & more'),
    ("html_tags", '<p class="alt">{}<br></p>', "{}"),
    ("mojibake", "{} \u00e2\u20ac\u201c a drawing", "{} \u2013 a drawing"),
    ("white_space", "  {}\u200b \t\n ", "{}"),
    ("email_in_caption", "{}, anna@mail.example.com", "{}, <email>"),
    ("phone_in_caption", "{} +1 (555) 010-9999", "{} <phone>"),
    ("link_in_caption", "{} https://shop.example/?id=3", "{}"),
)
_CHINESE = (
    "\u4e00\u5f20{}\u7684\u56fe\u7247",
    "\u8fd9\u662f{}",
    "\u5361\u901a\u98ce\u683c\u7684{}",
    "{}\u7684\u7acb\u4f53\u56fe\u6807",
)


def add(listing: Listing, sure: Sequence[Row], others: Sequence[Row], work: Work) -> None:
    """Rows and files of the table `captions`, from right rows of the demo's tables of pictures.

    sure: of pictures that the encoder is sure of, for captions that must pass it.
    """
    mendable, remaining = iter(sure), iter(others)
    for planted, caption in EMPTY:
        listing.row(TABLE, next(remaining)["URL"], caption, planted, _DROPPED, license=work.license, language=None)
    row = next(mendable)
    values = {"text_repetition_share": [0.6, 1]}
    caption = " ".join([row["TEXT"]] * 6)
    listing.row(TABLE, _own_picture(listing, row, work), caption, "repetition", "filtered.threshold", values)
    for planted, caption, mended in MENDED:
        row = next(mendable)
        name = row["TEXT"]
        values = {"caption": mended.format(name)}
        listing.row(TABLE, _own_picture(listing, row, work), caption.format(name), planted, values=values)
    for number, row in zip(range(8), remaining, strict=False):
        caption = _CHINESE[number % len(_CHINESE)].format(row["name_zh"])
        url = _own_picture(listing, row, work)
        listing.row(TABLE, url, caption, values={"language": "zh"}, language=None)


def _own_picture(listing: Listing, row: Row, work: Work) -> str:
    """The URL of a smaller JPEG of a row's drawing."""
    name = row["URL"].rpartition("/")[2].removesuffix(".webp")
    content = encoded(Base("", "", Path(row["drawing"])).rgb(224), "JPEG", quality=88)
    return listing.file(f"captions/{name}.jpg", content, work.changed())
