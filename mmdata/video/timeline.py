"""When each frame of a film is shown, from its packets alone: all of them are read, none is decoded."""

from __future__ import annotations

import bisect
import functools
import itertools
import math
import statistics
from dataclasses import dataclass
from fractions import Fraction

from mmdata.errors import Reason, SampleError
from mmdata.video.film import SEEKS_BY_PTS, Film

_REORDERING = frozenset({"h264", "hevc"})  # AVI has no presentation times, and for these they cannot be computed
MAX_FRAMES = 1_000_000
_VFR_SHARE, _VFR_S = 0.1, 0.002  # an interval differs from the others by more than both; Matroska rounds to 1 ms


@dataclass(frozen=True)
class Timeline:
    """The frames of a film in the order in which they are shown.

    times_s: when each is shown first, from the film's time zero. stamps: their presentation time stamps, or, by_order,
    just 0, 1, 2, ... : then time stamps do not tell the order (AVI, streams without them) and frames are counted.
    keys: positions of the frames where decoding can begin, seek_stamps: what to seek for to get there; by_order there
    are no seek_stamps, and keys are off by as many frames as are shown before the key frame that they follow.
    end_s: when the last frame is no longer shown. origin_s: time stamp of the film's time zero, in seconds.
    """

    times_s: list[float]
    stamps: list[int]
    keys: list[int]
    seek_stamps: list[int]
    end_s: float
    origin_s: float
    by_order: bool
    time_base: Fraction

    @property
    def num_frames(self) -> int:
        return len(self.times_s)

    @functools.cached_property
    def places(self) -> dict[int | None, int]:
        """Position by time stamp; empty by_order."""
        return {} if self.by_order else {stamp: position for position, stamp in enumerate(self.stamps)}

    @property
    def fps(self) -> float:
        """Frames a second in the mean."""
        shown_s = self.end_s - self.times_s[0]
        return self.num_frames / shown_s if shown_s > 0 else 0.0

    @property
    def is_vfr(self) -> bool:
        """True where the frames are not evenly spaced."""
        intervals = [after - before for before, after in itertools.pairwise(self.times_s)]
        if len(intervals) < 2:
            return False
        usual = statistics.median(intervals)
        return any(abs(interval - usual) > max(_VFR_S, _VFR_SHARE * usual) for interval in intervals)

    def span(self, start_s: float, end_s: float) -> range:
        """Positions of the frames that begin to be shown in [start_s, end_s), to the microsecond."""
        return range(*(bisect.bisect_left(self.times_s, time_s - 5e-7) for time_s in (start_s, end_s)))

    def at(self, time_s: float) -> int:
        """Position of the frame on show at a time; the first or last one outside."""
        return min(self.num_frames - 1, max(0, bisect.bisect_right(self.times_s, time_s + 5e-7) - 1))

    def key_before(self, position: int) -> int:
        """Index in `keys` of the last one that is not after `position`; -1 where there is none."""
        return bisect.bisect_right(self.keys, position) - 1

    def is_key_between(self, position: int, target: int) -> bool:
        """True where decoding can begin anew after `position` to reach `target`."""
        key = self.key_before(target)
        return key >= 0 and self.keys[key] > position


def read_timeline(film: Film, max_frames: int = MAX_FRAMES) -> Timeline:
    """The timeline of an opened film. Raises SampleError: decode.too_many_frames, content.no_video
    or decode.truncated without a packet."""
    stream = film.stream
    time_base = stream.time_base or Fraction(1, 1_000_000)
    if stream.frames > max_frames:
        raise SampleError(Reason.TOO_MANY_FRAMES, f"the header says {stream.frames}, allowed {max_frames}")
    shown: list[tuple[int | None, int | None, int, bool]] = []  # (pts, dts, duration, is a key frame)
    for packet in film.packets():
        if packet.size == 0 or packet.is_discard:  # the end, or outside of the edit list
            continue
        shown.append((packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe))
        if len(shown) > max_frames:
            raise SampleError(Reason.TOO_MANY_FRAMES, f"more than {max_frames}")
    if not shown:
        is_cut = stream.frames > 0  # by the index there are some, but not in these bytes
        raise SampleError(Reason.TRUNCATED if is_cut else Reason.NO_VIDEO, "the video stream holds no frame")
    stamps = [pts for pts, *_ in shown if pts is not None]
    if len(shown) > 1 and len(set(stamps)) == 1:
        raise SampleError(Reason.NO_DURATION, f"all {len(shown)} frames are at one time")
    is_guessed = (
        film.demuxer == "avi" and stream.codec_context.name in _REORDERING and stream.codec_context.has_b_frames
    )
    by_order = is_guessed or len(set(stamps)) < len(shown)
    if by_order:
        stamps = _decoding_times(film, [dts for _, dts, *_ in shown])
        durations = {stamp: duration for stamp, (_, _, duration, _) in zip(stamps, shown, strict=True)}
        keys, seek_stamps = [position for position, (*_, is_key) in enumerate(shown) if is_key], []
    else:
        durations = {pts: duration for pts, _, duration, _ in shown if pts is not None}
        stamps.sort()
        positions = {stamp: position for position, stamp in enumerate(stamps)}
        by_pts = film.demuxer in SEEKS_BY_PTS
        found = sorted(
            (positions[pts], pts if by_pts or dts is None else dts)
            for pts, dts, _, key in shown
            if key and pts is not None
        )
        keys, seek_stamps = [position for position, _ in found], [stamp for _, stamp in found]
    origin = film.origin_s
    if origin is None or by_order or film.demuxer == "avi":  # AVI begins with its first frame, whatever B-frames delay
        origin = stamps[0] * time_base
    last = durations[stamps[-1]]
    intervals = [after - before for before, after in itertools.pairwise(stamps)]
    if intervals and (by_order or last <= 0 or last > 10 * max(intervals)):  # no duration, or one that cannot be meant
        last = statistics.median_low(intervals)
    # Whole numbers: the nearest float of every time, a tenth as long as with fractions.
    scale = math.lcm(time_base.denominator, origin.denominator)
    step, zero = int(time_base * scale), int(origin * scale)
    return Timeline(
        times_s=[(stamp * step - zero) / scale for stamp in stamps],
        stamps=list(range(len(stamps))) if by_order else stamps,
        keys=keys,
        seek_stamps=seek_stamps,
        end_s=float((stamps[-1] + last) * time_base - origin),
        origin_s=float(origin),
        by_order=by_order,
        time_base=time_base,
    )


def _decoding_times(film: Film, times: list[int | None]) -> list[int]:
    """Decoding times as the times of frames in the order they come out; evenly spaced where they say nothing."""
    known = [time for time in times if time is not None]
    if len(set(known)) == len(times):
        return sorted(known)
    rate = film.stream.average_rate or Fraction(25)
    time_base = film.stream.time_base or Fraction(1, 1_000_000)
    return [round(number / rate / time_base) for number in range(len(times))]
