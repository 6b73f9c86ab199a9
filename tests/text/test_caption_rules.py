"""caption_rules: which captions break which rule, and which real ones break none."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings

from mmdata.errors import ConfigError, Reason
from mmdata.text.caption_rules import CaptionRules, block_pattern
from tests.text.captions import NASTY, through

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "photos"
BROKEN = {
    "too_short": ["", "a", "狗", "?!..", None],
    "too_long": ["word " * 401, "x" * 2001],
    "file_name": [
        "IMG_1234.jpg", "IMG_1234", "DSC01234", "a black dog.png", "photo (3)", "PXL_20210101_123456789",
        "Screenshot 2021-02-03 at 10.11.12", "WhatsApp Image 2020-01-01 at 10.00.00 AM", "12345678",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "d41d8cd98f00b204e9800998",
    ],
    "link_only": ["https://example.com/a.html", "www.example.com", "example.com", "http://a.b/c http://d.e/f"],
    "boilerplate": [
        "Image may contain: 1 person, outdoor", "This picture might include a dog", "No description available.",
        "image", "the photo", "click here to enlarge", "Photo credit: Joe Doe", "N/A", "untitled", "Read more",
        "stock photo", "图片", "点击查看大图", "暂无描述",
    ],
    "stop_words_only": ["the and of", "Who's that?", "的 了", "with you!"],
}  # fmt: skip
FINE = [
    "a dog", "小狗", "video game", "test drive", "loading dock", "share of cake", "a photo of a dog", "image of a city",
    "bee", "Route 66", "Boeing 747-400", "A dog.", "no parking", "a jpg of a dog", "default risk",
    "stock photo of a dog",
]  # fmt: skip


@pytest.mark.parametrize(("rule", "caption"), [(rule, text) for rule, texts in BROKEN.items() for text in texts])
def test_a_caption_that_breaks_a_rule_is_dropped_with_its_name(rule: str, caption: str | None) -> None:
    sample = through(CaptionRules(), caption)
    assert sample.reason is Reason.CAPTION
    assert rule in sample.detail.split()


@pytest.mark.parametrize("caption", FINE)
def test_a_caption_that_says_something_passes(caption: str) -> None:
    assert list(CaptionRules().broken(caption)) == []


def test_no_real_caption_breaks_a_rule() -> None:
    if not PHOTOS.is_dir():
        pytest.skip("../shared/data/photos is absent")
    with (PHOTOS / "captions.jsonl").open() as lines:
        captions = [caption for line in lines for caption in json.loads(line)["captions"]]
    stage = CaptionRules()
    assert [caption for caption in captions if list(stage.broken(caption, "en"))] == []


def test_flagging_keeps_the_sample_and_names_all_rules_in_order() -> None:
    sample = through(CaptionRules(action="flag", min_chars=20), "IMG_1234.jpg")
    assert sample.is_ok
    assert sample.columns["caption_flags"] == "too_short file_name"
    assert through(CaptionRules(action="flag"), "a dog runs").columns["caption_flags"] == ""


def test_only_the_rules_asked_for_count() -> None:
    assert through(CaptionRules(rules=["link_only"]), "IMG_1234.jpg").is_ok


def test_a_document_without_a_caption_breaks_no_rule() -> None:
    assert through(CaptionRules(), None, modality="interleaved").is_ok


def test_words_of_a_users_list_block_a_caption(tmp_path: Path) -> None:
    path = tmp_path / "blocked.txt"
    path.write_text("\ufeff# comment\nbad  word\nSTRASSE\n坏词\n\n", encoding="utf-8")
    stage = CaptionRules.parse({"path": str(path)}, "p.yaml: stages[0].caption_rules")
    assert stage.path_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for blocked in ("A Bad word here", "bad \n WORD", "die straße", "这是坏词吗"):
        assert through(stage, blocked).detail == "block_list"
    for fine in ("badword", "bad words", "comment on this", "bad"):
        assert through(stage, fine).is_ok


def test_a_list_that_is_absent_or_another_is_said_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "blocked.txt"
    with pytest.raises(ConfigError, match=r"^p\.yaml: stages\[0\]\.caption_rules\.path: .*blocked.txt: cannot be read"):
        CaptionRules.parse({"path": str(path)}, "p.yaml: stages[0].caption_rules")
    path.write_text("x")
    with pytest.raises(ConfigError, match=r"caption_rules\.path_sha256: found 2d711642"):
        CaptionRules.parse({"path": str(path), "path_sha256": "0" * 64}, "p.yaml: stages[0].caption_rules")


def test_an_empty_list_blocks_nothing() -> None:
    assert block_pattern(["", "# only a comment", "   "]) is None


@settings(max_examples=100, deadline=None)
@given(NASTY)
def test_any_text_breaks_known_rules_or_none(text: str) -> None:
    sample = through(CaptionRules(), text)
    assert sample.reason in (Reason.OK, Reason.CAPTION)
    assert set(sample.detail.split()) <= set(CaptionRules().rules)
