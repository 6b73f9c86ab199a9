"""drop_speakers lets nobody through who is listed, and by default nobody whose name is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmdata.audio.drop_speakers import DropSpeakers
from mmdata.errors import ConfigError, Reason, Status
from mmdata.options import build
from mmdata.sample import Sample
from mmdata.stage import OWN


def spoken_by(*speakers: object) -> list[Sample]:
    return [
        Sample(f"talks-{row:012d}", {"flac": b"x"}, {OWN: {} if who is None else {"speaker": who}})
        for row, who in enumerate(speakers)
    ]


def reasons(stage: DropSpeakers, *speakers: object) -> list[Reason]:
    stage.setup()
    return [sample.reason for sample in stage.process(spoken_by(*speakers))]


def test_listed_speakers_are_dropped_with_their_bytes():
    stage = DropSpeakers(speakers=["S0002", " S0003 "])
    stage.setup()
    gone, kept, also = stage.process(spoken_by("S0002", "S0004", "S0003 "))
    assert (gone.reason, gone.status, gone.parts) == (Reason.SPEAKER, Status.DROPPED, {})
    assert (kept.reason, kept.parts) == (Reason.OK, {"flac": b"x"})
    assert also.reason is Reason.SPEAKER
    assert [each.columns["listed_speaker"] for each in (gone, kept, also)] == [True, False, True]
    assert "S0002" not in gone.detail


def test_a_file_lists_one_name_a_line(tmp_path: Path):
    path = tmp_path / "speakers.txt"
    path.write_text("# asked to be left out\nlucas\n\n  Jürgen Müller \n")
    stage = DropSpeakers(path=str(path), speakers=["17"])
    assert reasons(stage, "lucas", "Jürgen Müller", 17, "Lucas", "george") == [Reason.SPEAKER] * 3 + [Reason.OK] * 2


@pytest.mark.parametrize("nobody", [None, "", "  "])
def test_who_is_not_named_is_dropped_unless_that_is_wanted_otherwise(nobody):
    assert reasons(DropSpeakers(speakers=["a"]), nobody, "b") == [Reason.SPEAKER, Reason.OK]
    assert reasons(DropSpeakers(speakers=["a"], unknown="keep"), nobody, "a") == [Reason.OK, Reason.SPEAKER]


def test_another_column_can_name_the_speaker():
    stage = DropSpeakers(speakers=["7"], column="client_id", unknown="keep")
    stage.setup()
    (done,) = stage.process([Sample("a-000000000001", {}, {OWN: {"client_id": 7}})])
    assert done.reason is Reason.SPEAKER


def test_it_is_given_the_sources_own_columns():
    assert OWN in DropSpeakers.reads


def test_no_list_and_an_unreadable_list_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="give speakers, path or both"):
        build(DropSpeakers, {}, "stages[0].drop_speakers")
    with pytest.raises(ConfigError, match="cannot be read"):
        DropSpeakers(path=str(tmp_path / "nowhere.txt")).check()
