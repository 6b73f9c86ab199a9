"""Counts and seconds of the stages, which add up across shards; and the law that no sample is lost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mmdata.errors import Reason, Status
from mmdata.sample import Sample


@dataclass
class StageCount:
    """What one stage was given and how long it worked."""

    given: int = 0
    ok: int = 0
    failed: int = 0
    dropped: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, samples: Sequence[Sample], seconds: float) -> StageCount:
        """Count one batch as it came out of a stage."""
        statuses = Counter(sample.status for sample in samples)
        return cls(len(samples), statuses[Status.OK], statuses[Status.FAILED], statuses[Status.DROPPED], seconds)

    def add(self, other: StageCount) -> None:
        self.given += other.given
        self.ok += other.ok
        self.failed += other.failed
        self.dropped += other.dropped
        self.seconds += other.seconds


@dataclass
class Counters:
    """Counts of one shard or of many: samples by reason, and by stage with seconds of work."""

    samples: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    stages: dict[str, StageCount] = field(default_factory=dict)

    def stage(self, name: str, samples: Sequence[Sample], seconds: float) -> None:
        """Count one batch that came out of stage `name`."""
        self.stages.setdefault(name, StageCount()).add(StageCount.of(samples, seconds))

    def add(self, other: Counters) -> None:
        """Add the counts of `other` to these."""
        self.samples += other.samples
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.seconds += other.seconds
        self.reasons.update(other.reasons)
        for name, count in other.stages.items():
            self.stages.setdefault(name, StageCount()).add(count)

    @property
    def by_status(self) -> Counter[Status]:
        counts: Counter[Status] = Counter()
        for reason, number in self.reasons.items():
            counts[Reason(reason).status] += number
        return counts

    def to_json(self) -> dict[str, Any]:
        return {
            "samples": self.samples,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "seconds": round(self.seconds, 3),
            "reasons": dict(sorted(self.reasons.items())),
            "stages": {
                name: [c.given, c.ok, c.failed, c.dropped, round(c.seconds, 4)] for name, c in self.stages.items()
            },
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Counters:
        return cls(
            data["samples"],
            data["bytes_in"],
            data["bytes_out"],
            data["seconds"],
            Counter(data["reasons"]),
            {name: StageCount(*values) for name, values in data["stages"].items()},
        )


class Arrivals:
    """When samples came, in seconds since `start`: what a projection takes the pace from.

    work: what is done; the first of it in a process loads what later ones find there.
    """

    _begun: ClassVar[set[str]] = set()

    def __init__(self, start: float, work: str) -> None:
        self._start = start
        self._is_first = work not in self._begun
        self._begun.add(work)
        self.seconds: list[float] = []

    def of(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The same samples; each is noted as it comes."""
        for sample in samples:
            self.seconds.append(round(time.perf_counter() - self._start, 5))
            yield sample

    def to_json(self) -> dict[str, Any]:
        """As counts of a commit; nothing where nothing was noted."""
        return {"arrivals_s": self.seconds, "is_first": self._is_first} if self.seconds else {}


def check_law(where: str, given: Iterable[str], samples: Sequence[Sample]) -> None:
    """Raise where a key was lost, doubled or made up: given = ok + failed + dropped, key by key.

    A key may come back as children of its own (`key_0007`). It is a bug of the stage, so an AssertionError.
    """
    keys = [sample.key for sample in samples]
    doubled = [key for key, count in Counter(keys).items() if count > 1]
    wanted = set(given)
    parents = {key if key in wanted else key.rpartition("_")[0] for key in keys}
    lost = wanted - parents
    made_up = {key for key in keys if key not in wanted and key.rpartition("_")[0] not in wanted}
    if doubled or lost or made_up:
        raise AssertionError(
            f"{where}: lost keys {sorted(lost)[:3]}, doubled {doubled[:3]}, made up {sorted(made_up)[:3]}"
        )
