"""The timeline: which frames a span holds, which is on show, from which key frame it can be reached."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.video.film import opened
from mmdata.video.timeline import Timeline, read_timeline
from tests.video import films


@st.composite
def timelines(draw):
    intervals = draw(st.lists(st.integers(1, 200), min_size=1, max_size=40))
    stamps = [draw(st.integers(0, 50))]
    for interval in intervals[:-1]:
        stamps.append(stamps[-1] + interval)
    keys = sorted(draw(st.sets(st.integers(0, len(stamps) - 1), max_size=5)))
    return Timeline(
        times_s=[stamp / 100 for stamp in stamps],
        stamps=stamps,
        keys=keys,
        seek_stamps=[stamps[key] for key in keys],
        end_s=(stamps[-1] + intervals[-1]) / 100,
        origin_s=0.0,
        by_order=False,
        time_base=Fraction(1, 100),
    )


@given(timelines(), st.lists(st.integers(0, 9000), min_size=2, max_size=6, unique=True))
def test_neighbouring_spans_share_no_frame_and_lose_none(timeline, cuts):
    bounds = [0.0, *(cut / 100 for cut in sorted(cuts)), 1000.0]
    inside = [position for start, end in pairwise(bounds) for position in timeline.span(start, end)]
    assert inside == list(range(timeline.num_frames))
    for start, end in pairwise(bounds):
        assert all(start <= timeline.times_s[position] < end for position in timeline.span(start, end))


@given(timelines(), st.integers(0, 9000))
def test_the_frame_on_show_is_the_last_one_that_has_begun(timeline, hundredths):
    time_s = hundredths / 100
    begun = [position for position, begins_s in enumerate(timeline.times_s) if begins_s <= time_s]
    assert timeline.at(time_s) == (begun[-1] if begun else 0)


@given(timelines(), st.integers(0, 39), st.integers(0, 39))
def test_the_key_before_a_frame_is_the_nearest_one(timeline, position, target):
    before = [key for key in timeline.keys if key <= target]
    key = timeline.key_before(target)
    assert (timeline.keys[key] if key >= 0 else None) == (before[-1] if before else None)
    assert timeline.is_key_between(position, target) is bool(before and before[-1] > position)


@pytest.mark.parametrize(("container", "codec"), [("mp4", "libx264"), ("matroska", "libx264"), ("mpegts", "libx264")])
def test_times_are_those_that_a_decoder_gives(container, codec):
    data = films.encode(container, codec, frames=50, options={"g": "12", "bf": "3"})
    with opened(data) as film:
        timeline = read_timeline(film)
    with opened(data) as film:
        zero = float(film.origin_s)
        decoded = [(float(frame.time) - zero, frame.key_frame) for frame in film.container.decode(film.stream)]
    assert timeline.times_s == pytest.approx([time_s for time_s, _ in decoded], abs=1e-9)
    assert timeline.keys == [position for position, (_, is_key) in enumerate(decoded) if is_key]
    assert np.diff(timeline.times_s).min() > 0


def test_a_film_with_an_edit_list_has_the_frames_that_are_shown(tmp_path):
    data = films.encode("mp4", frames=60, options={"g": "20", "bf": "2"})
    (tmp_path / "a.mp4").write_bytes(data)
    cut = films.make(tmp_path / "b.mp4", "-ss", "1.22", "-i", str(tmp_path / "a.mp4"), "-c", "copy")
    with opened(cut) as film:
        timeline = read_timeline(film)
        decoded = [frame.pts for frame in film.container.decode(film.stream)] if film.container.seek(0) is None else []
    assert timeline.num_frames < 60
    assert timeline.stamps == decoded
    assert timeline.times_s[0] == pytest.approx(0, abs=0.051)
