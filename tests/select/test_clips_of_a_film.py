"""Dedup of clips: those of one film share its link and its bytes, those of a copied film are its copies."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmdata.sample import child_key, sample_key
from mmdata.select.dedup import Dedup
from tests.select.planted import decided

FILM, COPY = sample_key("films", 1), sample_key("films", 2)


@pytest.mark.parametrize(("by", "column"), [("url", "url"), ("sha256", "raw_sha256")])
def test_clips_of_one_film_are_not_each_other_s_copies_but_those_of_a_second_one_are(
    tmp_path: Path, by: str, column: str
) -> None:
    keys = [child_key(film, index) for film in (FILM, COPY) for index in range(3)]
    rows = [{"key": key, "modality": "video_text", column: "0" * 64} for key in keys]
    found = decided(tmp_path, rows, [Dedup.parse({"by": by}, "x.yaml: select[0].dedup")])
    assert [found[key]["status"] for key in keys] == ["ok"] * 3 + ["dropped"] * 3
    assert {found[key]["detail"] for key in keys[3:]} == {keys[0]}
