"""Folders of films and sounds: captions, subtitles and metadata beside them, one row a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import SourceError
from mmdata.sources import media_folder
from mmdata.sources.media import MediaPlace, MediaReader
from mmdata.sources.media_folder import MediaFolder

from .tables import rows_of

SRT = "1\n00:00:00,000 --> 00:00:02,000\nhallo\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clips" / "b").mkdir(parents=True)
    files = {"a.mp4": "A", "a.txt": " a film \n", "a.srt": SRT, "b/c.MKV": "C", "b/c.vtt": "WEBVTT\n", "d.wav": "D"}
    for name, text in files.items():
        (tmp_path / "clips" / name).write_text(text)
    return tmp_path / "clips"


def rows(folder: Path, modality: Any = "video_text", **options: Any) -> list[dict[str, Any]]:
    return rows_of(MediaFolder(path=str(folder), modality=modality, **options))


def test_the_modality_says_which_files_are_rows_and_what_lies_beside_is_theirs(folder: Path) -> None:
    first, second = rows(folder)
    assert (first["file_name"], first["caption"], first["subtitles"]) == ("a.mp4", "a film", SRT)
    assert (second["file_name"], second.get("caption"), second["subtitles"]) == ("b/c.MKV", None, "WEBVTT\n")
    (sound,) = rows(folder, "audio_text")
    assert sound["file_name"] == "d.wav"
    assert "subtitles" not in sound
    with MediaReader() as reader:
        assert reader.read(MediaPlace(sound["media_path"], sound["media_offset"], sound["media_size"])) == b"D"


def test_subtitles_of_the_metadata_go_before_those_beside(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,caption,subtitles\na.mp4,from the table,own\ngone.mp4,x,y\n")
    found = rows(folder)
    assert [(row["file_name"], row.get("caption"), row.get("subtitles")) for row in found[:2]] == [
        ("a.mp4", "from the table", "own"),
        ("b/c.MKV", None, None),
    ]
    assert found[2]["row_error"] == "metadata.csv names 'gone.mp4', which is not there"


def test_a_text_that_cannot_be_read_is_an_error_of_its_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.srt").write_bytes(b"\xff\xfe1")
    monkeypatch.setattr(media_folder, "TEXT_BYTES", 6)
    errors = [row["row_error"] for row in rows(folder)]
    assert errors == ["the .srt beside it is not UTF-8", "the .vtt beside it has 7 bytes, allowed are 6"]


def test_texts_are_read_in_bounded_windows_with_the_same_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rows(folder)
    monkeypatch.setattr(media_folder, "BATCH_BYTES", 1)
    source = MediaFolder(path=str(folder), modality="video_text")
    assert [batch.num_rows for batch in source.batches(source.inputs()[0])] == [1, 1]
    assert rows(folder) == whole


def test_the_fingerprint_follows_subtitles(folder: Path) -> None:
    def told() -> str:
        return MediaFolder(path=str(folder), modality="video_text").inputs()[0].fingerprint

    first = told()
    (folder / "a.srt").write_text(SRT.replace("hallo", "HALLO"))
    assert told() != first


def test_a_folder_without_such_media_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("x")
    with pytest.raises(SourceError, match=r"holds no \*.flac, \*.wav"):
        rows(tmp_path, "audio_text")
