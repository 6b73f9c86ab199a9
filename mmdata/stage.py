"""What a stage is: one step over a batch of samples, with its options as its fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from mmdata.errors import Reason, SampleError
from mmdata.sample import Sample

OWN = "own"  # a column for stages that read it: the source's own columns, {name: plain value}; in no ledger


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage needs."""

    cpus: float = 1.0
    gpus: float = 0.0


class Stage(Protocol):
    """One step over a batch. Every key given comes back, or is the parent of keys that do.

    A stage is a dataclass whose fields are its YAML options. It never removes a sample: it calls `sample.end(reason)`
    or raises SampleError while it works on a single one. It is given only samples of its modalities that are ok and
    have the parts it reads.
    The runner owns try/except, timing, counters and the check that no key is lost.

    modalities: of the samples it is for; others pass by.
    reads, writes: columns, or groups of parts as in `sample.PART_GROUPS`: "image", "frames", "sound", ...
    reads_any: a stage may have it: such names of which one is enough.
    version: raised when the same options give other bytes; part of the config hash.
    isolated: True where it parses bytes of strangers; it then runs in a disposable child process with limits.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    modalities: ClassVar[frozenset[str]]
    reads: ClassVar[frozenset[str]]
    writes: ClassVar[frozenset[str]]
    isolated: ClassVar[bool]
    resources: ClassVar[Resources]
    batch_size: int

    def setup(self) -> None:
        """Once per worker, before the first batch: load weights, open clients."""

    def process(self, samples: list[Sample]) -> list[Sample]:
        """The same samples (or their children) with parts, columns or a reason added."""


def one_by_one(samples: list[Sample], work: Callable[[Sample], None]) -> list[Sample]:
    """The samples, with `work` done to each; what it raises becomes that sample's reason, and the others go on."""
    for sample in samples:
        try:
            work(sample)
        except SampleError as error:
            sample.end(error.reason, error.detail)
        except MemoryError:
            sample.end(Reason.DECODE_OOM, "not enough memory")
    return samples
