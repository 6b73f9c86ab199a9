"""Which column of a table is the link, the caption, the hash; and how a block of its rows becomes a batch."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from mmdata.errors import SourceError
from mmdata.sources.rows import ROW_FIELDS, Block, own_names

Role = Literal["url", "caption", "sha256", "language"]
PathRole = Literal["path", "caption", "sha256", "language"]
FIELD_OF: dict[str, str] = {"url": "url", "caption": "caption", "sha256": "expected_sha256", "language": "language"}

# Names that tables use, best first, compared without case; what the published lists are called.
WELL_KNOWN: dict[str, tuple[str, ...]] = {
    "url": (
        *("url", "image_url", "imageurl", "img_url", "video_url", "audio_url", "media_url", "content_url"),
        *("contenturl", "urls", "image_link", "link", "uri", "image_uri", "href"),
    ),
    "caption": (
        *("caption", "text", "alt_text", "alttext", "alt", "captions", "caption_text", "txt", "sentence", "transcript"),
        *("description", "title"),
    ),
    "path": (
        *("path", "file_path", "filepath", "file_name", "filename", "file", "media_path", "media", "image_path"),
        *("video_path", "audio_path", "wav_path", "audio_filepath", "image", "video", "audio", "wav", "clip"),
    ),
    "sha256": ("sha256", "expected_sha256", "raw_sha256"),
    "language": ("language", "lang"),
}
_SHA256 = "^[0-9a-f]{64}$"
_MANY = 12  # column names that a message lists


@dataclass(frozen=True)
class Layout:
    """Where the columns of a table go: `roles` by place in the table, `own` as (place, name in the batch)."""

    roles: Mapping[str, int]
    own: Sequence[tuple[int, str]]


def layout(
    names: Sequence[str], wanted: Mapping[Any, str], guess: Collection[str], where: str, *, needed: Collection[str] = ()
) -> Layout:
    """The layout of a table with these columns.

    wanted: role -> column, from the options. guess: roles to look for under well-known names where they are not wanted.
    needed: roles that must be found. where: the file, for messages. Raises SourceError for a column that is not there.
    """
    roles: dict[str, int] = {}
    for role, name in wanted.items():
        if name not in names:
            hint = _nearest(name, names)
            raise SourceError(f"{where}: no column {name!r} (columns.{role}){hint}; found: {_listed(names)}")
        roles[role] = names.index(name)
    folded = [name.casefold() for name in names]
    for role in guess:
        places = [folded.index(name) for name in WELL_KNOWN[role] if name in folded]
        if role not in roles and (free := [place for place in places if place not in roles.values()]):
            roles[role] = free[0]
    for role in needed:
        if role not in roles:
            remedy = f"say columns: {{{role}: NAME}}"
            raise SourceError(f"{where}: no column looks like the {role}: {remedy}; found: {_listed(names)}")
    places = [place for place in range(len(names)) if place not in roles.values()]
    return Layout(roles, list(zip(places, own_names(names[place] for place in places), strict=True)))


def to_batch(block: Block, layout: Layout, first_row: int, where: str, places: Mapping[str, Any] | None = None) -> Any:
    """The block as a record batch with ROW_FIELDS first.

    places: more of the fixed columns (media_path, media_row, ...). Raises SourceError where a column cannot be text.
    """
    errors = dict(block.errors)
    fixed: dict[str, Any] = dict(places or {})
    fixed["row"] = pa.array(range(first_row, first_row + block.num_rows), pa.int64())
    for role, place in layout.roles.items():
        array, bad = _text(block.arrays[place], f"{where}: column {block.names[place]!r} (columns.{role})")
        for index in bad:
            errors.setdefault(index, f"column {block.names[place]!r} is not UTF-8")
        fixed[FIELD_OF[role]] = array
    for role in ("expected_sha256", "language"):
        if role in fixed:
            fixed[role] = _null_where_empty(fixed[role])
    if "expected_sha256" in fixed:
        fixed["expected_sha256"] = _hashes(fixed["expected_sha256"], errors)
    own = [_checked(block.arrays[place], block.names[place], errors) for place, _ in layout.own]
    if errors:
        fixed["row_error"] = pa.array([errors.get(index) for index in range(block.num_rows)], pa.string())
        for name in ("url", "media_path"):
            if name in fixed:
                good = pc.is_null(fixed["row_error"])
                fixed[name] = pc.if_else(good, fixed[name], pa.scalar(None, pa.string()))
    arrays = [fixed.get(field.name, pa.nulls(block.num_rows, field.type)) for field in ROW_FIELDS]
    fields = [*ROW_FIELDS, *(pa.field(name, array.type) for (_, name), array in zip(layout.own, own, strict=True))]
    return pa.RecordBatch.from_arrays([*arrays, *own], schema=pa.schema(fields))


def assemble(
    blocks: Iterator[Block], wanted: Mapping[Any, str], guess: Collection[str], where: str, needed: Collection[str] = ()
) -> Iterator[Any]:
    """Batches of one table from its blocks; the layout is decided by the first."""
    place: Layout | None = None
    row = 0
    for block in blocks:
        if place is None:
            place = layout(block.names, wanted, guess, where, needed=needed)
        yield to_batch(block, place, row, where)
        row += block.num_rows


def _text(array: Any, where: str) -> tuple[Any, list[int]]:
    """The column as strings, and the positions whose bytes are not UTF-8 (null there)."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _text(array.dictionary_decode(), where)
    if pa.types.is_fixed_size_binary(kind) or pa.types.is_nested(kind):
        raise SourceError(f"{where}: found {kind}, allowed is text")
    if not (_is_text(kind) or _is_binary(kind) or pa.types.is_null(kind) or pa.types.is_primitive(kind)):
        raise SourceError(f"{where}: found {kind}, allowed is text")
    array, bad = _utf8(array) if _is_text(kind) or _is_binary(kind) else (array, [])
    return array.cast(pa.string()), bad


def _utf8(array: Any) -> tuple[Any, list[int]]:
    """A text or binary column as text, and the positions that are not UTF-8, which Parquet does not check."""
    target = array.type if _is_text(array.type) else pa.string()
    try:
        array.validate(full=True)
        return array.cast(target), []
    except pa.ArrowInvalid:
        values = array.cast(pa.large_binary() if not _is_binary(array.type) else array.type).to_pylist()
    bad = []
    for index, value in enumerate(values):
        try:
            values[index] = None if value is None else value.decode()
        except UnicodeDecodeError:
            bad.append(index)
            values[index] = None
    return pa.array(values, target), bad


def _checked(array: Any, name: str, errors: dict[int, str]) -> Any:
    """A column of the source's own, unchanged; text that is not UTF-8 becomes null and an error of its row."""
    if not _is_text(array.type):
        return array
    array, bad = _utf8(array)
    for index in bad:
        errors.setdefault(index, f"column {name!r} is not UTF-8")
    return array


def _hashes(array: Any, errors: dict[int, str]) -> Any:
    """Hashes in small letters; what is no sha256 becomes null and an error of its row."""
    array = pc.utf8_lower(array)
    wrong = pc.fill_null(pc.invert(pc.match_substring_regex(array, _SHA256)), False)
    if not pc.any(wrong).as_py():
        return array
    for index in pc.indices_nonzero(wrong).to_pylist():
        errors.setdefault(index, f"expected sha256 is {array[index].as_py()[:80]!r}, not 64 hex digits")
    return pc.if_else(wrong, pa.scalar(None, pa.string()), array)


def _null_where_empty(array: Any) -> Any:
    array = pc.utf8_trim_whitespace(array)
    return pc.if_else(pc.equal(array, ""), pa.scalar(None, pa.string()), array)


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _nearest(name: str, names: Sequence[str]) -> str:
    folded = {known.casefold(): known for known in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f" (did you mean {folded[close[0]]}?)" if close else ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return (", ".join(names[:_MANY]) or "no columns") + more
