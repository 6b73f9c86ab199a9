"""The catalogue: every name has its class, wrong names and orders are refused before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mmdata.config import load
from mmdata.errors import ConfigError
from mmdata.run import catalog
from mmdata.run.catalog import Resolved, absolute, resolve

SOURCE = {"pictures": {"kind": "url_table", "path": "rows.parquet"}}
PLACES = [*catalog.STAGES.items(), *catalog.SCORERS.items()]


def _resolve(folder: Path, **sections: Any) -> Resolved:
    path = folder / "p.yaml"
    path.write_text(yaml.safe_dump({"sources": SOURCE} | sections))
    return resolve(load(path))


def _refused(folder: Path, **sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        _resolve(folder, **sections)
    return str(caught.value)


@pytest.mark.parametrize(("name", "place"), PLACES, ids=[name for name, _ in PLACES])
def test_a_stage_says_what_it_reads_writes_and_needs(name: str, place: str) -> None:
    cls = catalog.load_class(place)
    assert cls.name == name
    assert isinstance(cls.reads, frozenset)
    assert cls.writes
    assert isinstance(cls.isolated, bool)
    assert cls.resources.cpus > 0
    assert callable(cls.setup)
    assert callable(cls.process)


@pytest.mark.parametrize("name", catalog.STAGES)
def test_a_stage_that_reads_bytes_of_strangers_is_isolated(name: str) -> None:
    cls = catalog.load_class(catalog.STAGES[name])
    assert cls.isolated or "raw" not in cls.reads


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        (
            {"sources": {"a": {"kind": "url_tabel", "path": "x"}}},
            "sources.a: no such kind: url_tabel (did you mean url_table?); allowed: url_table,",
        ),
        (
            {"stages": ["decode_imag"]},
            "stages[0]: no such stage: decode_imag (did you mean decode_image?); allowed: decode_image,",
        ),
        (
            {"score": ["image_txt"]},
            "score[0]: no such scorer: image_txt (did you mean image_text?); allowed: image_text",
        ),
        (
            {"select": ["dedup", "subst"]},
            "select[1]: no such rule: subst (did you mean subset?); allowed: ",
        ),
        (
            {"stages": [{"decode_image": {"sid_px": 3}}]},
            "stages[0].decode_image.sid_px: no such option (did you mean side_px?)",
        ),
        ({"sources": {"a": {"kind": "url_table"}}}, "sources.a.path: is required"),
        ({"score": ["image_text"], "stages": ["decode_image"]}, "score[0].image_text.model: is required"),
        (
            {"select": [{"thresholds": {}}]},
            "select[0].thresholds: found {}, allowed is a mapping: column: {min: ..., max: ...}",
        ),
        (
            {"stages": ["hash_image"]},
            "stages[0]: hash_image reads image, which no stage before it writes; put decode_image before it",
        ),
        ({"stages": ["hash_image", "decode_image"]}, "stages[0]: hash_image reads image"),
        (
            {"score": [{"image_text": {"model": "ViT-B-32"}}]},
            "score[0]: image_text reads frames or image, which no stage before it writes; put decode_image",
        ),
    ],
)
def test_a_wrong_name_option_or_order_is_said_with_its_place(
    tmp_path: Path, sections: dict[str, Any], says: str
) -> None:
    message = _refused(tmp_path, **sections)
    assert message.startswith(f"{tmp_path / 'p.yaml'}: ")
    assert says in message


def test_a_scorer_may_stand_there_once(tmp_path: Path) -> None:
    entry = {"image_text": {"model": "ViT-B-32"}}
    assert "score: a scorer may stand there once" in _refused(tmp_path, stages=["decode_image"], score=[entry, entry])


@pytest.mark.parametrize("name", ["os:system", "tests.run.breaking:Breaks", "mmdata.image.decode_image:DecodeImage"])
def test_a_pipeline_file_cannot_name_a_class_by_its_module(tmp_path: Path, name: str) -> None:
    assert f"stages[0]: no such stage: {name}" in _refused(tmp_path, stages=[name])


def test_names_become_objects_with_their_options(tmp_path: Path) -> None:
    resolved = _resolve(
        tmp_path,
        stages=[{"decode_image": {"side_px": 64}}, "hash_image"],
        score=[{"image_text": {"model": "ViT-B-32", "batch_size": 8}}],
        select=["dedup", {"thresholds": {"clip_similarity": {"min": 0.1}}}],
    )
    assert [stage.name for stage in resolved.stages] == ["decode_image", "hash_image"]
    assert resolved.stages[0].side_px == 64  # type: ignore[attr-defined]
    assert resolved.scorers["image_text"].batch_size == 8
    assert [rule.name for rule in resolved.rules] == ["dedup", "thresholds"]


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    resolved = _resolve(
        tmp_path,
        stages=["decode_image"],
        score=[{"image_text": {"model": "local-dir:encoder"}}],
        fetch={"hash_blocklist": "blocked.txt"},
    )
    assert resolved.sources["pictures"].path == str(tmp_path / "rows.parquet")  # type: ignore[attr-defined]
    assert resolved.scorers["image_text"].model == f"local-dir:{tmp_path / 'encoder'}"  # type: ignore[attr-defined]
    assert resolved.fetch.hash_blocklist == str(tmp_path / "blocked.txt")


@pytest.mark.parametrize("path", ["", "s3://bucket/rows.parquet", "/rows.parquet", "local-dir:/encoder", "hf-hub:a/b"])
def test_absolute_paths_urls_and_nothing_stay(path: str) -> None:
    folder = Path("/folder")
    assert absolute(path, folder) == path or path.startswith("hf-hub:")
