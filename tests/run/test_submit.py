"""What a job of a cluster carries: the files that its pipeline file names, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mmdata.config import load
from mmdata.errors import ConfigError
from mmdata.run.submit import copy_allowed

SELECT = [
    {"remove": {"list": "gone.txt"}},
    {"head": {"model": "models/safe.safetensors", "embedding": "image_embedding", "column": "punsafe"}},
    {"dedup": {"by": "sha256", "against": "evaluation/*.parquet"}},
    {"recipe": "ours"},
]
CARRIED = {
    "links.csv",
    "blocked.txt",
    "gone.txt",
    "models/safe.safetensors",
    "evaluation/a.parquet",
    "recipes/ours.yaml",
    "encoder/weights.safetensors",
    "my.yaml",
}


def write_pipeline(folder: Path, **changed: object) -> Path:
    for name in (CARRIED | {"secret.txt", "models/other.safetensors"}) - {"my.yaml", "recipes/ours.yaml"}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("url,caption\n" if name == "links.csv" else "")
    (folder / "recipes").mkdir()
    (folder / "recipes/ours.yaml").write_text("- thresholds: {width_px: {min: 64}}\n")
    tree = {
        "name": "job",
        "sources": {"web": {"kind": "url_table", "path": "links.csv"}},
        "fetch": {"hash_blocklist": "blocked.txt"},
        "stages": [{"decode_image": {}}],
        "score": [{"image_text": {"model": "local-dir:encoder"}}],
        "select": SELECT,
        **changed,
    }
    path = folder / "my.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_a_job_carries_every_file_that_the_pipeline_names_and_no_other(tmp_path: Path) -> None:
    source, job = tmp_path / "here", tmp_path / "job"
    for folder in (source, job):
        folder.mkdir()
    assert copy_allowed(load(str(write_pipeline(source)), []), job) == "pipeline/my.yaml"
    carried = {
        path.relative_to(job / "pipeline").as_posix() for path in (job / "pipeline").rglob("*") if path.is_file()
    }
    assert carried == CARRIED
    assert (job / "mmdata/cli.py").is_file()


def test_a_file_outside_of_the_pipelines_folder_is_refused(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path, select=[{"remove": {"list": "../gone.txt"}}])
    with pytest.raises(ConfigError, match=r"\.\./gone\.txt: a job may carry only files beside the pipeline file"):
        copy_allowed(load(str(path), []), tmp_path / "job")


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("absent.txt", "absent.txt: no such file or folder beside"),
        ("runs/old/gone.txt", "a job carries no runs"),
        (".env", "a job carries no runs, no hidden files"),
    ],
)
def test_what_a_job_cannot_carry_is_said(tmp_path: Path, listed: str, said: str) -> None:
    path = write_pipeline(tmp_path, select=[{"remove": {"list": listed}}])
    with pytest.raises(ConfigError, match=said):
        copy_allowed(load(str(path), []), tmp_path / "job")


def test_braces_name_the_files_that_a_source_would_read(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path, sources={"web": {"kind": "url_table", "path": "{links,more}.csv"}})
    (tmp_path / "more.csv").write_text("url,caption\n")
    copy_allowed(load(str(path), []), tmp_path / "job")
    assert sorted(file.name for file in (tmp_path / "job/pipeline").glob("*.csv")) == ["links.csv", "more.csv"]
