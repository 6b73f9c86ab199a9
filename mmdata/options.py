"""Options: dataclass fields that say what a change of their value does, and how a mapping from YAML becomes one.

Every option of a source, stage, scorer, rule or section is declared with one of

    semantic(default)      a change gives other bytes: part of a hash, refused under an existing run
    outcome(default)       a change may let other samples through (timeouts, retries): recorded, not hashed
    operational(default)   a change never shows in the output (workers, addresses)
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from mmdata.errors import ConfigError

ROLES = ("semantic", "outcome", "operational")
_T = TypeVar("_T")
_REQUIRED: Any = dataclasses.MISSING


def semantic(default: Any = _REQUIRED, *, factory: Callable[[], Any] | None = None) -> Any:
    """An option whose change gives other bytes."""
    return _field("semantic", default, factory)


def outcome(default: Any = _REQUIRED, *, factory: Callable[[], Any] | None = None) -> Any:
    """An option whose change may let other samples through, but changes no sample."""
    return _field("outcome", default, factory)


def operational(default: Any = _REQUIRED, *, factory: Callable[[], Any] | None = None) -> Any:
    """An option that never shows in the output."""
    return _field("operational", default, factory)


def _field(role: str, default: Any, factory: Callable[[], Any] | None) -> Any:
    metadata = {"role": role}
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def build(cls: type[_T], values: Mapping[str, Any] | None, where: str) -> _T:
    """An instance of the option class `cls` from a YAML mapping.

    where: file and place for messages. Raises ConfigError for an unknown key (with the nearest name), a missing one,
    a wrong type or a value out of range; all problems at once, one a line.
    """
    from pydantic import ValidationError

    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: found {type(values).__name__} {values!r}, allowed is a mapping of options")
    names = [field.name for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
    problems = [
        f"{where}.{key}: no such option{nearest(str(key), names)}; allowed: {', '.join(names)}"
        for key in values
        if key not in names
    ]
    if not problems:
        try:
            return _adapter(cls).validate_python(dict(values))  # type: ignore[arg-type, no-any-return]
        except ValidationError as error:
            problems = [_problem(where, entry) for entry in error.errors()]
    raise ConfigError("\n".join(problems))


@functools.cache
def _adapter(cls: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _problem(where: str, entry: Any) -> str:
    place = ".".join([where, *(str(part) for part in entry["loc"])])
    if entry["type"] in ("missing", "missing_argument"):
        return f"{place}: is required"
    message = str(entry["msg"]).removeprefix("Value error, ")
    return f"{place}: found {entry['input']!r}, but {message[:1].lower()}{message[1:]}"


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean x?)` for the known name that is closest to `name`, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def values_of(options: Any, *roles: str) -> dict[str, Any]:
    """The options of `roles` as plain values for YAML, JSON and hashes, in the order they are declared."""
    return {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if field.metadata.get("role") in roles
    }
