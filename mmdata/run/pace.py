"""How long work takes, from when each row of a sample came: seconds a row while work is full, and once a shard.

A shard of a pilot is short, so most of its time may go into waiting for its last, slowest links. A full shard waits for
those once, too, but has thousands of rows before. So the end of a shard is told apart from the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdata.run.intervals import Interval, bootstrap, exactly

_ALL = 1 << 60  # seconds of further rows are never known, however many were measured


@dataclass(frozen=True)
class Pace:
    """once_s: a shard's beginning and end, in which `drained` rows are done. gaps_s: one value a row in between."""

    once_s: float
    drained: int
    gaps_s: NDArray[np.float64]

    def seconds(self, rows: int, shards: int, seed: int) -> Interval:
        """Of one worker for so many rows in so many shards."""
        if rows <= shards * self.drained:  # of shards that are shorter than what was drained: its share, or all of it
            share = rows / (shards * self.drained) if shards else 0.0
            return Interval(share, share, 1.0).times(self.once_s * shards)
        steady = rows - shards * self.drained
        return bootstrap(self.gaps_s, _ALL, seed).times(steady).plus(exactly(self.once_s * shards))


def ingest_pace(counts: Sequence[Mapping[str, Any]], batch: int, links: int) -> Pace:
    """From the counts of the shards of one source. batch: rows worked on together. links: those fetched at once.

    Where a shard has too few rows to tell its end from the rest, all its seconds are those of its rows.
    """
    shards = [(np.array(shard["arrivals_s"], np.float64), float(shard["seconds"])) for shard in _later(counts)]
    under_way = links + batch
    long = [(arrivals_s, end_s) for arrivals_s, end_s in shards if len(arrivals_s) > under_way + 2 * batch]
    if not long:
        gaps = [np.diff(arrivals_s, prepend=0.0, append=max(end_s, arrivals_s[-1])) for arrivals_s, end_s in shards]
        return Pace(0.0, 0, np.concatenate(gaps))
    once = [arrivals_s[0] + max(0.0, end_s - arrivals_s[-1 - under_way]) for arrivals_s, end_s in long]
    gaps = [np.diff(arrivals_s[: len(arrivals_s) - under_way]) for arrivals_s, _ in long]
    return Pace(float(np.mean(once)), under_way + 1, np.concatenate(gaps))


def score_pace(counts: Sequence[Mapping[str, Any]], batch_size: int) -> Pace | None:
    """From the counts of the shards of one scorer, by batches, as the last one is padded; None where it had no row."""
    gaps, once = [], []
    for shard in _later([shard for shard in counts if "arrivals_s" in shard]):
        arrivals_s = np.array(shard["arrivals_s"], np.float64)
        ends_s = arrivals_s[np.append(np.arange(batch_size - 1, len(arrivals_s) - 1, batch_size), -1)]
        # What the first batch takes beside the others is the beginning of a shard.
        taken_s = np.diff(ends_s) if len(ends_s) > 1 else ends_s
        gaps.append(taken_s / batch_size)
        once.append(max(0.0, ends_s[0] - float(taken_s.mean())) + max(0.0, shard["seconds"] - ends_s[-1]))
    return Pace(float(np.mean(once)), 0, np.concatenate(gaps)) if gaps else None


def _later(counts: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The shards that found everything loaded, where there are any."""
    return [shard for shard in counts if not shard["is_first"]] or counts
