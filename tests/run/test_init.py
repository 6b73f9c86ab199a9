"""`mmdata init`: what lies there is known for what it is, and the file that comes of it passes every check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mmdata.errors import SourceError
from mmdata.run.init import pipeline_for
from mmdata.run.pipeline import describe
from tests.builders import jpeg
from tests.sources.tables import write_tar


def made(path: Path) -> dict[str, Any]:
    """The tree of the file that init writes for a path, after `mmdata check` has passed it."""
    text = pipeline_for(str(path))
    place = path.parent / "made.yaml"
    place.write_text(text)
    assert "nothing was done" in describe(str(place), [])
    tree: dict[str, Any] = yaml.safe_load(text)
    return tree


def source(tree: dict[str, Any]) -> dict[str, Any]:
    ((_, options),) = tree["sources"].items()
    return {name: value for name, value in options.items() if name != "path"}


def stages(tree: dict[str, Any]) -> list[str]:
    return [name for entry in tree["stages"] for name in entry]


@pytest.mark.parametrize(
    ("header", "row", "expected", "first_stage"),
    [
        ("url,caption", "http://x.example/1.jpg,a", {}, "decode_image"),
        ("url,caption", "http://x.example/1,a", {}, "decode_image"),
        ("contentUrl,name", "http://x.example/1.mp4?x=1,a", {"modality": "video_text"}, "probe_video"),
        ("url,text", "http://x.example/1.FLAC,a", {"modality": "audio_text"}, "decode_audio"),
    ],
)
def test_a_table_of_links_is_of_the_modality_its_links_end_in(
    header: str, row: str, expected: dict[str, str], first_stage: str, tmp_path: Path
) -> None:
    (tmp_path / "links.csv").write_text(f"{header}\n{row}\n")
    tree = made(tmp_path / "links.csv")
    assert source(tree) == {"kind": "url_table"} | expected
    assert stages(tree)[0] == first_stage


def test_a_table_of_names_is_a_media_table(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"x")
    (tmp_path / "list.tsv").write_text("file\ttranscript\na.wav\tone\n")
    assert source(made(tmp_path / "list.tsv")) == {"kind": "media_table", "modality": "audio_text"}


def test_folders_are_known_by_what_most_of_them_is(tmp_path: Path) -> None:
    for name, data in {
        "pics/a.jpg": jpeg(1),
        "films/a.mp4": b"x",
        "films/b.mp4": b"x",
        "films/a.txt": b"words",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert source(made(tmp_path / "pics")) == {"kind": "image_folder"}
    tree = made(tmp_path / "films")
    assert source(tree) == {"kind": "media_folder", "modality": "video_text"}
    assert "cut_clips" not in stages(tree)
    (tmp_path / "films/b.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nhi\n")
    assert "cut_clips" in stages(made(tmp_path / "films"))


def test_aishell_tars_embedded_media_and_documents_are_known(tmp_path: Path) -> None:
    (tmp_path / "data_aishell/wav/train/S1").mkdir(parents=True)
    (tmp_path / "data_aishell/wav/train/S1/A1.wav").write_bytes(b"x")
    (tmp_path / "data_aishell/transcript").mkdir()
    (tmp_path / "data_aishell/transcript/t.txt").write_text("A1 你 好\n")
    write_tar(tmp_path / "0.tar", [("1.flac", b"x"), ("1.txt", b"words")])
    pq.write_table(pa.table({"audio": [b"x"], "text": ["a"]}), tmp_path / "a.parquet")
    docs = {"text_list": ["a"], "image_info": [{"raw_url": "http://x.example/1.jpg", "matched_text_index": 0}]}
    (tmp_path / "docs.jsonl").write_text(json.dumps(docs) + "\n")
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]
    (tmp_path / "mix.json").write_text(json.dumps([{"id": 1, "conversations": turns}]))
    found = {path: made(tmp_path / path) for path in ("data_aishell", "0.tar", "a.parquet", "docs.jsonl", "mix.json")}
    assert {path: source(tree) for path, tree in found.items()} == {
        "data_aishell": {"kind": "aishell"},
        "0.tar": {"kind": "webdataset", "modality": "audio_text"},
        "a.parquet": {"kind": "parquet_bytes", "modality": "audio_text"},
        "docs.jsonl": {"kind": "interleaved"},
        "mix.json": {"kind": "instruct"},
    }
    assert [stages(found[path])[0] for path in ("data_aishell", "docs.jsonl")] == ["decode_audio", "decode_document"]


def test_what_nothing_can_read_is_said_as_of_a_table_of_links(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("words,more\nx,y\n")
    with pytest.raises(SourceError, match="no column looks like the url"):
        pipeline_for(str(tmp_path / "a.csv"))
    with pytest.raises(SourceError, match="no such file or folder"):
        pipeline_for(str(tmp_path / "none.csv"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no"):
        pipeline_for(str(tmp_path / "empty"))
