"""clean_text: what goes, what stays, and that a second cleaning finds nothing to do."""

from __future__ import annotations

import time

import ftfy
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mmdata.errors import ConfigError, Reason, SampleError
from mmdata.options import build
from mmdata.text.clean_text import CleanText
from tests.text.captions import NASTY, through

MASKS = {"emails": "<email>", "phones": "<phone>", "links": "<link>", "handles": "<handle>"}


@pytest.mark.parametrize(
    ("given_text", "cleaned"),
    [
        ("  a\tdog \n runs\u3000fast ", "a dog runs fast"),
        ("caf\xc3\xa9", "café"),
        ("\x93quoted\x94", "\u201cquoted\u201d"),
        ("Tom &amp; Jerry &copy; 2020 &#x1F436;", "Tom & Jerry © 2020 🐶"),
        ("&amp;amp;lt;b&amp;amp;gt;dog&lt;/b&gt;", "dog"),
        ("<p>Hello<br/>wo<b class='x>y'>rld</b></p><script>if (a<b) {}</script>", "Hello world"),
        ("<!-- note --><a href=\"x\" title='a > b'>link</a>", "link"),
        ("I <3 you, a < b > c, <email>", "I <3 you, a < b > c, <email>"),
        ("AT&T, R&D; this&notthat", "AT&T, R&D; this&notthat"),
        ("a\u200bb\x00c\u202ed\ufeff", "abcd"),
        ("e\u0301te\u0301", "été"),
        ("\ufb01ne", "fine"),
        ("👩\u200d💻 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", None),
        ("\U000e0068\U000e0069dden", "dden"),
        ("一只狗，在草地上。", None),
        ("\ud83d\ude00 \ud800", "😀 \ufffd"),
        ("“curly” ＡＢＣ", None),
    ],
)
def test_a_caption_is_cleaned_and_what_means_something_stays(given_text: str, cleaned: str | None) -> None:
    assert CleanText().clean(given_text) == (given_text if cleaned is None else cleaned)


@pytest.mark.parametrize(
    ("options", "given_text", "cleaned"),
    [
        ({"lower_case": True}, "The DOG", "the dog"),
        ({"unicode_form": "nfkc"}, "ＡＢＣ １ ⅓", "ABC 1 1⁄3"),
        ({"unicode_form": "no"}, "e\u0301", "e\u0301"),
        ({"straight_quotes": True}, "“it’s”", '"it\'s"'),
        ({"fold_width": True}, "ＡＢＣ", "ABC"),
        ({"strip_html": False}, "<b>&amp;</b>", "<b>&amp;</b>"),
        ({"repair": False}, "caf\xc3\xa9", "caf\xc3\xa9"),
        ({"keep_lines": True}, " a \r\n\r\n b\tc \n", "a\nb c"),
    ],
)
def test_each_option_does_what_it_says(options: dict[str, object], given_text: str, cleaned: str) -> None:
    assert CleanText(**options).clean(given_text) == cleaned  # type: ignore[arg-type]


STAGES = [
    CleanText(),
    CleanText(mask=MASKS, unicode_form="nfkc", lower_case=True),
    CleanText(mask=dict.fromkeys(MASKS, ""), keep_lines=True, straight_quotes=True, fold_width=True),
    CleanText(mask={"emails": "E", "phones": "0"}, repair=False, unicode_form="no"),
]


@settings(max_examples=150, deadline=None)
@given(text=NASTY)
@example(text="&" + "amp;" * 200 + "lt;b>")
@example(text="<<b>b>" * 5)
@example(text="Ã\u200b©")
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    for stage in STAGES:
        try:
            once = stage.clean(text)
        except SampleError:  # a nest of entities too deep to settle: dropped
            continue
        assert stage.clean(once) == once
        once.encode()  # no lone surrogate is left


@settings(max_examples=100, deadline=None)
@given(text=NASTY)
def test_no_text_is_lost_without_a_reason(text: str) -> None:
    sample = through(CleanText(keep_original=True), text)
    assert sample.reason in (Reason.OK, Reason.CAPTION)
    assert sample.is_ok == bool(sample.columns["caption"])
    sample.columns["caption_original"].encode()


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_printable_text_without_markup_is_left_alone_by_ftfy_too(text: str) -> None:
    assume("&" not in text)
    assert ftfy.fix_text(text, unescape_html=False) == text


@pytest.mark.parametrize("empty", ["", "   ", "<br/>", "\u200b\x00", None])
def test_an_empty_caption_is_dropped_with_filtered_caption_unless_kept(empty: str | None) -> None:
    assert through(CleanText(), empty).reason is Reason.CAPTION
    kept = through(CleanText(empty="keep"), empty)
    assert kept.is_ok
    assert kept.columns["caption"] == ""


def test_a_document_without_a_caption_passes() -> None:
    sample = through(CleanText(), None, modality="instruct")
    assert sample.is_ok
    assert sample.columns["caption"] is None


def test_a_page_pasted_as_a_caption_is_dropped_before_any_work() -> None:
    sample = through(CleanText(max_chars=100), "<b>" * 100)
    assert sample.reason is Reason.CAPTION
    assert sample.detail == "300 characters, allowed 100"


def test_the_original_is_kept_on_request() -> None:
    sample = through(CleanText(keep_original=True), " a <b>dog</b> ")
    assert (sample.columns["caption"], sample.columns["caption_original"]) == ("a dog", " a <b>dog</b> ")
    assert "caption_original" not in through(CleanText(), "x y").columns


def test_a_mask_that_cleaning_would_change_is_refused() -> None:
    assert CleanText(mask={"links": "<b>"}).clean("www.x.com <i>y</i>") == "<b> y"
    with pytest.raises(ConfigError, match=r"mask.emails: found '<EMAIL>', which cleaning itself would turn into"):
        build(CleanText, {"mask": {"emails": "<EMAIL>"}, "lower_case": True}, "p.yaml: stages[0].clean_text")
    with pytest.raises(ConfigError, match=r"mask\.mails"):
        build(CleanText, {"mask": {"mails": ""}}, "p.yaml: stages[0].clean_text")


@pytest.mark.parametrize(
    "unit", ["<", "<b ", '<a "', "<!--", "&amp;", "&#", "a", "a@", "@a", "a.", "1 ", "(", "www.", "狗", "<p>"]
)
def test_the_time_grows_with_the_length_of_a_hostile_caption_not_with_its_square(unit: str) -> None:
    stage = CleanText(mask=MASKS)
    stage.clean("warm é <b>")
    spent = []
    for size in (4_000, 32_000):
        start = time.process_time()
        try:
            stage.clean(unit * (size // len(unit)))
        except SampleError:
            pass
        spent.append(time.process_time() - start)
    assert spent[1] < 24 * max(spent[0], 0.004)  # 8 times the length; its square would be 64 times the time
