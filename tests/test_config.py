"""The pipeline file: what is refused and in which words, overrides, and that every option has a role."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mmdata.config import EmitOptions, FetchOptions, Pipeline, PlanOptions, RunOptions, load
from mmdata.errors import ConfigError
from mmdata.options import ROLES
from mmdata.run import catalog

SMALL: dict[str, Any] = {
    "name": "small",
    "seed": 17,
    "sources": {"pictures": {"kind": "url_table", "path": "rows.parquet"}},
    "stages": [{"decode_image": {"side_px": 256}}, "hash_image"],
    "score": [{"image_text": {"model": "ViT-B-32"}}],
    "select": [{"thresholds": {"clip_similarity": {"min": 0.28}}}, {"dedup": None}],
}
SECTION_CLASSES = (PlanOptions, FetchOptions, EmitOptions, RunOptions)
CATALOGUED = {
    f"{part}.{name}": place
    for part, names in (
        ("sources", catalog.SOURCES),
        ("stages", catalog.STAGES),
        ("score", catalog.SCORERS),
        ("select", catalog.RULES),
    )
    for name, place in names.items()
}


def _write(folder: Path, text: str | dict[str, Any]) -> Path:
    path = folder / "p.yaml"
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text, sort_keys=False))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return _write(tmp_path, SMALL)


def _refused(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    return str(caught.value)


def _entries(pipeline: Pipeline, part: str) -> list[dict[str, Any]]:
    return [{entry.name: dict(entry.options)} for entry in getattr(pipeline, part)]


def test_a_file_gives_its_values_and_the_defaults_of_all_else(small: Path) -> None:
    pipeline = load(small)
    assert (pipeline.name, pipeline.seed, pipeline.folder) == ("small", 17, small.parent)
    assert pipeline.sources["pictures"].name == "url_table"
    assert pipeline.sources["pictures"].options == {"path": "rows.parquet"}
    assert _entries(pipeline, "stages") == [{"decode_image": {"side_px": 256}}, {"hash_image": {}}]
    assert _entries(pipeline, "select")[1] == {"dedup": {}}
    assert (pipeline.plan, pipeline.fetch) == (PlanOptions(), FetchOptions())
    assert (pipeline.emit, pipeline.run) == (EmitOptions(), RunOptions())


def test_a_file_without_a_name_is_called_as_the_file(tmp_path: Path) -> None:
    assert load(_write(tmp_path, {"sources": SMALL["sources"]})).name == "p"


def test_what_a_run_records_is_read_back_as_the_same_pipeline(small: Path, tmp_path: Path) -> None:
    pipeline = load(small)
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(pipeline.to_yaml(), sort_keys=False))
    read = load(again)
    assert read.to_yaml() == pipeline.to_yaml()
    assert (read.fetch, read.emit, read.seed) == (pipeline.fetch, pipeline.emit, pipeline.seed)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1\n", "is not valid YAML"),
        ("- a\n- b\n", "found list, allowed is a mapping with name, seed, sources"),
        ("", "found NoneType, allowed is a mapping"),
        ("!!python/object/apply:os.getcwd []\n", "is not valid YAML"),
        ("\x00", "is not valid YAML"),
        ("sources:\n  a: {kind: url_table}\n  a: {kind: webdataset}\n", "is not valid YAML: 'a' is there twice"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = _write(tmp_path, text)
    message = _refused(path)
    assert message.startswith(f"{path}: ")
    assert says in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert _refused(tmp_path / "none.yaml") == f"{tmp_path / 'none.yaml'}: no such file"


def test_a_folder_and_binary_files_are_refused_by_name(tmp_path: Path) -> None:
    assert _refused(tmp_path).startswith(f"{tmp_path}: cannot be read: ")
    path = tmp_path / "b.yaml"
    path.write_bytes(b"\xff\xfe\xfa\x80")
    assert _refused(path).startswith(f"{path}: cannot be read: ")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stage": []}, "stage: no such section (did you mean stages?); allowed: name, seed, sources, plan"),
        ({"name": "No Good"}, "name: found 'No Good', allowed are small letters, digits and '-'"),
        ({"seed": "x"}, "seed: found 'x', allowed is a whole number"),
        ({"seed": True}, "seed: found True, allowed is a whole number"),
        ({"sources": {}}, "sources: found {}, allowed is a mapping: name: {kind: ..., path: ...}"),
        ({"sources": {"My Pictures": {"kind": "url_table"}}}, "sources.My Pictures: a source name may have small"),
        ({"sources": {"a": {"path": "x"}}}, "sources.a.kind: is required"),
        ({"sources": {"a": None}}, "sources.a.kind: is required"),
        ({"stages": {"hash_image": {}}}, "stages: found dict, allowed is a list: - name: {options}"),
        ({"stages": [{"a": {}, "b": {}}]}, "stages[0]: found {'a': {}, 'b': {}}, allowed is one name with its options"),
        ({"select": ["dedup", {"subset": 3}]}, "select[1].subset: found 3, allowed is a mapping of options"),
        ({"fetch": {"timout_s": 3}}, "fetch.timout_s: no such option (did you mean timeout_s?); allowed: engine,"),
        ({"fetch": {"timeout_s": 0}}, "fetch.timeout_s: found 0, but input should be greater than 0"),
        ({"fetch": {"engine": "wget"}}, "fetch.engine: found 'wget', but input should be 'native' or 'img2dataset'"),
        ({"fetch": {"ports": [80, "x"]}}, "fetch.ports.1: found 'x', but "),
        ({"emit": {"val_share": 1.5}}, "emit.val_share: found 1.5, but input should be less than or equal to 1"),
        ({"emit": {"formats": ["csv"]}}, "emit.formats.0: found 'csv', but input should be 'webdataset' or 'parquet'"),
        ({"emit": []}, "emit: found list [], allowed is a mapping of options"),
        ({"plan": {"rows_per_shard": 0}}, "plan.rows_per_shard: found 0, but "),
        ({"run": {"workers": "many"}}, "run.workers."),
    ],
)
def test_what_is_wrong_is_said_with_file_place_found_and_allowed(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    path = _write(tmp_path, SMALL | change)
    message = _refused(path)
    assert message.startswith(f"{path}: ")
    assert says in message


def test_several_problems_of_a_section_are_said_at_once(tmp_path: Path) -> None:
    path = _write(tmp_path, SMALL | {"fetch": {"timeout_s": -1, "max_mb": 0, "retries": -2}})
    lines = _refused(path).splitlines()
    assert [line.partition(" found")[0] for line in lines] == [
        f"{path}: fetch.{name}:" for name in ("timeout_s", "max_mb", "retries")
    ]


@pytest.mark.parametrize(
    ("override", "part", "wanted"),
    [
        ("select.0.thresholds.clip_similarity.min=0.3", "select", {"thresholds": {"clip_similarity": {"min": 0.3}}}),
        (
            "select.thresholds.clip_similarity.max=1",
            "select",
            {"thresholds": {"clip_similarity": {"min": 0.28, "max": 1}}},
        ),
        (
            "select.thresholds.width_px={min: 9}",
            "select",
            {"thresholds": {"clip_similarity": {"min": 0.28}, "width_px": {"min": 9}}},
        ),
        ("select.dedup.by=url", "select", {"dedup": {"by": "url"}}),
        ("select.1.dedup.by=url", "select", {"dedup": {"by": "url"}}),
        ("select.1={subset: {count: 9}}", "select", {"subset": {"count": 9}}),
        ("stages.hash_image.bits=64", "stages", {"hash_image": {"bits": 64}}),
        ("stages.1.hash_image.bits=64", "stages", {"hash_image": {"bits": 64}}),
        ("stages.decode_image={side_px: 64}", "stages", {"decode_image": {"side_px": 64}}),
        ("stages.hash_image={bits: 64}", "stages", {"hash_image": {"bits": 64}}),
        ("score.image_text.model=local-dir:a.b=c", "score", {"image_text": {"model": "local-dir:a.b=c"}}),
    ],
)
def test_an_override_enters_a_list_by_index_and_by_name(
    small: Path, override: str, part: str, wanted: dict[str, Any]
) -> None:
    before = _entries(load(small), part)
    after = _entries(load(small, [override]), part)
    assert wanted in after
    assert len(after) == len(before)
    assert sum(one != two for one, two in zip(before, after, strict=True)) == 1, "an override changes one entry"


def test_an_override_sets_plain_options_and_makes_sections_that_are_not_there(small: Path) -> None:
    pipeline = load(
        small, ["seed=4", "fetch.timeout_s=5", "fetch.connect_to={a.example: '127.0.0.1:80'}", "emit.val_share=0"]
    )
    assert (pipeline.seed, pipeline.fetch.timeout_s, pipeline.emit.val_share) == (4, 5.0, 0.0)
    assert pipeline.fetch.connect_to == {"a.example": "127.0.0.1:80"}


def test_an_override_reaches_a_source_by_name(small: Path) -> None:
    assert load(small, ["sources.pictures.limit=7"]).sources["pictures"].options == {"path": "rows.parquet", "limit": 7}


def test_the_last_override_wins(small: Path) -> None:
    assert load(small, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("seed", "found no '=', an override is written a.b=value"),
        ("=3", "found no '='"),
        ("seed=[1", "'[1' is not a YAML value"),
        ("select.5.dedup.by=url", "5: found 2 entries: thresholds, dedup"),
        ("select.dedupe.by=url", "found 2 entries: thresholds, dedup (did you mean dedup?)"),
        ("seed.a=3", "seed has no options"),
        ("seed.a.b=3", "there is nothing below a plain value"),
        ("fech.timeout_s=3", "fech: no such section (did you mean fetch?)"),
        ("fetch.timeout=3", "fetch.timeout: no such option (did you mean timeout_s?)"),
        ("fetch.timeout_s=fast", "fetch.timeout_s: found 'fast'"),
    ],
)
def test_a_wrong_override_says_what_there_is(small: Path, override: str, says: str) -> None:
    assert says in _refused(small, override)


STEPS = st.sampled_from(
    ["select", "stages", "sources", "pictures", "fetch", "seed", "thresholds", "0", "1", "-1", "name", ""]
)
VALUES = st.one_of(
    st.text(max_size=9), st.sampled_from(["", "~", "{}", "[]", "{a: 1}", "3", "dedup", ".nan", "2020-01-01"])
)


@given(st.builds(lambda steps, value: f"{'.'.join(steps)}={value}", st.lists(STEPS, max_size=4), VALUES))
def test_an_override_of_any_text_is_taken_or_refused_in_our_words(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = _write(tmp_path_factory.getbasetemp(), SMALL)
    try:
        load(path, [text])
    except ConfigError:
        pass


def test_the_file_itself_is_never_changed(small: Path) -> None:
    before = small.read_bytes()
    load(small, ["seed=3", "select.dedup.by=url"])
    assert small.read_bytes() == before


@pytest.mark.parametrize("cls", SECTION_CLASSES, ids=lambda cls: cls.__name__)
def test_every_option_of_a_section_has_a_role(cls: type) -> None:
    assert [field.name for field in dataclasses.fields(cls) if field.metadata.get("role") not in ROLES] == []


def test_no_option_of_carrying_out_the_work_is_semantic() -> None:
    assert "semantic" not in {field.metadata["role"] for field in dataclasses.fields(RunOptions)}


@pytest.mark.parametrize("name", CATALOGUED)
def test_every_option_of_a_catalogued_class_has_a_role(name: str) -> None:
    cls = catalog.load_class(CATALOGUED[name])
    unclassified = [f.name for f in dataclasses.fields(cls) if f.init and f.metadata.get("role") not in ROLES]
    assert unclassified == []
    assert isinstance(cls.version, int), "no version for the config hash"
    assert (cls.kind if name.startswith("sources.") else cls.name) == name.partition(".")[2]
