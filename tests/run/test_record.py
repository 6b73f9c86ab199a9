"""Hashes say what changes bytes, and a run refuses a config that would mix two."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from mmdata.config import EmitOptions, FetchOptions, PlanOptions, RunOptions, load
from mmdata.errors import ChangedError, ConfigError
from mmdata.options import semantic
from mmdata.run import catalog
from mmdata.run.hashes import differences, hash_of, semantic_tree
from mmdata.run.record import Record
from mmdata.shards import storage
from mmdata.shards.commits import Commit, CommitLog
from mmdata.shards.folders import RunFolder

SECTIONS = {"plan": PlanOptions, "fetch": FetchOptions, "emit": EmitOptions, "run": RunOptions}
TREE: dict[str, Any] = {
    "name": "small",
    "seed": 17,
    "sources": {"pictures": {"kind": "url_table", "path": "rows.parquet"}},
    "stages": [{"decode_image": {"side_px": 256}}],
    "select": [{"dedup": {"by": "sha256"}}, {"subset": {"share": 0.5}}],
}
# A value that is allowed and differs from the default, where turning or adding one would not do.
OTHER: dict[str, Any] = {
    "fetch.engine": "img2dataset",
    "fetch.ports": [80],
    "fetch.allow_networks": ["10.0.0.0/8"],
    "fetch.connect_to": {"a.example": "127.0.0.1:80"},
    "fetch.name_servers": ["10.0.0.1"],
    "fetch.hash_blocklist": "blocked.txt",
    "emit.formats": ["parquet"],
    "emit.normalise": "half",
    "emit.augment": {"image": {"flip": 0.5}},
    "run.workers": 3,
    "run.score_workers": 3,
}
PARTS_OF = {"plan": {"ingest"}, "fetch": {"ingest"}, "emit": {"emit"}, "run": set[str]()}


@dataclasses.dataclass
class Marks:
    """A scorer that needs no weights."""

    name: ClassVar[str] = "marks"
    version: ClassVar[int] = 1

    factor: int = semantic(1)

    def weights_sha256(self) -> str:
        return f"weights {self.factor}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "blocked.txt").write_text("00" * 32)
    return tmp_path


def _other(section: str, field: dataclasses.Field[Any], value: Any) -> Any:
    if f"{section}.{field.name}" in OTHER:
        return OTHER[f"{section}.{field.name}"]
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return value / 2
    return value + 1 if isinstance(value, int) else f"{value}x"


def _record(folder: Path, tree: dict[str, Any], scorers: dict[str, Any] | None = None) -> Record:
    path = folder / "p.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    pipeline = load(path)
    resolved = catalog.resolve(pipeline)
    if scorers is not None:
        resolved = dataclasses.replace(resolved, scorers=scorers)
    return Record(RunFolder(str(folder / "run")), pipeline, resolved)


def _hashes(record: Record) -> dict[str, str]:
    return {part: hash_of(tree) for part, tree in record.tree.items()}


def _changed(tree: dict[str, Any], *place: Any, to: Any) -> dict[str, Any]:
    tree = copy.deepcopy(tree)
    node = tree
    for step in place[:-1]:
        node = node.setdefault(step, {}) if isinstance(node, dict) else node[step]
    node[place[-1]] = to
    return tree


EVERY_OPTION = [
    pytest.param(section, field, id=f"{section}.{field.name}")
    for section, cls in SECTIONS.items()
    for field in dataclasses.fields(cls)
]


@pytest.mark.parametrize(("section", "field"), EVERY_OPTION)
def test_a_semantic_option_changes_exactly_its_hash_and_any_other_none(
    folder: Path, section: str, field: dataclasses.Field[Any]
) -> None:
    default = getattr(SECTIONS[section](), field.name)
    other = _other(section, field, default)
    assert other != default
    before = _hashes(_record(folder, TREE))
    after = _hashes(_record(folder, _changed(TREE, section, field.name, to=other)))
    wanted = PARTS_OF[section] if field.metadata["role"] == "semantic" else set()
    if (section, field.name) == ("emit", "val_share"):
        wanted = {"select", "emit"}  # selection sets the split of every row
    assert {part for part in before if before[part] != after[part]} == wanted


@pytest.mark.parametrize(
    ("place", "to", "parts"),
    [
        (("seed",), 18, {"ingest", "select", "emit"}),
        (("name",), "other", set()),
        (("sources", "pictures", "limit"), 5, {"ingest"}),
        (("sources", "pictures", "path"), "elsewhere.parquet", set()),
        (("sources", "more"), {"kind": "url_table", "path": "x"}, {"ingest"}),
        (("stages", 0, "decode_image", "side_px"), 128, {"ingest"}),
        (("stages", 0, "decode_image", "batch_size"), 4, set()),
        (("stages",), [{"decode_image": {"side_px": 256}}, "hash_image"], {"ingest"}),
        (("select", 0, "dedup", "by"), "url", {"select"}),
        (("select", 1, "subset", "share"), 0.25, {"select"}),
        (("select",), [{"subset": {"share": 0.5}}, {"dedup": {"by": "sha256"}}], {"select"}),
    ],
)
def test_a_change_outside_the_sections_changes_exactly_its_hashes(
    folder: Path, place: tuple[Any, ...], to: Any, parts: set[str]
) -> None:
    before = _hashes(_record(folder, TREE))
    after = _hashes(_record(folder, _changed(TREE, *place, to=to)))
    assert {part for part in before if before[part] != after[part]} == parts


def test_a_default_that_is_written_down_changes_no_hash(folder: Path) -> None:
    spelled = TREE | {"fetch": {"max_mb": 50}, "plan": {"shuffle": True}, "emit": {"val_share": 0.01}}
    assert _hashes(_record(folder, TREE)) == _hashes(_record(folder, spelled))


def test_a_blocklist_counts_by_its_content_not_its_place(folder: Path) -> None:
    tree = TREE | {"fetch": {"hash_blocklist": "blocked.txt"}}
    before = _record(folder, tree).ingest_hash
    (folder / "moved.txt").write_bytes((folder / "blocked.txt").read_bytes())
    assert _record(folder, TREE | {"fetch": {"hash_blocklist": "moved.txt"}}).ingest_hash == before
    (folder / "blocked.txt").write_text("11" * 32)
    assert _record(folder, tree).ingest_hash != before
    with pytest.raises(ConfigError, match=r"fetch\.hash_blocklist: .*none\.txt: cannot be read"):
        _record(folder, TREE | {"fetch": {"hash_blocklist": "none.txt"}})


def test_a_raised_version_of_a_stage_changes_the_ingest_hash(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _hashes(_record(folder, TREE))
    cls = catalog.load_class(catalog.STAGES["decode_image"])
    monkeypatch.setattr(cls, "version", cls.version + 1)
    after = _hashes(_record(folder, TREE))
    assert {part for part in before if before[part] != after[part]} == {"ingest"}


def test_hashes_do_not_depend_on_the_order_of_keys() -> None:
    assert hash_of({"a": 1, "b": [1, 2]}) == hash_of({"b": [1, 2], "a": 1})
    assert hash_of({"a": [1, 2]}) != hash_of({"a": [2, 1]})


def test_differences_name_each_field_with_old_and_new() -> None:
    old = {"fetch": {"max_mb": 50.0, "ports": [80]}, "stages": [{"side_px": 1}], "gone": 1}
    new = {"fetch": {"max_mb": 20.0, "ports": [80, 443]}, "stages": [{"side_px": 2}], "fresh": "x"}
    assert list(differences(old, new)) == [
        "fetch.max_mb: 50.0 -> 20.0",
        "fetch.ports: [80] -> [80, 443]",
        'fresh: nothing -> "x"',
        "gone: 1 -> nothing",
        "stages[0].side_px: 1 -> 2",
    ]
    assert list(differences(old, old)) == []


def test_an_unchanged_pipeline_may_go_on_and_its_record_is_not_written_again(folder: Path) -> None:
    for scorers in (None, {"marks": Marks()}):
        record = _record(folder, TREE, scorers)
        record.check()
        record.write()
        path = Path(record._run.config)
        before = path.stat()
        for _ in range(2):
            again = _record(folder, TREE, scorers)
            again.check()
            again.write()
        assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_the_record_is_a_pipeline_file_with_hashes_and_versions(folder: Path) -> None:
    record = _record(folder, TREE)
    record.write()
    written = yaml.safe_load(storage.read_bytes(record._run.config))
    assert written["hashes"] == {"ingest": record.ingest_hash, "select": record.select_hash, "emit": record.emit_hash}
    assert written["pipeline"]["plan"]["rows_per_shard"] == 10_000
    assert written["outcome"]["fetch"]["timeout_s"] == 20.0
    assert written["versions"]["pyarrow"][0].isdigit()
    (folder / "again.yaml").write_text(yaml.safe_dump(written["pipeline"]))
    assert load(folder / "again.yaml").fetch == FetchOptions()


@pytest.mark.parametrize(
    ("place", "to", "says"),
    [
        (("fetch", "max_mb"), 20, "fetch.max_mb: 50.0 -> 20.0"),
        (("seed",), 18, "seed: 17 -> 18"),
        (("plan", "rows_per_shard"), 7, "plan.rows_per_shard: 10000 -> 7"),
        (("stages", 0, "decode_image", "side_px"), 128, "stages[0].side_px: 256 -> 128"),
        (("sources", "pictures", "limit"), 5, "sources.pictures.limit: nothing -> 5"),
    ],
)
def test_a_changed_ingest_is_refused_with_every_field_old_and_new(
    folder: Path, place: tuple[Any, ...], to: Any, says: str
) -> None:
    _record(folder, TREE).write()
    changed = _changed(_changed(TREE, *place, to=to), "fetch", "opt_out", to=False)
    with pytest.raises(ChangedError) as caught:
        _record(folder, changed).check()
    message = str(caught.value)
    assert message.startswith(f"{folder / 'run'}: this run was made with another config; what changed:\n")
    assert f"  {says}\n" in message
    assert "  fetch.opt_out: true -> false\n" in message
    assert message.count("->") == 2
    assert message.endswith("or choose another RUN (and DATASET).")


@pytest.mark.parametrize(
    "place", [("fetch", "timeout_s"), ("fetch", "retries"), ("run", "workers"), ("emit", "samples_per_shard")]
)
def test_a_change_that_alters_no_ingested_byte_is_allowed(folder: Path, place: tuple[str, str]) -> None:
    _record(folder, TREE).write()
    _record(folder, _changed(TREE, *place, to=3)).check()


def test_a_new_scorer_is_allowed_and_an_old_one_stays_on_record(folder: Path) -> None:
    _record(folder, TREE).write()
    record = _record(folder, TREE, {"marks": Marks()})
    record.check()
    record.write()
    other = _record(folder, TREE, {"others": Marks(3)})
    other.check()
    other.write()
    written = yaml.safe_load(storage.read_bytes(record._run.config))["semantic"]["score"]
    assert {name: tree["weights"] for name, tree in written.items()} == {"marks": "weights 1", "others": "weights 3"}


def test_a_changed_scorer_is_refused_once_it_has_run(folder: Path) -> None:
    record = _record(folder, TREE, {"marks": Marks()})
    record.write()
    changed = _record(folder, TREE, {"marks": Marks(2)})
    changed.check()
    CommitLog(record._run, "score.marks").decide(Commit("score.marks", 0, 0, "a", "c", "f", "run", (), {}))
    with pytest.raises(ChangedError) as caught:
        changed.check()
    assert 'score.marks.factor: 1 -> 2\n  score.marks.weights: "weights 1" -> "weights 2"\n' in str(caught.value)
    _record(folder, TREE, {"marks": Marks()}).check()


@pytest.mark.parametrize("text", ["a: [", "- 1", "name: x", ""])
def test_a_folder_with_another_config_is_no_run(folder: Path, text: str) -> None:
    record = _record(folder, TREE)
    storage.write_whole(record._run.config, text.encode())
    with pytest.raises(ConfigError, match=r"run/config\.yaml: is "):
        record.check()


def test_the_semantic_tree_survives_yaml(folder: Path) -> None:
    """The next start compares with what was read back, so types must not differ."""
    record = _record(folder, TREE)
    assert yaml.safe_load(yaml.safe_dump(record.tree)) == record.tree
    assert record.tree == semantic_tree(record._pipeline, record._resolved)
