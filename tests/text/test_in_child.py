"""The text stages in the child process that a run gives them: limits hold, results are the same, nothing is written."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import Reason
from mmdata.options import ROLES, values_of
from mmdata.run.sandbox import Sandbox
from mmdata.text.caption_rules import CaptionRules
from mmdata.text.clean_text import CleanText
from mmdata.text.language import Language
from mmdata.text.text_hash import TextHash
from mmdata.text.text_stats import TextStats
from tests.text.captions import caption_sample

CAPTIONS = [
    "A dog &amp; a <b>cat</b>, mail joe@example.com",
    "一只棕色的小狗在草地上奔跑，旁边有一只猫",
    "犬が公園を走っています",
    "IMG_1234.jpg",
    "",
    None,
    "<" * 50_000,
    "狗" * 20_000,
    "&amp;" * 10_000,
    "The last one is as good as the first.",
]


@pytest.mark.slow
def test_stages_give_the_same_in_the_child_as_here_and_leave_no_file() -> None:
    stages: list[Any] = [CleanText(mask={"emails": "<email>"}), Language(), TextStats(), CaptionRules(), TextHash()]
    samples = [caption_sample(text) for text in CAPTIONS]
    for number, sample in enumerate(samples):
        sample.key = f"pictures-{number:012d}"
    before = set(Path(tempfile.gettempdir()).iterdir())
    with Sandbox([(s.name, values_of(s, *ROLES)) for s in stages], timeout_s=20, memory_mb=1024) as sandbox:
        done = sandbox.process(copy.deepcopy(samples))
        assert sandbox.restarts == 0
    assert not [path for path in set(Path(tempfile.gettempdir()).iterdir()) - before if "jieba" in path.name]
    for sample in samples:
        for stage in stages:
            if sample.is_ok:
                stage.setup()
                stage.process([sample])
    assert done == samples
    assert [sample.is_ok for sample in done] == [True, True, True, False, False, False, False, False, False, True]
    assert {sample.reason for sample in done if not sample.is_ok} == {Reason.CAPTION}
    assert (done[1].columns["language"], done[2].columns["language"]) == ("zh", "ja")
