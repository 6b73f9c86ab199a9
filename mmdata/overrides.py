"""`a.b=c` of the command line: one value of a tree of mappings and lists, replaced."""

from __future__ import annotations

from typing import Any

import yaml

from mmdata.errors import ConfigError
from mmdata.options import nearest


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Apply `a.b=c` in place; c is YAML; a list is entered by index, or by name where it has `name: {options}`."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"{override}: found no '=', an override is written a.b=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{override}: {text!r} is not a YAML value") from None
    node: Any = tree
    *parents, last = path.split(".")
    for step in parents:
        node = _enter(node, step, override)
    if isinstance(node, list):
        index = _index(node, last, override)
        node[index] = value if last.isdigit() else {last: value}
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ConfigError(f"{override}: {'.'.join(parents)} has no options")


def _enter(node: Any, step: str, override: str) -> Any:
    if isinstance(node, list):
        index = _index(node, step, override)
        item = node[index]
        if isinstance(item, str):
            item = node[index] = {item: {}}
        if not step.isdigit() and isinstance(item, dict):
            if item[step] is None:
                item[step] = {}
            return item[step]
        return item
    if isinstance(node, dict):
        if node.get(step) is None:
            node[step] = {}
        return node[step]
    raise ConfigError(f"{override}: {step}: there is nothing below a plain value")


def _index(items: list[Any], step: str, override: str) -> int:
    if step.isdigit() and int(step) < len(items):
        return int(step)
    names = [
        item if isinstance(item, str) else next(iter(item), "") if isinstance(item, dict) else "" for item in items
    ]
    if step in names:
        return names.index(step)
    raise ConfigError(f"{override}: {step}: found {len(items)} entries: {', '.join(names)}{nearest(step, names)}")
