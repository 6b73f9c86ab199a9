"""The demo's interleaved documents, as MMC4 writes them, and instructions in LLaVA's form, over pictures that it has.

Used by `build.py` only. Texts are built from the names of the pictures, so that they are true.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.demo.listing import Listing, Row
from pipelines.demo.planted import HOST

DOCUMENTS, INSTRUCTIONS = "documents", "instructions"
_DEAD = f"{HOST}/dead/document.jpg"
_FACTS = ("It is drawn in three dimensions.", "The background is white.", "Light comes from above.")
_FACTS_ZH = ("\u5b83\u662f\u7acb\u4f53\u7684\u3002", "\u80cc\u666f\u662f\u767d\u8272\u7684\u3002")


def add(listing: Listing, pictures: Sequence[Row]) -> None:
    """Rows of both tables; `pictures` are right rows of the demo's tables of pictures."""
    remaining = iter(pictures)
    _documents(listing, remaining)
    _instructions(listing, remaining)


def _documents(listing: Listing, remaining: Iterator[Row]) -> None:
    for number in range(8):
        shown = [next(remaining) for _ in range(1 + number % 3)]
        chinese = number % 4 == 3
        texts = []
        for place, row in enumerate(shown):
            texts.append(f"\u8fd9\u662f{row['name_zh']}\u3002" if chinese else f"This picture shows: {row['TEXT']}.")
            texts.append(_FACTS_ZH[place % 2] if chinese else _FACTS[place])
        _document(listing, texts, [row["URL"] for row in shown], "right", "ok", {"num_images": len(shown)})
    shown = [next(remaining) for _ in range(2)]
    texts = [
        f"First comes {shown[0]['TEXT']}.",
        "Then comes a picture that is gone.",
        f"Last comes {shown[1]['TEXT']}.",
    ]
    urls = [shown[0]["URL"], _DEAD, shown[1]["URL"]]
    _document(listing, texts, urls, "one_dead_image", "ok", {"num_images": 2}, step=1)
    texts = ["Of this page nothing is left.", "Both pictures are gone."]
    _document(
        listing, texts, [_DEAD, _DEAD.replace("document", "another")], "all_images_dead", "fetch.http_4xx", step=1
    )
    row = next(remaining)
    _document(listing, [f"This picture shows: {row['TEXT']}."], [row["URL"]], "wrong_place", "fetch.row_error", place=7)
    urls = [f"{HOST}/planted/small-0.png", row["URL"]]
    texts = ["Here stood an icon.", f"This picture shows: {row['TEXT']}."]
    _document(listing, texts, urls, "one_small_image", "ok", {"num_images": 1}, step=1)


def _document(
    listing: Listing,
    texts: Sequence[str],
    urls: Sequence[str],
    planted: str,
    reason: str,
    values: dict[str, Any] | None = None,
    *,
    step: int = 2,
    place: int | None = None,
) -> None:
    """One line of MMC4: picture n stands at text n * step, or at `place`."""
    info = [
        {
            "image_name": url.rpartition("/")[2],
            "raw_url": url,
            "matched_text_index": number * step if place is None else place,
            "matched_sim": 0.3,
        }
        for number, url in enumerate(urls)
    ]
    matrix = [[0.3 if index == each["matched_text_index"] else 0.1 for index in range(len(texts))] for each in info]
    listing.tables[DOCUMENTS].append(
        {
            "url": f"{HOST}/pages/{len(listing.tables[DOCUMENTS]):02}.html",
            "text_list": list(texts),
            "image_info": info,
            "similarity_matrix": matrix,
            "license": "MIT",
            **_expected(planted, reason, values),
        }
    )


def _instructions(listing: Listing, remaining: Iterator[Row]) -> None:
    for number in range(10):
        row = next(remaining)
        if number % 5 == 4:
            turns = ["<image>\n\u56fe\u91cc\u662f\u4ec0\u4e48\uff1f", f"\u662f{row['name_zh']}\u3002"]
        else:
            place = ("<image>\nWhat is shown here?", "What is this?\n<image>")[number % 2]
            turns = [place, f"This is: {row['TEXT']}."]
        if number % 3 == 0:
            turns += ["Is it a photograph?", "No, it is a drawing."]
        _record(listing, turns, row["URL"], "right", "ok", {"num_images": 1})
    pair = [next(remaining) for _ in range(2)]
    turns = [
        "<image>\n<image>\nWhat do the pictures show?",
        f"The first: {pair[0]['TEXT']}. The second: {pair[1]['TEXT']}.",
    ]
    _record(listing, turns, [row["URL"] for row in pair], "right", "ok", {"num_images": 2})
    said = (
        ("Name the three primary colours of light.", "Red, green and blue."),
        ("How many days has a leap year?", "A leap year has 366 days."),
        ("\u4e00\u5929\u6709\u591a\u5c11\u5c0f\u65f6\uff1f", "\u4e00\u5929\u6709\u4e8c\u5341\u56db\u5c0f\u65f6\u3002"),
    )
    for question, answer in said:
        _record(listing, [question, answer], None, "text_only", "ok", {"num_images": 0})
    row = next(remaining)
    turns = ["<image>\n<image>\nWhich of the two is larger?", "The second one."]
    _record(listing, turns, row["URL"], "placeholders", "content.media_count")
    _record(
        listing, ["What is shown here?", f"This is: {row['TEXT']}."], row["URL"], "placeholders", "content.media_count"
    )
    _record(listing, ["<image>\nWhat is shown here?", "Nothing."], _DEAD, "dead_image", "fetch.http_4xx")


def _record(
    listing: Listing,
    turns: Sequence[str],
    image: str | list[str] | None,
    planted: str,
    reason: str,
    values: dict[str, Any] | None = None,
) -> None:
    """One record of LLaVA: human and gpt in turn."""
    sides = ("human", "gpt")
    said = [{"from": sides[number % 2], "value": turn} for number, turn in enumerate(turns)]
    record: dict[str, Any] = {"id": f"demo-{len(listing.tables[INSTRUCTIONS]):03}", "conversations": said}
    if image is not None:
        record["image"] = image
    record |= {"license": "CC0-1.0" if image is None else "MIT", **_expected(planted, reason, values)}
    listing.tables[INSTRUCTIONS].append(record)


def _expected(planted: str, reason: str, values: dict[str, Any] | None) -> dict[str, Any]:
    said = json.dumps(values, sort_keys=True) if values else None
    return {"planted": planted, "expected_reason": reason, "expected_values": said}
