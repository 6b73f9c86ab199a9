"""The hashes that say which config made what: ingest, one per scorer, selection, emit; and what differs between two."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmdata.config import Pipeline
from mmdata.errors import ConfigError
from mmdata.options import values_of
from mmdata.run.catalog import Resolved
from mmdata.select.reference import fingerprint

HASH_CHARS = 16
# Inputs are known by the fingerprint of their content, so a table may lie elsewhere the next time.
_PLACES = {"path", "model"}


def semantic_tree(pipeline: Pipeline, resolved: Resolved) -> dict[str, Any]:
    """All that changes bytes, by part: {"ingest": ..., "score": {name: ...}, "select": ..., "emit": ...}."""
    fetch = values_of(resolved.fetch, "semantic")
    fetch["hash_blocklist"] = _file_hash(resolved.fetch.hash_blocklist)
    return {
        "ingest": {
            "seed": pipeline.seed,
            "sources": {
                name: {"kind": source.kind, "version": source.version, **_options(source)}
                for name, source in resolved.sources.items()
            },
            "plan": values_of(pipeline.plan, "semantic"),
            "fetch": fetch,
            "stages": [{"name": s.name, "version": s.version, **_options(s), **_file_of(s)} for s in resolved.stages],
        },
        "score": {
            name: {"version": s.version, **_options(s), "weights": s.weights_sha256()}  # type: ignore[attr-defined]
            for name, s in resolved.scorers.items()
        },
        "select": {
            "seed": pipeline.seed,
            "val_share": pipeline.emit.val_share,
            "rules": [{"name": r.name, "version": r.version, **_options(r), **_contents(r)} for r in resolved.rules],
        },
        "emit": {"seed": pipeline.seed, **values_of(pipeline.emit, "semantic")},
    }


def hash_of(tree: Any) -> str:
    """Short sha256 of a tree of plain values, the same for equal trees."""
    text = json.dumps(tree, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_CHARS]


def differences(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """One line a field that differs: `fetch.max_mb: 50.0 -> 20.0`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}, key=str):
            yield from differences(old.get(key), new.get(key), f"{place}.{key}" if place else str(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from differences(left, right, f"{place}[{index}]")
    elif old != new:
        yield f"{place}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else text[:200] + " ..."


def _options(options: Any) -> dict[str, Any]:
    values = values_of(options, "semantic")
    model = values.get("model")
    return {name: value for name, value in values.items() if name not in _PLACES} | (
        {"model": model} if isinstance(model, str) and not model.startswith("local-dir:") else {}
    )


def _contents(rule: Any) -> dict[str, str]:
    """Files that a rule reads, known by their content."""
    files = {name: getattr(rule, name) for name in sorted(getattr(rule, "files", ()))}
    return {name: fingerprint(path) for name, path in files.items() if path}


def _file_of(stage: Any) -> dict[str, str]:
    """The list that a stage reads, known by its content."""
    path = getattr(stage, "path", "")
    return {"path": _file_hash(path)} if path else {}


def _file_hash(path: str) -> str:
    if not path:
        return ""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"fetch.hash_blocklist: {path}: cannot be read: {error.strerror}") from None
