"""The recipes: each cites its source, and keeps what that source says."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

import mmdata
from mmdata.config import load
from mmdata.errors import ConfigError
from mmdata.run.catalog import resolve
from mmdata.run.hashes import semantic_tree
from mmdata.yaml_file import RECIPES
from tests.select.planted import decided

GOOD = {
    "language": "en",
    "caption": "a red panda asleep",
    "original_width_px": 640,
    "original_height_px": 480,
    "clip_similarity": 0.31,
    "punsafe": 0.1,
    "pwatermark": 0.1,
    "AESTHETIC_SCORE": 7.5,
}
BAD: dict[str, list[dict[str, Any]]] = {
    "datacomp_basic": [
        {"language": "de"},
        {"language": None},
        {"caption": "red panda"},
        {"caption": "a b c"},
        {"caption": None},
        {"original_height_px": 199},
        {"original_width_px": 1441},
    ],
    "laion2b_en": [{"language": "zh"}, {"clip_similarity": 0.27}, {"clip_similarity": None}],
    "laion_tags": [{"punsafe": 0.5}, {"pwatermark": 0.8}, {"punsafe": None}],
    "laion_aesthetic": [{"punsafe": 0.6}, {"pwatermark": 0.9}, {"AESTHETIC_SCORE": 7.0}, {"AESTHETIC_SCORE": None}],
}
GOOD_TOO: dict[str, list[dict[str, Any]]] = {
    "datacomp_basic": [{"original_height_px": 200, "original_width_px": 600}, {"caption": "x yz abc"}],
    "laion2b_en": [{"clip_similarity": 0.2801}],
    "laion_tags": [{"punsafe": 0.499, "pwatermark": 0.799}],
    "laion_aesthetic": [{"AESTHETIC_SCORE": 7.01}],
}
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))


def write_pipeline(folder: Path, select: list[Any], name: str = "p.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump({"sources": {"web": {"kind": "url_table", "path": "x.csv"}}, "select": select}))
    return path


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_recipe_keeps_what_its_source_says(tmp_path: Path, name: str) -> None:
    rules = resolve(load(write_pipeline(tmp_path, [{"recipe": name}]))).rules
    good = [GOOD, *({**GOOD, **change} for change in GOOD_TOO[name])]
    rows = [*good, *({**GOOD, **change} for change in BAD[name])]
    kept = [row["keep"] for row in decided(tmp_path, rows, rules).values()]
    assert kept == [True] * len(good) + [False] * len(BAD[name])


def test_the_top_of_clip_similarity_is_three_in_ten(tmp_path: Path) -> None:
    rules = resolve(load(write_pipeline(tmp_path, [{"recipe": "clip_top30"}]))).rules
    kept = [
        row["keep"] for row in decided(tmp_path, [{"clip_similarity": row / 50} for row in range(50)], rules).values()
    ]
    assert kept == [False] * 35 + [True] * 15


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_tested_and_cites_its_source(name: str) -> None:
    assert name in {*BAD, "clip_top30"}
    head = (RECIPES / f"{name}.yaml").read_text().partition("\n-")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert "et al. 20" in head or "github.com/" in head


def test_everything_that_is_no_code_is_named_as_data_of_the_package() -> None:
    package = Path(mmdata.__file__).parent
    project = (package.parent / "pyproject.toml").read_text(encoding="utf-8")
    patterns = ast.literal_eval(project.split("package-data]\nmmdata = ")[1].splitlines()[0])
    data = [path for path in package.rglob("*.*") if path.suffix not in (".py", ".pyc")]
    assert {f"{name}.yaml" for name in NAMES} <= {path.name for path in data}
    assert [path for path in data if not any(path.relative_to(package).match(pattern) for pattern in patterns)] == []


def test_a_recipe_stands_among_rules_and_can_be_overridden(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path, [{"dedup": {}}, {"recipe": "laion2b_en"}, {"subset": {"share": 0.5}}])
    pipeline = load(path, ["select.2.thresholds.clip_similarity.min=0.3"])
    assert [entry.name for entry in pipeline.select] == ["dedup", "where", "thresholds", "subset"]
    assert pipeline.select[2].options == {"clip_similarity": {"min": 0.3}}
    plain = load(write_pipeline(tmp_path, [{e.name: dict(e.options)} for e in pipeline.select], "plain.yaml"))
    assert semantic_tree(plain, resolve(plain))["select"] == semantic_tree(pipeline, resolve(pipeline))["select"]


def test_recipes_beside_the_pipeline_come_first_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "laion2b_en.yaml").write_text("- subset: {count: 3}\n")
    (tmp_path / "recipes" / "odd.yaml").write_text("subset: {count: 3}\n")
    pipeline = load(write_pipeline(tmp_path, [{"recipe": "laion2b_en"}]))
    assert [(entry.name, entry.options) for entry in pipeline.select] == [("subset", {"count": 3})]
    with pytest.raises(
        ConfigError, match=r"no such recipe: laion2b-en \(did you mean laion2b_en\?\); there are: clip_top30"
    ):
        load(write_pipeline(tmp_path, [{"recipe": "laion2b-en"}]))
    with pytest.raises(ConfigError, match=r"odd\.yaml: found dict, allowed is a list of rules"):
        load(write_pipeline(tmp_path, [{"recipe": "odd"}]))


def test_files_that_rules_read_count_by_content_and_not_by_place(tmp_path: Path) -> None:
    trees = []
    for name, text in (("a", "a.example\n"), ("b", "a.example\n"), ("c", "b.example\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "list.txt").write_text(text)
        pipeline = load(write_pipeline(tmp_path / name, [{"remove": {"list": "list.txt"}}]))
        trees.append(semantic_tree(pipeline, resolve(pipeline))["select"])
    assert trees[0] == trees[1] != trees[2]
