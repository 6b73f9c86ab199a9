"""YAML files as plain values, read strictly, and the recipes that a list of rules may name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mmdata.errors import ConfigError
from mmdata.options import nearest

RECIPES = Path(__file__).parent / "select" / "recipes"  # installed with the package


class _Loader(yaml.SafeLoader):
    """Plain YAML that refuses a key that is there twice: the first of two sources of one name would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """What the file holds. Raises ConfigError where it cannot be read or says one thing twice."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from None


def rules_of(item: Any, path: Path) -> list[Any]:
    """The rules that `recipe: NAME` stands for: those of recipes/NAME.yaml beside the pipeline file, or ours."""
    if not isinstance(item, dict) or set(item) != {"recipe"}:
        return [item]
    folders = [path.parent / "recipes", RECIPES]
    found = [file for folder in folders if (file := folder / f"{item['recipe']}.yaml").is_file()]
    if not found:
        names = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
        raise ConfigError(
            f"{path}: select: no such recipe: {item['recipe']}{nearest(str(item['recipe']), names)}; "
            f"there are: {', '.join(names)}"
        )
    rules = read_yaml(found[0])
    if not isinstance(rules, list):
        raise ConfigError(f"{found[0]}: found {type(rules).__name__}, allowed is a list of rules")
    return rules
