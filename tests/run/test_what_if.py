"""Questions of `mmdata select --what-if`: what they may ask, and what is printed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mmdata.config import load
from mmdata.errors import ConfigError
from mmdata.run.what_if import Question, parse_question
from tests.run.world import World, tree_of

SELECT = [
    {"dedup": {"by": "sha256"}},
    {"thresholds": {"width_px": {"min": 60}}},
    {"dedup": {"by": "phash", "distance": 2}},
]


@pytest.fixture
def pipeline_path(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({"sources": {"web": {"kind": "url_table", "path": "x.csv"}}, "select": SELECT}))
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("width_px.min=10,64.5", Question(1, "thresholds", ("width_px", "min"), (10, 64.5))),
        ("thresholds.width_px.max=p90", Question(1, "thresholds", ("width_px", "max"), ("p90",))),
        (
            "image_text.clip_similarity.top_share=0.3",
            Question(3, "thresholds", ("image_text.clip_similarity", "top_share"), (0.3,)),
        ),
        ("dedup.by=url,caption", Question(0, "dedup", ("by",), ("url", "caption"))),
        ("2.dedup.distance=0,4", Question(2, "dedup", ("distance",), (0, 4))),
    ],
)
def test_a_question_finds_its_rule(pipeline_path: Path, text: str, expected: Question) -> None:
    assert parse_question(load(pipeline_path), text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width_px", "allowed is COLUMN.min"),
        ("width_px.min=", "found no values"),
        ("width_px.least=3", "of a column allowed are min, max, top_share"),
        ("dedub.by=url", r"did you mean dedup\?"),
        ("balance.temperature=0.5", "no rule balance in select; there are dedup, thresholds, dedup"),
        ("1.dedup.by=url", r"select\[1\] is not dedup"),
        ("7.dedup.by=url", r"select\[7\] is not dedup"),
    ],
)
def test_a_question_about_nothing_there_says_what_is(pipeline_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_question(load(pipeline_path), text)


def test_what_if_prints_counts_and_the_edge_and_changes_nothing(world: World) -> None:
    path = world.write_pipeline(select=[{"dedup": {"by": "sha256"}}, {"thresholds": {"bytes": {"min": 1}}}])
    early = world.mmdata("select", str(path), "--what-if", "bytes.min=1", check=False)
    assert (early.returncode, "nothing is ingested there yet" in early.stderr) == (2, True)
    world.mmdata("ingest", str(path), "--in-process")
    before = tree_of(world.folder)
    said = world.mmdata("select", str(path), "--what-if", "bytes.min=1,1000000,p50").stdout.splitlines()
    assert said[0] == "select[1].thresholds.bytes.min, now 1:"
    counts = {line.split()[0]: line.split()[1:4] for line in said[2:5]}
    assert counts["1"] == ["54", "0", "54"]
    assert counts["1000000"] == ["54", "54", "0"]
    assert counts["p50"] == ["54", "26", "28"]
    assert "above 1:" in said
    assert any("picture number" in line and "http://media.example/" in line for line in said)
    wrong = world.mmdata("select", str(path), "--what-if", "bytes.min=x", check=False)
    assert (wrong.returncode, "percentiles such as p10" in wrong.stderr) == (2, True)
    assert tree_of(world.folder) == before
