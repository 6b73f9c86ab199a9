"""Names of emoji in English and Chinese, from the PyPI package `emoji`, and which of them make good captions."""

from __future__ import annotations

import functools
from typing import Any

# Categories of concrete things. Faces, people, flags, keycaps and signs are left out: they differ by a detail.
CATEGORIES = ("Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects")
_NO_SUBCATEGORIES = ("time", "place-map")

# Variants of one drawing, of which another stays, and names that say something else than what is seen.
_VARIANTS = frozenset(
    """white flower|wilted flower|clinking beer mugs|closed mailbox with lowered flag|closed mailbox with raised flag|
    open mailbox with raised flag|open mailbox with lowered flag|incoming envelope|envelope with arrow|e-mail|
    outbox tray|inbox tray|speaker low volume|speaker medium volume|muted speaker|bell with slash|
    magnifying glass tilted right|green book|blue book|orange book|tear-off calendar|spiral calendar|open file folder|
    linked paperclips|2nd place medal|3rd place medal|locked with pen|locked with key|unlocked|dvd|musical notes|
    mobile phone with arrow|waxing crescent moon|first quarter moon|waxing gibbous moon|waning gibbous moon|
    last quarter moon|waning crescent moon|new moon|camera with flash|page facing up|page with curl|bookmark tabs|
    yen banknote|euro banknote|pound banknote|sun behind small cloud|sun behind large cloud|sun behind rain cloud|
    cloud with lightning and rain|snowman without snow|umbrella on ground|closed umbrella|hatching chick|
    front-facing baby chick|small airplane|airplane arrival|airplane departure|tram car|light rail|hotel|love hotel|
    japanese post office|hourglass not done|heart suit|club suit|diamond suit|spade suit|chart increasing with yen|
    low battery|hammer and wrench|pine decoration|tanabata tree|moon viewing ceremony|reminder ribbon""".replace(
        "\n    ", ""
    ).split("|")
)


@functools.cache
def _table() -> dict[str, dict[str, Any]]:
    import emoji

    emoji.config.load_language("zh")
    return {character.replace("\ufe0f", ""): entry for character, entry in emoji.EMOJI_DATA.items()}


def names(code: str) -> tuple[str, str] | None:
    """English and Chinese name of `code`, code points in hex joined by "-" as in the npm packages' file names."""
    character = "".join(chr(int(part, 16)) for part in code.split("-")).replace("\ufe0f", "")
    entry = _table().get(character)
    if entry is None:
        return None
    english = str(entry["en"]).strip(":").replace("_", " ").replace("\u2019", "'")
    return english, str(entry.get("zh", "")).strip(":").replace("_", " ")


def is_concrete(english: str, category: str, subcategory: str) -> bool:
    """True for a thing whose drawing tells it from all others."""
    lower = english.lower()
    return (
        category in CATEGORIES
        and subcategory not in _NO_SUBCATEGORIES
        and lower not in _VARIANTS
        and " face" not in lower
        and "place medal" not in lower
        and not lower.startswith("oncoming")
        and english.isascii()
    )
