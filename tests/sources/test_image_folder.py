"""A folder of pictures: sorted rows, captions from beside or from metadata, one fingerprint."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import SourceError
from mmdata.sources.image_folder import ImageFolder
from mmdata.sources.media import MediaPlace, MediaReader

from .tables import rows_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pics" / "sub").mkdir(parents=True)
    files = {"b.jpg": "B", "a.PNG": "A", "sub/c.webp": "C", "b.txt": " a caption\n", "notes.md": ""}
    for name, text in files.items():
        (tmp_path / "pics" / name).write_text(text)
    return tmp_path / "pics"


def rows(folder: Path, **options: Any) -> list[dict[str, Any]]:
    return rows_of(ImageFolder(path=str(folder), **options))


def test_pictures_are_rows_in_the_order_of_names_with_captions_from_beside(folder: Path) -> None:
    found = rows(folder)
    assert [(row["file_name"], row.get("caption")) for row in found] == [
        ("a.PNG", None),
        ("b.jpg", "a caption"),
        ("sub/c.webp", None),
    ]
    with MediaReader() as reader:
        places = [MediaPlace(row["media_path"], row["media_offset"], row["media_size"]) for row in found]
        assert [reader.read(place) for place in places] == [b"A", b"B", b"C"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.jsonl", '{"file_name": "sub/c.webp", "text": "sea", "n": "5"}\n{"file_name": "gone.jpg"}\n'),
        ("metadata.csv", "file_name,text,n\nsub/c.webp,sea,5\ngone.jpg,x,\n"),
    ],
)
def test_metadata_is_joined_by_file_name_and_none_of_its_rows_is_lost(name: str, text: str, folder: Path) -> None:
    (folder / name).write_text(text)
    found = rows(folder)
    assert [(row["file_name"], row.get("caption"), row.get("n")) for row in found[:3]] == [
        ("a.PNG", None, None),
        ("b.jpg", None, None),
        ("sub/c.webp", "sea", "5"),
    ]
    assert found[3]["row_error"] == f"{name} names 'gone.jpg', which is not there"
    assert "media_path" not in found[3]


def test_a_bad_metadata_row_is_a_row_with_an_error(folder: Path) -> None:
    (folder / "metadata.jsonl").write_text('{"file_name": "b.jpg", "text": "x"}\n{bad\n')
    found = rows(folder)
    assert found[1]["caption"] == "x"
    assert found[3]["row_error"].startswith("line 2: is not JSON: ")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"metadata.csv": "name,text\nb.jpg,x\n"}, "metadata.csv: no column 'file_name'; found: name, text"),
        ({"metadata.csv": "file_name\nb.jpg\nb.jpg\n"}, "'b.jpg' is there twice, in rows 0 and 1"),
        ({"sub/metadata.csv": "file_name\n"}, "make its folder a source of its own"),
        ({"metadata.csv": "", "metadata.jsonl": ""}, "holds metadata.csv and metadata.jsonl; allowed is one of them"),
    ],
)
def test_metadata_that_cannot_be_joined_is_refused(files: dict[str, str], message: str, folder: Path) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(SourceError, match=message):
        rows(folder)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no \*.jpg, \*.jpeg, \*.png, \*.webp, \*.gif"):
        rows(tmp_path)
    with pytest.raises(SourceError, match="no such folder"):
        rows(tmp_path / "none")


def test_the_fingerprint_follows_names_and_content_and_not_the_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(path: Path = folder) -> str:
        (input,) = ImageFolder(path=str(path)).inputs()
        return input.fingerprint

    first = told()
    shutil.copytree(folder, folder.parent / "copy")
    os.utime(folder / "b.jpg", (1, 1))
    assert told() == told(folder.parent / "copy") == first
    seen = {first}
    for name, text in (("b.txt", " a CAPTION\n"), ("b.jpg", "X"), ("new.jpg", "N")):
        (folder / name).write_text(text)
        seen.add(told())
    assert len(seen) == 4
    monkeypatch.setattr("mmdata.sources.inputs.WHOLE_BYTES", 1)
    large = told()
    (folder / "b.txt").write_text(" A CAPTION\n")
    assert told() != large


def test_a_name_that_is_no_text_is_a_row_with_an_error(folder: Path) -> None:
    try:
        (folder / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    bad = [row for row in rows(folder) if "row_error" in row]
    assert [row["row_error"] for row in bad] == ["its file name '\\udcff.jpg' is not UTF-8"]
