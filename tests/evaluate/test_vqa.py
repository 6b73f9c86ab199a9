"""What VQA accuracy promises: the normalisation of the official script, and its soft accuracy over ten answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.evaluate.vqa import normalised, vqa_accuracy


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The Dog.", "dog"),
        ("an apple and a pear", "apple and pear"),
        ("Two", "2"),
        ("none", "0"),
        ("ten\tmen\n", "10 men"),
        ("dont know", "don't know"),
        ("couldntve", "couldntve"),  # the script repairs one missing apostrophe, not two
        ("couldnt've", "couldn't've"),
        ("shed", "shed"),  # a word of its own
        ("somebody'd", "somebodyd"),
        ("red/blue", "red blue"),  # between letters a mark becomes a space,
        ("red, blue", "red blue"),  # beside a space it goes
        ("t-shirt", "t shirt"),
        ("10,000", "10000"),
        ("10,000 t-shirts", "10000 tshirts"),  # as the script has it: a number with a comma takes all marks out
        ("2.5", "2.5"),
        ("u.s.a.", "usa"),
        ("", ""),
    ],
)
def test_answers_are_normalised_as_the_script_does(answer: str, expected: str) -> None:
    assert normalised(answer) == expected


@pytest.mark.parametrize(
    ("equal", "expected"),
    # Of ten, k are equal: leaving one of them out leaves k - 1, leaving another out leaves k.
    [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)],
)
def test_accuracy_is_the_mean_over_nine_of_ten(equal: int, expected: float) -> None:
    assert vqa_accuracy("Red!", ["red"] * equal + ["blue"] * (10 - equal)) == pytest.approx(expected)


def test_with_few_answers_one_of_them_is_enough() -> None:
    assert vqa_accuracy("two", ["2"]) == 1
    assert vqa_accuracy("two", ["3", "4"]) == 0


@given(st.text("aTh 2,.'-\n", max_size=12), st.lists(st.sampled_from(["a", "2", "the 2"]), min_size=1, max_size=10))
def test_accuracy_lies_in_its_bounds_whatever_the_order(answer: str, references: list[str]) -> None:
    found = vqa_accuracy(answer, references)
    assert 0 <= found <= 1
    assert vqa_accuracy(answer, references[::-1]) == pytest.approx(found)
