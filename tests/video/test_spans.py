"""Spans of time from tables and by arithmetic."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.errors import Reason, SampleError
from mmdata.video.spans import Span, between, fixed, listed, seconds, single

LENGTHS = st.floats(0.1, 1000)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(3, 3.0), ("2.5", 2.5), ("1:02", 62.0), ("01:02:03.5", 3723.5), ("00:01,25", 1.25), (0, 0.0)],
)
def test_times_are_numbers_or_clock_times(value, wanted):
    assert seconds(value) == wanted


@pytest.mark.parametrize("value", [None, True, "soon", "nan", "inf", "1:2:3:4", [], {}])
def test_other_things_are_no_times(value):
    with pytest.raises((ValueError, TypeError)):
        seconds(value)


def test_a_list_of_spans_may_be_written_in_several_ways():
    wanted = [Span(1, 2), Span(2, 4, "said")]
    for entries in (
        [[1, 2], [2, 4, "said"]],
        [{"start": 1, "end": 2}, {"start": "0:02", "end": 4, "text": "said"}],
        [{"start_s": 1, "end_s": 2}, {"start_s": 2, "end_s": 4, "text": "said"}],
    ):
        assert listed(entries, "spans") == wanted
        assert listed(json.dumps(entries), "spans") == wanted
    assert single("1", "0:02", "start, end") == [Span(1, 2)]


@pytest.mark.parametrize("value", [None, "", "[]", "x", "[1, 2]", "{}", '[{"start": 1}]', "[[1]]", '[["a", "b"]]', 7])
def test_what_is_no_list_of_spans_says_so(value):
    with pytest.raises(SampleError) as caught:
        listed(value, "spans")
    assert caught.value.reason is Reason.NO_SPANS
    assert "column spans" in caught.value.detail


@pytest.mark.parametrize("value", [None, "", "x", [], {}])
def test_what_is_no_time_says_so(value):
    with pytest.raises(SampleError) as caught:
        single(value, 2, "start, end")
    assert caught.value.reason is Reason.NO_SPANS
    assert "columns start, end" in caught.value.detail


@given(LENGTHS, LENGTHS)
def test_pieces_of_one_length_cover_the_film_once(duration_s, length_s):
    spans = list(fixed(duration_s, length_s, length_s))
    assert spans[0].start_s == 0
    assert spans[-1].end_s == pytest.approx(duration_s)
    for before, after in pairwise(spans):
        assert after.start_s == pytest.approx(before.end_s)
        assert before.length_s == pytest.approx(length_s)


@given(LENGTHS, LENGTHS, LENGTHS)
def test_a_stride_says_where_the_next_begins(duration_s, length_s, stride_s):
    spans = list(fixed(duration_s, length_s, stride_s))
    assert [span.start_s for span in spans] == pytest.approx([index * stride_s for index in range(len(spans))])
    assert all(span.end_s <= duration_s + 1e-9 for span in spans)
    assert spans[-1].start_s < duration_s <= spans[-1].start_s + stride_s + 1e-6 * duration_s


@given(st.lists(st.floats(0, 500), min_size=1, max_size=9, unique=True), st.floats(0.5, 100))
def test_shots_in_pieces_leave_no_gap_and_are_short_enough(starts_s, max_s):
    starts_s.sort()
    end_s = starts_s[-1] + 10
    spans = list(between(starts_s, end_s, max_s))
    assert spans[0].start_s == starts_s[0]
    assert spans[-1].end_s == end_s
    assert all(after.start_s == before.end_s for before, after in pairwise(spans))
    assert all(0 < span.length_s <= max_s * (1 + 1e-9) for span in spans)
    assert set(starts_s) <= {span.start_s for span in spans}
