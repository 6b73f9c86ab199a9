"""What `datasets` is told of tars in the card: without it, it takes the first samples of one tar for all of them.

Then pictures of documents that have more than the first one would be lost without a word, and an empty list at the
beginning would be an error later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from mmdata.sample import PART_GROUPS

_BY_GROUP = {"image": "image", "frames": "image", "video": "video", "sound": "audio"}


def entry(name: str, kind: pa.DataType) -> dict[str, Any]:
    """A field as the front matter of a card writes it; numbers as they come out of JSON."""
    return {"name": name, **_typed(kind)}


def _typed(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_struct(kind):
        return {"struct": [entry(field.name, field.type) for field in kind]}
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = _typed(kind.value_type)
        return {"list": inner.get("struct") or inner.get("dtype") or inner}
    if pa.types.is_boolean(kind):
        return {"dtype": "bool"}
    if pa.types.is_integer(kind):
        return {"dtype": "uint64" if kind == pa.uint64() else "int64"}
    return {"dtype": "float64" if pa.types.is_floating(kind) else "string"}


def tar_features(parts: Iterable[str], json_fields: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The features of all samples of a modality. parts: of any of its samples; those that one has not are null."""
    found = [{"name": part, **_part(part)} for part in sorted(parts)]
    found += [{"name": "json", "struct": list(json_fields)}, {"name": "txt", "dtype": "string"}]
    return [*found, {"name": "__key__", "dtype": "string"}, {"name": "__url__", "dtype": "string"}]


def _part(part: str) -> dict[str, Any]:
    for group, feature in _BY_GROUP.items():
        if PART_GROUPS[group].fullmatch(part):
            return {"dtype": feature}
    return {"list": {"list": "float16"}}  # .npy
