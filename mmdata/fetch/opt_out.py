"""X-Robots-Tag: whether the owner of a file has said that it must not be used for training. Pure functions.

A value is a comma list of directives. `name:` before a directive is the agent that it and all after it are meant for,
unless the name is a directive that takes a value itself: in `unavailable_after: 25 Jun 2030 15:00:00 GMT, noai` the
`noai` is for everybody. Headers are read one by one; an agent's scope ends with its header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# `none` is short for `noindex, nofollow`.
OPT_OUTS = frozenset({"noai", "noimageai", "noindex", "noimageindex", "noml", "none"})

_WITH_VALUE = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
# A date cut at its comma or its colon begins with a digit; a user agent's name with a letter.
_AGENT = re.compile(r"\*|[A-Za-z][A-Za-z0-9_.+/*-]*")


def opt_out(values: Iterable[str], agent: str) -> str | None:
    """The first of the X-Robots-Tag `values` that opts out for everybody or for `agent` (our name), or None."""
    for value in values:
        if any(directive in OPT_OUTS for directive in directives_for(value, agent)):
            return value.strip()
    return None


def directives_for(value: str, agent: str) -> Iterable[str]:
    """The directives of one header value that are meant for everybody or for `agent`: small letters, no values."""
    ours = {"*", agent.strip().lower()}
    meant = True
    for piece in value.split(","):
        name, colon, rest = (part.strip() for part in piece.partition(":"))
        while colon and name.lower() not in _WITH_VALUE and _AGENT.fullmatch(name):
            meant = name.lower().partition("/")[0] in ours
            name, colon, rest = (part.strip() for part in rest.partition(":"))
        if meant and name:
            yield name.lower()


def header_values(lines: Iterable[bytes], name: str) -> list[str]:
    """The values of header `name` in the last response among raw header `lines` (1xx responses come before it)."""
    wanted = name.lower().encode()
    values: list[str] = []
    for line in lines:
        if line.startswith(b"HTTP/"):
            values = []
            continue
        field, _, value = line.partition(b":")
        if field.strip().lower() == wanted:
            values.append(value.decode("latin-1").strip())
    return values
