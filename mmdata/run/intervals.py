"""What a sample says of the whole, as a value between two bounds that hold the truth 95 times of 100.

at_once: so many intervals hold the truth together 95 times of 100 (Bonferroni 1936): of thirty that each do, one or two
would not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
_TAIL = 0.025


@dataclass(frozen=True)
class Interval:
    """A projected number, and the bounds of its 95 % interval."""

    low: float
    value: float
    high: float

    def times(self, factor: float) -> Interval:
        return Interval(self.low * factor, self.value * factor, self.high * factor)

    def plus(self, other: Interval) -> Interval:
        """The sum of two that may err together, so its bounds are the sums of theirs."""
        return Interval(self.low + other.low, self.value + other.value, self.high + other.high)

    def __contains__(self, number: float) -> bool:
        return self.low <= number <= self.high

    def to_json(self) -> dict[str, float]:
        return {name: round(getattr(self, name), 6) for name in ("low", "value", "high")}


def exactly(number: float) -> Interval:
    return Interval(number, number, number)


def wilson(hits: int, sampled: int, whole: int, at_once: int = 1) -> Interval:
    """The share of rows that hit, after Wilson 1927; drawn without replacement, so all rows leave no doubt.

    sampled: rows that were looked at. whole: rows there are.
    """
    if not sampled:
        return Interval(0.0, 0.0, 1.0)
    share = hits / sampled
    if sampled >= whole:
        return exactly(share)
    size = sampled * (whole - 1) / (whole - sampled)
    z = NormalDist().inv_cdf(1 - _TAIL / at_once)
    middle = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * math.sqrt(share * (1 - share) / size + z**2 / (4 * size**2))
    # Without a hit (or with nothing else) the bound is 0 (or 1), not a rounding error beside it.
    return Interval(max(0.0, middle - half) if hits else 0.0, share, min(1.0, middle + half) if hits < sampled else 1.0)


def bootstrap(values: NDArray[np.float64], whole: int, seed: int, at_once: int = 1) -> Interval:
    """The mean over all rows from the values of some: quantiles of means of resamples, drawn with a seed.

    whole: rows there are; the spread shrinks as the sample comes near to all of them.
    """
    if not len(values):
        return exactly(0.0)
    mean = float(values.mean())
    if len(values) >= whole:
        return exactly(mean)
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)])
    shrink = math.sqrt((whole - len(values)) / max(whole - 1, 1))
    # Resamples of n values spread by (n - 1) / n too little.
    shrink *= math.sqrt(len(values) / max(len(values) - 1, 1))
    low, high = (
        mean + shrink * (float(np.quantile(means, tail)) - mean) for tail in (_TAIL / at_once, 1 - _TAIL / at_once)
    )
    return Interval(min(low, mean), mean, max(high, mean))


def poisson(events: int) -> Interval:
    """The expected number of events where so many were seen; exact bounds, after Garwood 1936."""
    low = _solve(lambda mean: 1 - _below(events - 1, mean), events) if events else 0.0
    return Interval(low, float(events), _solve(lambda mean: 1 - _below(events, mean), events, 1 - _TAIL))


def _below(events: int, mean: float) -> float:
    """Probability of at most so many events."""
    if not mean:
        return 1.0
    logs = [n * math.log(mean) - mean - math.lgamma(n + 1) for n in range(events + 1)]
    return min(1.0, math.fsum(math.exp(log) for log in logs))


def _solve(rising: Any, events: int, target: float = _TAIL) -> float:
    low, high = 0.0, 10.0 + 3 * events
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return (low + high) / 2


def copies(found: int, sampled: int, whole: int, most: float) -> Interval:
    """Rows that are dropped as copies of others, from what a sample found: few of them, as both must be in it.

    A pair of copies is in the sample with the square of its share. Where groups of copies are large, that counts too
    many: `most` is what there can be. The share that was found is the least.
    """
    least = whole * wilson(found, sampled, whole).low
    if sampled >= whole:
        return exactly(found)
    chance = sampled * (sampled - 1) / (whole * (whole - 1)) if sampled > 1 else 0.0
    seen = poisson(found)
    value, high = (min(most, number / chance) if chance else most for number in (seen.value, seen.high))
    return Interval(min(least, value), value, max(high, value))
