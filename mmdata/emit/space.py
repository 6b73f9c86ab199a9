"""Is there room for the dataset? Asked before emit starts, so that it does not stop half-way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmdata.emit.plan import WindowJob
from mmdata.errors import StorageError
from mmdata.shards import storage

# Of one sample beside its media: three tar headers with padding, txt, json, sidecar and index rows.
_BYTES_PER_SAMPLE = 4096
_SPARE_BYTES = 64 << 20


def needed_bytes(jobs: Sequence[WindowJob], staged_samples: Mapping[int, int]) -> int:
    """Estimate of what the jobs write. staged_samples: samples in each staged tar, by shard."""
    needed = 0.0
    for job in jobs:
        staged_bytes = sum(storage.size_bytes(shard.staged) or 0 for shard in job.shards)
        staged = sum(staged_samples.get(shard.shard, 0) for shard in job.shards)
        samples = sum(sum(output.sizes) for output in job.outputs)
        media = staged_bytes * samples / staged if staged else staged_bytes
        needed += len(job.formats) * (media + _BYTES_PER_SAMPLE * samples)
    return int(needed)


def check_space(dataset_root: str, needed: int) -> None:
    """Raise StorageError where less than `needed` bytes and some spare are free; object stores have no end."""
    free = storage.free_bytes(dataset_root)
    if free is not None and free < needed + _SPARE_BYTES:
        raise StorageError(
            f"{dataset_root}: {_mb(free)} free, but the dataset needs about {_mb(needed + _SPARE_BYTES)}; free space, "
            "give another DATASET, or emit one format"
        )


def _mb(number: int) -> str:
    return f"{number / 1e6:,.0f} MB"
