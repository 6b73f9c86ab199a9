"""language: real captions and transcripts, short texts, scripts, and what a source has said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings

from mmdata.errors import ConfigError
from mmdata.options import build
from mmdata.text.language import COMMON, Language, _identifier
from tests.text.captions import NASTY, through

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("A little girl climbing the stairs to her playhouse", "en"),
        ("Un chien noir court dans l'herbe", "fr"),
        ("Ein schwarzer Hund läuft über die Wiese", "de"),
        ("Un perro negro corre por la hierba", "es"),
        ("Чёрная собака бежит по траве", "ru"),
        ("一只狗在草地上奔跑", "zh"),
        ("下雨天", "zh"),
        ("iPhone 手机壳", "zh"),
        ("關閉的門", "zh"),
        ("犬が公園を走っています", "ja"),
        ("コーヒー", "ja"),
        ("강아지가 공원에서 달린다", "ko"),
    ],
)
def test_captions_have_their_language(text: str, language: str) -> None:
    sample = through(Language(), text)
    assert sample.columns["language"] == language
    assert 0.3 < sample.columns["language_confidence"] <= 1


@pytest.mark.parametrize("text", ["dog", "IMG", "12345", "?!", "b2"])
def test_a_text_of_few_letters_has_no_language(text: str) -> None:
    assert Language().identify(text) == ("und", 0.0)


def test_real_english_captions_and_chinese_transcripts_are_right() -> None:
    if not (DATA / "photos").is_dir():
        pytest.skip("../shared/data is absent")
    stage = Language()
    with (DATA / "photos" / "captions.jsonl").open() as lines:
        english = [json.loads(line)["captions"][0] for line in lines][:200]
    transcript = DATA / "data_aishell" / "transcript" / "aishell_transcript_v0.8.txt"
    chinese = [line.partition(" ")[2].strip() for line in transcript.read_text(encoding="utf-8").splitlines()]
    assert sum(stage.identify(text)[0] == "en" for text in english) >= 0.98 * len(english)
    assert sum(stage.identify(text)[0] == "zh" for text in chinese) >= 0.98 * len(chinese)


def test_a_language_of_the_source_is_kept_unless_overwritten() -> None:
    kept = through(Language(), "A dog runs on the grass", language="xx")
    assert kept.columns["language"] == "xx"
    assert "language_confidence" not in kept.columns
    assert through(Language(overwrite=True), "A dog runs on the grass", language="xx").columns["language"] == "en"


def test_below_the_confidence_asked_for_the_language_is_unknown_and_the_guess_is_told() -> None:
    language, confidence = Language().identify("chat noir")
    assert language != "und"
    assert Language(min_confidence=0.99).identify("chat noir") == ("und", confidence)


def test_what_is_taken_for_known_is_known() -> None:
    assert set(_identifier(()).labels) >= COMMON


def test_only_the_languages_asked_for_come_out() -> None:
    stage = Language(languages=["en", "de"])
    assert stage.identify("un chien noir court")[0] in ("en", "de")
    assert stage.identify("一只狗在草地上奔跑")[0] == "und"
    with pytest.raises(ConfigError, match="languages: found klingon, which py3langid does not know"):
        build(Language, {"languages": ["en", "klingon"]}, "p.yaml: stages[0].language")


@pytest.mark.parametrize("caption", [None, ""])
def test_no_caption_has_no_language(caption: str | None) -> None:
    assert "language" not in through(Language(), caption).columns


@settings(max_examples=60, deadline=None)
@given(NASTY)
def test_any_text_has_a_code_and_a_probability(text: str) -> None:
    language, confidence = Language().identify(text)
    assert language.isascii()
    assert 0 <= confidence <= 1
