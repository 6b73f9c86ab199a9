"""What metrics of texts promise: values worked by hand, those of libraries where there are some, and bounds."""

from __future__ import annotations

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.evaluate.text_metrics import (
    bleu,
    character_errors,
    cider_d,
    edits,
    exact_match,
    rouge_l,
    word_errors,
    words,
)

sentences = st.lists(st.sampled_from(["a", "red", "cat", "sat", "on", "mat"]), max_size=8).map(" ".join)


def test_words_are_small_without_punctuation_and_chinese_is_cut_into_characters() -> None:
    assert words("The dog's ball, No. 2!") == ["the", "dog's", "ball", "no", "2"]
    assert words("一只 Red 猫。") == ["一", "只", "red", "猫"]
    assert words("snake_case") == ["snake", "case"]
    assert words("... !") == []


def test_vowel_signs_and_accents_belong_to_their_letters_however_they_are_written() -> None:
    assert exact_match("कि", ["का"]) == 0
    assert words("हिन्दी, ภาษาไทยที่") == ["हिन्दी", "ภาษาไทยที่"]
    text = "Café l’été, İstanbul, が"
    assert words(unicodedata.normalize("NFD", text)) == words(text) == ["café", "l’été", "i̇stanbul", "が"]
    assert character_errors("कि", "का") == (1, 2)
    assert words("so \u2764\ufe0f!") == ["so"]  # a mark on a picture is no word


def test_bleu_is_the_geometric_mean_of_precisions_with_the_last_one_smoothed() -> None:
    found = bleu(["the cat is on the mat"], [["the cat sat on the mat"]])
    assert found == pytest.approx(100 * (5 / 6 * 3 / 5 * 1 / 4 * 1 / (2 * 3)) ** 0.25)


def test_bleu_takes_any_of_several_references_whose_number_may_differ() -> None:
    assert bleu(["a b c d", "One two three four"], [["a b c d"], ["y", "one two three four"]]) == pytest.approx(100)
    assert bleu(["A Red cat on a mat"], [["nothing", "a red cat on a mat"]]) == pytest.approx(100)
    assert bleu(["一只红色的猫"], [["一只红色的猫"]]) == pytest.approx(100)
    assert bleu([], []) == 0


def test_rouge_l_is_f1_of_the_longest_common_subsequence_with_the_nearest_reference() -> None:
    assert rouge_l("the cat is on the mat", ["the cat sat on the mat"]) == pytest.approx(5 / 6)
    assert rouge_l("a cat", ["no", "a red cat"]) == pytest.approx(2 * (2 / 2) * (2 / 3) / (2 / 2 + 2 / 3))
    assert rouge_l("红猫", ["红狗"]) == pytest.approx(1 / 2)
    assert rouge_l("", ["a cat"]) == 0


def test_cider_d_of_two_words_has_full_cosines_of_unigrams_and_bigrams_only() -> None:
    assert cider_d(["a b", "c d"], [["a b"], ["c d"]]) == pytest.approx([5.0, 5.0])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("a c", 10 * 0.5 / 4),  # one of two unigrams, all weights log 2
        (
            "a a",
            10 * (1 / (2 * math.sqrt(2))) / 4,
        ),  # clipped: log 2 * log 2 over norms 2 log 2 and sqrt 2 log 2
        ("", 0.0),
        ("c d", 0.0),
    ],
)
def test_cider_d_clips_what_is_said_too_often(answer: str, expected: float) -> None:
    assert cider_d([answer, "c d"], [["a b"], ["c d"]])[0] == pytest.approx(expected)


def test_cider_d_is_less_for_a_wrong_length_and_the_mean_over_references() -> None:
    right = ["a b c d e f"], ["u v w x"]
    # Five bigrams against two: the cosines are those of their n-grams, times exp(-9 / 72).
    cosines = (3 / math.sqrt(3 * 6) + 2 / math.sqrt(2 * 5) + 1 / math.sqrt(1 * 4) + 0) / 4
    assert cider_d(["a b c", "u"], right)[0] == pytest.approx(10 * cosines * math.exp(-9 / 72))
    two = ["a b", "y z"], ["c d"]
    assert cider_d(["a b", "c d"], two)[0] == pytest.approx(2.5)


def test_an_ngram_in_the_references_of_every_item_weighs_nothing() -> None:
    assert cider_d(["a", "a"], [["a x"], ["a y"]]) == [0.0, 0.0]
    assert cider_d(["a b"], [["a b"]]) == [0.0]


@given(st.lists(st.tuples(sentences, st.lists(sentences, min_size=1, max_size=3)), min_size=1, max_size=6))
def test_cider_d_lies_in_its_bounds_and_follows_its_items(items: list[tuple[str, list[str]]]) -> None:
    found = cider_d([answer for answer, _ in items], [of for _, of in items])
    assert all(-1e-9 <= score <= 10 + 1e-9 for score in found)
    assert cider_d([answer for answer, _ in items[::-1]], [of for _, of in items[::-1]]) == pytest.approx(found[::-1])
    assert cider_d([a.upper() + "!" for a, _ in items], [of for _, of in items]) == pytest.approx(found)


def test_exact_match_passes_over_case_and_punctuation() -> None:
    assert exact_match("Yes.", ["no", "yes"]) == 1
    assert exact_match("yes it is", ["yes"]) == 0


def test_error_rates_count_words_and_characters_without_spaces() -> None:
    assert word_errors("The cat sat", "the bat sat down") == (2, 4)
    assert character_errors("The cat sat", "the bat sat") == (1, 9)
    assert word_errors("今天", "昨天") == character_errors("今天", "昨天") == (1, 2)
    assert word_errors("", "one two") == (2, 2)


@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_edits_are_levenshteins(a: str, b: str) -> None:
    distance = pytest.importorskip("nltk.metrics.distance")
    assert edits(a, b) == edits(b, a) == distance.edit_distance(a, b)
