"""The layout rules, as tests: imports go down a floor, heavy packages stay where they belong, files stay short."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
ROOT = TOP / "mmdata"
FLOORS = [  # a file may import lower floors and its own folder, nothing else
    {"errors"},
    {"sample"},
    {"options"},
    {"yaml_file"},
    {"augment", "overrides", "ray_token"},
    {"stage", "config", "counters"},
    {"shards"},
    {"sources", "fetch", "media"},
    {"image", "video", "audio", "text"},
    {"score"},
    {"select"},
    {"emit"},
    {"run", "train"},
    {"evaluate"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
NEVER = {  # lower floors that are still out of bounds
    "select": {"image", "video", "audio", "text", "score"},
    "train": {"sources", "fetch", "score", "select", "emit"},
    "evaluate": {"sources", "fetch", "score", "select", "emit", "run"},
}
ONLY_IN = {"ray": {"run", "train"}, "torch": {"score", "train", "evaluate"}}
BANNED = {f"{name}.py" for name in ("utils", "util", "helpers", "helper", "common", "misc", "base")}
MAX_LINES = 300
MACHINE_PATHS = tuple("/" + name + "/" for name in ("work", "root"))
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
FOLDERS = sorted({path.parent for path in FILES})


def _id(path: Path) -> str:
    return path.relative_to(TOP).as_posix()


each_file = pytest.mark.parametrize("path", FILES, ids=_id)


def _imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of what a file imports, in functions and for type checking too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _module_level(tree: ast.Module) -> Iterator[str]:
    """Dotted names of what a file imports when it is imported itself."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from _imported(node)
        waiting += ast.iter_child_nodes(node)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@each_file
def test_imports_go_down(path: Path) -> None:
    here = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert here in FLOOR_OF, f"{here} has no floor; the house is drawn in FLOORS"
    for module in _imported(_tree(path)):
        package, _, rest = module.partition(".")
        assert here in ONLY_IN.get(package, {here}), f"{here} may not import {package}"
        if package == "mmdata" and rest not in ("", "__version__"):
            there = rest.split(".")[0]
            assert there == here or FLOOR_OF[there] < FLOOR_OF[here], f"{here} may not import {there}: {module}"
            assert there not in NEVER.get(here, ()), f"{here} may not import {there}: {module}"


@each_file
def test_a_file_is_short_and_well_named(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    assert path.name not in BANNED


@each_file
def test_a_file_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(_tree(path))


@pytest.mark.parametrize("folder", FOLDERS, ids=_id)
def test_no_file_of_a_folder_imports_another_in_a_circle(folder: Path) -> None:
    names = {path: ".".join(path.relative_to(TOP).with_suffix("").parts) for path in folder.glob("*.py")}
    graph = {
        name: {
            other
            for other in names.values()
            for module in _module_level(_tree(path))
            if f"{module}.".startswith(f"{other}.")
        }
        - {name}
        for path, name in names.items()
    }
    TopologicalSorter(graph).prepare()


SAMPLE = """
import os
if TYPE_CHECKING:
    import a
else:
    import b
def f():
    from c import d
try:
    import e
except E:
    pass
"""


def test_the_rules_themselves_see_what_they_should() -> None:
    tree = ast.parse(SAMPLE)
    assert sorted(_imported(tree)) == ["a", "b", "c.d", "e", "os"]
    assert sorted(_module_level(tree)) == ["b", "e", "os"]


def _files_of_the_repository() -> list[Path]:
    """What git would take: tracked, or new and not ignored."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=TOP, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip("no git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := TOP / name).is_file()]


def test_no_file_names_a_path_of_one_machine() -> None:
    found = []
    for path in _files_of_the_repository():
        text = path.read_bytes()
        found += [f"{_id(path)}: {place}" for place in MACHINE_PATHS if place.encode() in text]
    assert found == []
