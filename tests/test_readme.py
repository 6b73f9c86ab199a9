"""The README tells the truth: every file is on the map, every command is documented, no machine's paths."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.run.world import command, environment

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_map_names_every_file_of_the_package_and_no_other() -> None:
    section = README.split("## Map of the code")[1].split("\n## ")[0]
    named = set(re.findall(r"^    (mmdata/\S+\.py)", section, re.MULTILINE))
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mmdata").rglob("*.py")}
    assert named == {path for path in there if not path.endswith("__init__.py")}


def test_every_command_of_the_command_line_is_documented() -> None:
    helped = subprocess.run(command("--help"), env=environment(), capture_output=True, text=True, check=True)
    commands = set(re.findall(r"^  ([a-z]+)  ", helped.stdout.split("Commands:")[1], re.MULTILINE))
    assert len(commands) > 10
    documented = README.split("## Commands")[1].split("\n## ")[0]
    assert {name for name in commands if f"`{name}`" not in documented and f"mmdata {name}" not in documented} == set()


def test_every_make_target_of_the_readme_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|    )make ([a-z]+)", README)) <= targets


def test_every_dependency_has_its_role() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    wanted = re.findall(r'^    "([a-zA-Z0-9_-]+)', text.split("dependencies = [")[1].split("]\n")[0], re.MULTILINE)
    roles = README.split("## Dependencies")[1].split("\n## ")[0]
    assert [name for name in wanted if name not in roles] == []


def test_pictures_of_the_readme_are_there() -> None:
    assert [name for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README) if not (ROOT / name).is_file()] == []
