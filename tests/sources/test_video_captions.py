"""MSR-VTT and HowTo100M: the JSON as it is published, joined with the files of the videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.errors import SourceError
from mmdata.sources.howto100m import Howto100m, webvtt
from mmdata.sources.msrvtt import Msrvtt

from .tables import rows_of

# As in train_val_videodatainfo.json, blanks in keys included.
VIDEOS = [
    {
        "category": 9,
        "url": "https://www.youtube.com/watch?v=9lZi22qLlEo",
        "video_id": "video0",
        "start time": 137.72,
        "end time": 149.44,
        "split": "train",
        "id": 0,
    },
    {
        "category": 16,
        "url": "https://www.youtube.com/watch?v=w4JM08PDEng",
        "video_id": "video1",
        "start time": 184.33,
        "end time": 209.89,
        "split": "train",
        "id": 1,
    },
    {"category": 3, "url": "https://www.youtube.com/watch?v=x", "video_id": "video2", "split": "validate", "id": 2},
]
SENTENCES = [
    {"caption": "a car is shown", "video_id": "video0", "sen_id": 1},
    {"caption": "a group is dancing ", "video_id": "video1", "sen_id": 2},
    {"caption": "in a cold place a man drives", "video_id": "video0", "sen_id": 0},
]


def test_a_video_has_its_sentences_its_file_and_all_that_is_known_of_it(tmp_path: Path) -> None:
    info = {"contributor": "x", "data_created": "2016"}
    (tmp_path / "a.json").write_text(json.dumps({"info": info, "videos": VIDEOS, "sentences": SENTENCES}))
    (tmp_path / "TrainValVideo").mkdir()
    for name in ("video0", "video2"):
        (tmp_path / "TrainValVideo" / f"{name}.mp4").write_bytes(b"film")
    first, second, third = rows_of(Msrvtt(path=str(tmp_path / "a.json"), root=str(tmp_path / "TrainValVideo")))
    assert first["caption"] == "a car is shown"
    assert json.loads(first["captions"]) == ["a car is shown", "in a cold place a man drives"]
    assert (first["media_path"], first["media_size"]) == (str(tmp_path / "TrainValVideo/video0.mp4"), 4)
    assert (first["category"], first["start time"], first["split"]) == (9, 137.72, "train")
    assert second["row_error"] == "'video1.mp4' is not there"
    assert third["row_error"] == "has no sentence"


def test_json_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"videos": [{"id": 1}], "sentences": []}))
    with pytest.raises(SourceError, match="no key 'video_id', so it is not MSR-VTT's; found: id"):
        rows_of(Msrvtt(path=str(tmp_path / "a.json")))
    (tmp_path / "b.json").write_text(json.dumps({"a": {"start": [1], "text": ["x"]}}))
    with pytest.raises(SourceError, match="no key 'end' in any video, so it is not HowTo100M's"):
        rows_of(Howto100m(path=str(tmp_path / "b.json")))


def test_howto100m_captions_become_subtitles_of_the_file_that_is_there(tmp_path: Path) -> None:
    tree: dict[str, Any] = {
        "nVbIUDjzWY4": {"start": [7.0, 3661.5], "end": [9.5, 3662], "text": ["welcome  to\nmy", "paint --> dry"]},
        "gone": {"start": [], "end": [], "text": []},
        "odd": {"start": [1], "end": [2, 3], "text": ["x"]},
    }
    (tmp_path / "caption.json").write_text(json.dumps(tree))
    (tmp_path / "nVbIUDjzWY4.webm").write_bytes(b"film")
    (tmp_path / "odd.mp4").write_bytes(b"film")
    first, second, third = rows_of(Howto100m(path=str(tmp_path / "caption.json")))
    assert first["media_path"].endswith("nVbIUDjzWY4.webm")
    assert "caption" not in first
    assert first["subtitles"] == (
        "WEBVTT\n\n00:00:07.000 --> 00:00:09.500\nwelcome to my\n\n01:01:01.500 --> 01:01:02.000\npaint -> dry\n"
    )
    assert second["row_error"] == "'gone.mkv' is not there"
    assert third["row_error"].startswith("start, end and text are not lists of the same length: ")


@given(
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(1, 10**6), st.text(alphabet="ab \n", min_size=1)), max_size=5)
)
def test_the_webvtt_that_is_written_has_every_cue_to_the_millisecond(cues: list[tuple[int, int, str]]) -> None:
    text = webvtt((start / 1000, (start + length) / 1000, said) for start, length, said in cues)
    found = [line.split(" --> ") for line in text.splitlines() if " --> " in line]

    def ms(stamp: str) -> int:
        hours, minutes, seconds = stamp.split(":")
        return round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * 1000)

    assert [(ms(start), ms(end)) for start, end in found] == [(start, start + length) for start, length, _ in cues]
