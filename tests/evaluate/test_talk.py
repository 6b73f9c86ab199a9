"""What `mmdata chat` promises: files of any format, one answer or line by line, and errors that name the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmdata.cli import app
from mmdata.errors import SourceError
from mmdata.evaluate.generate import Decoding
from mmdata.evaluate.talk import Conversation
from mmdata.train import engine
from mmdata.train.chat import Turn
from mmdata.train.restore import restore
from tests.builders import jpeg
from tests.media.ffmpeg_made import make, picture
from tests.train import shelf, tiny


def test_one_prompt_gives_one_answer(learned: Path, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(jpeg(5))
    done = CliRunner().invoke(app, ["chat", str(learned), "--image", str(tmp_path / "x.jpg"), "--prompt", "What?"])
    assert (done.exit_code, done.stdout) == (0, "picture w5\n")


def test_lines_are_answered_one_after_the_other(learned: Path, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(jpeg(4))
    asked = ["chat", str(learned), "--image", str(tmp_path / "x.jpg"), "--max-new-tokens", "9"]
    done = CliRunner().invoke(app, asked, input="What?\n\nAnd again?\n")
    assert done.exit_code == 0
    assert done.stdout.startswith("picture w8\n")
    assert len(done.stdout.splitlines()) >= 2


def test_what_was_said_is_a_part_of_the_next_prompt(tiny_path: Path, tmp_path: Path) -> None:
    config = tiny.config(
        tiny_path, str(tiny_path / "eight"), kinds=("image", "audio"), plan={"max_steps": 1},
        machine={"folder": str(tmp_path)},
    )  # fmt: skip
    restored = restore(str(engine.train(config).folder))
    (tmp_path / "x.jpg").write_bytes(jpeg(1))
    (tmp_path / "x.flac").write_bytes(shelf.flac(0.4, rate_hz=8000))
    files = {"image": [str(tmp_path / "x.jpg")], "audio": [str(tmp_path / "x.flac")]}
    talk = Conversation(restored, files, Decoding(4))  # type: ignore[arg-type]
    answers = [talk.ask("What?"), talk.ask("Why?")]
    assert talk.turns == [
        Turn("user", (("image", ""), ("audio", ""), ("text", "\nWhat?"))),
        Turn("assistant", (("text", answers[0]),)),
        Turn("user", (("text", "Why?"),)),
        Turn("assistant", (("text", answers[1]),)),
    ]
    alone = Conversation(restored, files, Decoding(4))  # type: ignore[arg-type]
    assert alone.ask("What?") == answers[0]


def test_a_film_is_shown_by_its_frames(tiny_path: Path, tmp_path: Path) -> None:
    config = tiny.config(
        tiny_path, str(tiny_path / "eight"), kinds=("image", "video"), plan={"max_steps": 1},
        machine={"folder": str(tmp_path)},
    )  # fmt: skip
    restored = restore(str(engine.train(config).folder))
    make(tmp_path / "x.mp4", *picture(1.0), "-c:v", "libx264")
    talk = Conversation(restored, {"video": [str(tmp_path / "x.mp4")]}, Decoding(4))
    assert len(talk.media["video"][0].parts) == restored.specs["video"].frames == 3
    assert talk.ask("What happens?") == talk.turns[-1].parts[0][1]


def test_what_cannot_be_read_or_heard_is_named(learned: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    restored = restore(str(learned))
    with pytest.raises(SourceError, match=r"none\.jpg: no such file"):
        Conversation(restored, {"image": [str(tmp_path / "none.jpg")]}, Decoding())
    with pytest.raises(SourceError, match=r"bad\.jpg"):
        Conversation(restored, {"image": [str(tmp_path / "bad.jpg")]}, Decoding())
    with pytest.raises(SourceError, match=r"x\.wav: this model has no encoder for audio; it takes image"):
        Conversation(restored, {"audio": ["x.wav"]}, Decoding())
    # The template plain, which this model has learned, leaves out what the user says.
    for words in ("", "What?"):
        with pytest.raises(SourceError, match="nothing is asked"):
            Conversation(restored, {}, Decoding()).ask(words)
    done = CliRunner().invoke(app, ["chat", str(learned), "--image", str(tmp_path / "none.jpg"), "--prompt", ""])
    assert isinstance(done.exception, SourceError)
