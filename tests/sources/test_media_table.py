"""Tables that name files: found below the root only, and the formats that published lists have."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.errors import SourceError
from mmdata.sources.local_files import place_of
from mmdata.sources.media import MediaPlace, MediaReader
from mmdata.sources.media_table import MediaTable

from .tables import FORMATS, rows_of, write_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set" / "wav").mkdir(parents=True)
    for name in ("a.wav", "wav/b.wav", "wav/17.flac"):
        (tmp_path / "set" / name).write_text(name.upper())
    (tmp_path / "secret.wav").write_text("secret")
    return tmp_path / "set"


def rows(path: Path, **options: Any) -> list[dict[str, Any]]:
    return rows_of(MediaTable(path=str(path), modality="audio_text", **options))


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "txt"])
def test_names_lead_to_files_beside_the_table_in_every_format(format: str, folder: Path) -> None:
    table = [{"file": "a.wav", "transcript": "one", "n": "1"}, {"file": "wav/b.wav", "transcript": "two", "n": "2"}]
    first, second = rows(write_table(folder / f"t.{format}", table))
    assert first == {
        "row": 0,
        "media_path": str(folder / "a.wav"),
        "media_offset": 0,
        "media_size": 5,
        "caption": "one",
        "file": "a.wav",
        "n": "1",
    }
    with MediaReader() as reader:
        place = MediaPlace(second["media_path"], second["media_offset"], second["media_size"])
        assert reader.read(place) == b"WAV/B.WAV"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("../secret.wav", "'../secret.wav' leads out of the folder that it is relative to"),
        ("wav/../../secret.wav", "'wav/../../secret.wav' leads out of the folder that it is relative to"),
        ("/etc/passwd", "'/etc/passwd' leads out of the folder that it is relative to"),
        ("file:///etc/passwd", "'file:///etc/passwd' is not the name of a file"),
        ("http://x.example/a.wav", "'http://x.example/a.wav' is not the name of a file"),
        ("gone.wav", "'gone.wav' is not there"),
        ("wav", "'wav' is not there"),
        ("x" * 300, f"'{'x' * 100}' cannot be looked at: File name too long"),
        (" ", "names no file"),
        (None, "names no file"),
    ],
)
def test_a_name_that_leads_nowhere_or_out_is_an_error_of_its_row(name: Any, error: str, folder: Path) -> None:
    (folder / "t.jsonl").write_text(json.dumps({"file": "a.wav"}) + "\n" + json.dumps({"file": name}) + "\n")
    good, bad = rows(folder / "t.jsonl")
    assert "row_error" not in good
    assert bad["row_error"] == error
    assert "media_path" not in bad


@given(steps=st.lists(st.sampled_from(["..", ".", "wav", "a", "", "b.wav", "...", "..a"]), max_size=6))
def test_no_name_leads_out_of_the_root(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    root = tmp_path_factory.getbasetemp() / "root" / "wav"
    root.mkdir(parents=True, exist_ok=True)
    (root / "b.wav").write_text("x")
    (root.parents[1] / "b.wav").write_text("secret")
    found = place_of(str(root.parent), "/".join(steps))
    if not isinstance(found, str):
        assert os.path.commonpath([os.path.realpath(found[0]), str(root.parent)]) == str(root.parent)


def test_a_link_that_the_owner_put_below_the_root_is_followed(folder: Path) -> None:
    (folder / "linked.wav").symlink_to(folder.parent / "secret.wav")
    (folder / "t.csv").write_text("file\nlinked.wav\n")
    assert rows(folder / "t.csv")[0]["media_size"] == len("secret")


def test_wavecaps_json_reads_as_it_is_published(folder: Path) -> None:
    """Its FreeSound part: ids are numbers, and the sounds lie unpacked in a folder of their own."""
    data = [
        {
            "id": 17,
            "file_name": "Rain.wav",
            "href": "/people/x/sounds/17/",
            "tags": ["rain", "storm"],
            "duration": 9.5,
            "author": "x",
            "description": "",
            "caption": "Rain falls on a roof.",
            "download_link": "https://freesound.example/17.wav",
        },
        {"id": 18, "caption": "Wind blows.", "duration": 3.0},
    ]
    (folder / "fsd_final.json").write_text(json.dumps({"num_captions_per_audio": 1, "data": data}))
    options: dict[str, Any] = {"rows_key": "data", "suffix": ".flac", "columns": {"path": "id"}}
    first, second = rows(folder / "fsd_final.json", root=str(folder / "wav"), **options)
    assert (first["media_path"], first["caption"]) == (str(folder / "wav" / "17.flac"), "Rain falls on a roof.")
    assert (first["id"], first["tags"], first["duration"]) == (17, '["rain", "storm"]', 9.5)
    assert second["row_error"] == "'18.flac' is not there"


def test_a_table_without_names_of_files_is_refused(folder: Path) -> None:
    (folder / "t.csv").write_text("words\nx\n")
    with pytest.raises(SourceError, match=r"no column looks like the path: say columns: \{path: NAME\}; found: words"):
        rows(folder / "t.csv")
