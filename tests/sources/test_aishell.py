"""AISHELL: both layouts, unpacked and in archives; no sound and no transcript is lost."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import SourceError
from mmdata.sources.aishell import Aishell
from mmdata.sources.media import MediaPlace, MediaReader

from .tables import rows_of

TEXTS = {"BAC1": "一 下 子", "BAC2": "打开 wi fi 和 灯", "BAC4": "没 有 声音"}
REAL = Path(__file__).parents[3] / "shared" / "data" / "data_aishell"


def rows(folder: Path, **options: Any) -> list[dict[str, Any]]:
    return rows_of(Aishell(path=str(folder), **options))


def first_layout(folder: Path, *, archived: bool) -> Path:
    """BAC1 and BAC2 with transcripts, BAC3 without; BAC4 has a transcript alone."""
    sounds = {"train/S0002/BAC1.wav": b"one", "train/S0002/BAC2.wav": b"two!", "dev/S0003/BAC3.wav": b"three"}
    (folder / "transcript").mkdir(parents=True)
    (folder / "transcript" / "aishell_transcript_v0.8.txt").write_text(
        "".join(f"{name} {text}\n" for name, text in TEXTS.items()) + "\n"
    )
    for speaker in ("S0002", "S0003"):
        mine = {name: data for name, data in sounds.items() if speaker in name}
        if archived:
            (folder / "wav").mkdir(exist_ok=True)
            with tarfile.open(folder / "wav" / f"{speaker}.tar.gz", "w:gz") as tar:
                for name, data in mine.items():
                    info = tarfile.TarInfo(f"./{name}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        else:
            for name, data in mine.items():
                (folder / "wav" / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / "wav" / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("archived", [False, True])
def test_every_sound_and_every_transcript_is_a_row(archived: bool, tmp_path: Path) -> None:
    found = {row["utterance"]: row for row in rows(first_layout(tmp_path / "data_aishell", archived=archived))}
    assert sorted(found) == ["BAC1", "BAC2", "BAC3", "BAC4"]
    one = found["BAC1"]
    assert (one["caption"], one["transcript"], one["language"]) == ("一下子", "一 下 子", "zh")
    assert (one["speaker"], one["subset"], found["BAC3"]["subset"]) == ("S0002", "train", "dev")
    assert found["BAC2"]["caption"] == "打开wi fi和灯"
    assert found["BAC3"]["row_error"] == "has no transcript"
    assert found["BAC4"]["row_error"] == "has a transcript but no wav"
    with MediaReader() as reader:
        places = [MediaPlace(r["media_path"], r["media_offset"], r["media_size"]) for r in (one, found["BAC2"])]
        assert [data for _, data in sorted(reader.read_many(places))] == [b"one", b"two!"]


def test_an_archive_of_a_speaker_who_is_there_unpacked_is_left_alone(tmp_path: Path) -> None:
    first_layout(tmp_path / "a", archived=True)
    first_layout(tmp_path / "b", archived=False)
    (tmp_path / "a/wav/S0002.tar.gz").rename(tmp_path / "b/wav/S0002.tar.gz")
    found = rows(tmp_path / "b")
    assert Counter(row["utterance"] for row in found) == Counter(["BAC1", "BAC2", "BAC3", "BAC4"])
    assert not any(row.get("media_path", "").endswith(".gz") for row in found)


def test_word_spaces_stay_where_they_are_asked_for(tmp_path: Path) -> None:
    found = rows(first_layout(tmp_path, archived=False), word_spaces=True)
    assert {row.get("caption") for row in found} == {"一 下 子", "打开 wi fi 和 灯", None, "没 有 声音"}


def test_bad_lines_and_doubled_utterances_are_rows_with_reasons(tmp_path: Path) -> None:
    folder = first_layout(tmp_path, archived=False)
    with (folder / "transcript/aishell_transcript_v0.8.txt").open("ab") as file:
        file.write("BAC1 又 一 次\nBAC5\n".encode() + b"BAC6 \xff\n")
    (folder / "wav/dev/S0003/BAC1.wav").write_bytes(b"again")
    errors = Counter((row["utterance"], row["row_error"]) for row in rows(folder) if "row_error" in row)
    assert errors == Counter(
        [
            ("BAC1", "this utterance has a wav more than once"),
            ("BAC3", "has no transcript"),
            ("BAC4", "has a transcript but no wav"),
            ("BAC5", "has a transcript but no wav"),
            ("BAC1", "transcript/aishell_transcript_v0.8.txt line 5: BAC1 is there twice"),
            (
                "transcript/aishell_transcript_v0.8.txt line 7",
                "transcript/aishell_transcript_v0.8.txt line 7 is not UTF-8",
            ),
        ]
    )


def test_the_second_layout_reads_its_lists_and_follows_no_path_out(tmp_path: Path) -> None:
    folder = tmp_path / "iOS/data"
    (folder / "wav/C0001").mkdir(parents=True)
    (folder / "wav/C0001/IC1.wav").write_bytes(b"one")
    (folder / "wav.scp").write_text("IC1\twav/C0001/IC1.wav\nIC2\t../../x.wav\nIC3\tsox a.wav -t wav - |\n")
    (folder / "trans.txt").write_text("IC1\t厨房用品\nIC2\t电影\nIC3\t音乐\n")
    first, second, third = rows(folder)
    assert (first["utterance"], first["caption"], first["speaker"]) == ("IC1", "厨房用品", "C0001")
    assert first["media_size"] == 3
    assert second["row_error"] == "'../../x.wav' leads out of the folder that it is relative to"
    assert third["row_error"] == "'sox a.wav -t wav - |' is not there"


def test_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wav").mkdir()
    (tmp_path / "wav/a.wav").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"neither AISHELL-1 .* nor AISHELL-2"):
        rows(tmp_path)


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    folder = first_layout(tmp_path, archived=True)
    data = (folder / "wav/S0002.tar.gz").read_bytes()
    (folder / "wav/S0002.tar.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match=r"S0002.tar.gz"):
        rows(folder)


def test_the_real_excerpt_has_two_hundred_utterances_and_none_is_wrong() -> None:
    if not REAL.is_dir():
        pytest.skip("no shared/data/data_aishell beside the checkout")
    found = rows(REAL)
    assert len(found) == 200
    assert not [row for row in found if "row_error" in row]
    assert {row["subset"] for row in found} == {"train", "dev", "test"}
    assert all(row["caption"] and " " not in row["caption"] for row in found)
