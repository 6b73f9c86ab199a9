"""What a path stands for, and what changes a fingerprint."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mmdata.errors import SourceError
from mmdata.sources import inputs as files
from mmdata.sources.url_table import UrlTable


def names(path: str, **options: str) -> list[str]:
    return [input.path.rpartition("/")[2] for input in UrlTable(path=path, **options).inputs()]  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    parts = [f"sub/part-0{number}.csv" for number in range(3)]
    for name in ("b.csv", "a.csv.gz", *parts, "_log.csv", ".x/y.csv", "n.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"url\nhttp://a/1\n")
    return tmp_path


def test_a_folder_stands_for_its_tables_sorted_without_hidden_ones(folder: Path) -> None:
    assert names(str(folder)) == ["a.csv.gz", "b.csv", "part-00.csv", "part-01.csv", "part-02.csv"]
    assert names(f"file://{folder}/sub") == ["part-00.csv", "part-01.csv", "part-02.csv"]


def test_a_glob_and_braces_stand_for_the_files_they_match(folder: Path) -> None:
    assert names(f"{folder}/sub/part-0[12].*") == ["part-01.csv", "part-02.csv"]
    assert names(f"{folder}/**/part-00.csv") == ["part-00.csv"]
    assert names(f"{folder}/sub/part-{{00..01}}.csv") == ["part-00.csv", "part-01.csv"]
    assert names(f"{folder}/{{b.csv,sub}}") == ["b.csv", "part-00.csv", "part-01.csv", "part-02.csv"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1]{x}.csv").write_bytes(b"url\n")
    assert names(f"{tmp_path}/a[1]{{x}}.csv") == ["a[1]{x}.csv"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.csv", "no such file or folder"),
        ("*.parquet", "no file matches"),
        ("sub/part-{00..09}.csv", "part-03.csv: no such file or folder"),
        ("docs", r"holds no \*.parquet, \*.pq, \*.csv"),
        ("s9://bucket/t.csv", "cannot be read: Protocol not known: s9"),
    ],
)
def test_a_path_that_stands_for_nothing_is_one_clear_line(path: str, message: str, folder: Path) -> None:
    (folder / "docs").mkdir()
    with pytest.raises(SourceError, match=message):
        names(path if "://" in path else f"{folder}/{path}")


def test_a_folder_of_two_formats_must_be_told_which(folder: Path) -> None:
    (folder / "urls.txt").write_bytes(b"http://a/1\n")
    with pytest.raises(SourceError, match="holds csv and txt files: say which with format:"):
        names(str(folder))
    assert names(str(folder), format="txt") == ["urls.txt"]


def test_a_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    path = tmp_path / "old" / "t.csv"
    path.write_bytes(b"url\nhttp://a/1\n")
    first = UrlTable(path=str(path)).inputs()[0].fingerprint
    os.utime(path, (1, 1))
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    assert UrlTable(path=str(tmp_path / "new")).inputs()[0].fingerprint == first
    path.write_bytes(b"url\nhttp://a/2\n")
    assert UrlTable(path=str(path)).inputs()[0].fingerprint != first


def test_a_large_file_is_told_by_its_ends_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "WHOLE_BYTES", 100)
    monkeypatch.setattr(files, "_END_BYTES", 50)
    path = tmp_path / "t.csv"

    def told(data: bytes, time_s: int) -> str:
        path.write_bytes(data)
        os.utime(path, (time_s, time_s))
        return UrlTable(path=str(path)).inputs()[0].fingerprint

    first = told(b"a" * 300, 1000)
    assert told(b"a" * 300, 1000) == first
    assert len({first, told(b"b" + b"a" * 299, 1000), told(b"a" * 299 + b"b", 1000), told(b"a" * 300, 1001)}) == 4


def test_braces_expand_with_their_width() -> None:
    assert list(files.expand_braces("x{08..11}-{a,b}.tar")) == [
        f"x{number}-{letter}.tar" for number in ("08", "09", "10", "11") for letter in "ab"
    ]
    assert list(files.expand_braces("x{8..10}")) == ["x8", "x9", "x10"]
