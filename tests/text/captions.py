"""Texts for the tests of this room: any Unicode at all, and a stage run on captions."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from mmdata.sample import Sample

PIECES = [
    "&", "amp;", "lt;", "&#", "x26;", "<", "b", ">", "</b>", "<br/>", "<!--", "-->", "<script>", "@", ".", "a@b.co",
    "e", "http://", "www.", "x.com", "13812345678", "+1 555 123 4567", " ", "\n", "\u3000", "\u200b", "\x85", "\xc3",
    "\xa9", "\ud83d", "\ude00", "\ud800", "\u00e2\u20ac\u2122", "\u0301", "狗", "が", "ﬁ",
    "İ", "ẞ", "Ａ", "＠", "＜", "＆", "\U000e0067",
]  # fmt: skip
# Lone surrogates included, and often what markup, entities, addresses and mojibake are made of.
NASTY = st.one_of(
    st.text(st.characters(), max_size=60),
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(st.characters(), max_size=3)), max_size=25).map("".join),
)


def caption_sample(caption: str | None, **columns: Any) -> Sample:
    return Sample("pictures-000000000042", {}, {"modality": "image_text", "caption": caption, **columns})


def through(stage: Any, caption: str | None, **columns: Any) -> Sample:
    """The sample of a caption after a stage, which has given back that sample and no other."""
    sample = caption_sample(caption, **columns)
    stage.setup()
    assert stage.process([sample]) == [sample]
    assert sample.key == "pictures-000000000042"
    return sample
