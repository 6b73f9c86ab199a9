"""From a pilot to the whole: rows by reason, bytes, hours, GPU hours, cost and shards, each with its interval.

Shares are after Wilson where every row of the input is one row of the ledger; else, and for bytes and seconds, rows of
the input are drawn again. Copies of one another are fewer in a sample than in the whole, and are told from pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdata.config import Pipeline
from mmdata.emit.plan import cut
from mmdata.errors import Reason
from mmdata.run.catalog import Resolved
from mmdata.run.census import SourceRows
from mmdata.run.intervals import Interval, bootstrap, copies, exactly, wilson
from mmdata.run.pace import ingest_pace, score_pace
from mmdata.run.pilot import Measured
from mmdata.run.prices import Cost, Prices, cost_of
from mmdata.select.dedup import Dedup
from mmdata.stage import Stage

COPIES_BY = {
    "url": Reason.DUPLICATE_URL,
    "sha256": Reason.DUPLICATE_CONTENT,
    "phash": Reason.NEAR_DUPLICATE,
    "caption": Reason.DUPLICATE_CAPTION,
    "caption_hash": Reason.DUPLICATE_CAPTION,
    "caption_simhash": Reason.DUPLICATE_CAPTION,
    "embedding": Reason.SEMANTIC_DUPLICATE,
}
COPIES = frozenset(reason.value for reason in COPIES_BY.values())


@dataclass(frozen=True)
class Wishes:
    """What the projection is for. gpus, loader_workers: of the trainer, or of scorers that use a GPU."""

    pilot: int = 0
    workers: int = 1
    gpus: int = 0
    loader_workers: int = 1
    prices: Prices | None = None


@dataclass(frozen=True)
class Loading:
    """Whether the training shards of a modality are enough for every loader to have one of its own.

    samples_per_shard: with which they would be; 0 where there are too few samples for that.
    """

    modality: str
    samples: int
    shards: int
    needed: int
    samples_per_shard: int

    @property
    def is_enough(self) -> bool:
        return self.shards >= self.needed


@dataclass
class Projection:
    """All numbers. Bytes and hours are of the whole run, hours of `workers` working at once in `wall_hours`."""

    rows: int
    sampled: int
    reasons: dict[str, Interval]
    unseen: Interval  # rows of any one reason that no row of the sample had
    kept: Interval
    network_bytes: Interval
    staged_bytes: Interval
    dataset_bytes: Interval
    table_bytes: float
    hours: dict[str, Interval]  # of one worker, by part
    wall_hours: Interval
    cpu_hours: Interval
    gpu_hours: Interval
    workers: int
    loading: list[Loading] = field(default_factory=list)
    cost: Cost | None = None
    skipped: list[str] = field(default_factory=list)

    @property
    def samples_per_s(self) -> Interval:
        """Kept samples by wall-clock time."""
        slow, middle, fast = (max(hours * 3600, 1e-9) for hours in reversed(_bounds(self.wall_hours)))
        return Interval(self.kept.low / slow, self.kept.value / middle, self.kept.high / fast)


def project(
    pipeline: Pipeline, resolved: Resolved, sources: Sequence[SourceRows], measured: Measured, wishes: Wishes
) -> Projection:
    """The projection of what was measured to all rows of the sources."""
    rows, seed = sum(source.rows for source in sources), pipeline.seed
    reasons = _reasons(resolved, measured, rows, seed)
    kept, per_kept = _kept(measured, reasons, rows, seed)
    reasons["ok"] = kept
    network = bootstrap(measured.network_bytes, rows, seed).times(rows)
    staged = bootstrap(measured.staged_bytes, rows, seed).times(rows)
    shards = _shards(pipeline, sources, measured, kept.value)
    dataset = _dataset_bytes(measured, rows, seed, per_kept, sum(shards.values()))
    hours, cpus, gpus = _hours(pipeline, resolved, sources, measured, kept)
    cpu_hours, gpu_hours, wall = exactly(0.0), exactly(0.0), exactly(0.0)
    for part, spent in hours.items():
        on_gpu = gpus[part]
        cpu_hours = cpu_hours.plus(spent.times(cpus[part]))
        gpu_hours = gpu_hours.plus(spent) if on_gpu else gpu_hours
        at_once = max(1, wishes.gpus) if on_gpu else max(1, int(wishes.workers // cpus[part]))
        wall = wall.plus(spent.times(1 / at_once))
    found = Projection(
        rows=rows,
        sampled=measured.rows,
        reasons=reasons,
        unseen=wilson(0, measured.rows, rows, len(measured.counts)).times(rows),
        kept=kept,
        network_bytes=network,
        staged_bytes=staged,
        dataset_bytes=dataset,
        table_bytes=measured.table_bytes * rows,
        hours=hours,
        wall_hours=wall,
        cpu_hours=cpu_hours,
        gpu_hours=gpu_hours,
        workers=wishes.workers,
        skipped=measured.skipped,
    )
    if wishes.gpus:
        found.loading = _loading(pipeline, sources, measured, kept.value, wishes.gpus * wishes.loader_workers)
    if wishes.prices is not None:
        stored = staged.plus(dataset).plus(exactly(found.table_bytes))
        found.cost = cost_of(wishes.prices, cpu_hours, gpu_hours, network, stored)
    return found


def _bounds(interval: Interval) -> tuple[float, float, float]:
    return interval.low, interval.value, interval.high


def _reasons(resolved: Resolved, measured: Measured, rows: int, seed: int) -> dict[str, Interval]:
    found = {}
    total = sum(measured.counts.values(), np.zeros(measured.rows))
    for reason, counts in measured.counts.items():
        if reason == "ok":
            continue
        if reason in COPIES:
            found[reason] = copies(int(counts.sum()), measured.rows, rows, rows * float(_eligible(measured).mean()))
        else:
            found[reason] = _count(counts, total, rows, seed, len(measured.counts))
    for rule in resolved.rules:
        if isinstance(rule, Dedup) and not rule.against and rule.action == "drop":
            reason = COPIES_BY[rule.by].value  # of which a sample may show none
            found.setdefault(reason, copies(0, measured.rows, rows, rows * float(_eligible(measured).mean())))
    return found


def _count(counts: NDArray[np.float64], total: NDArray[np.float64], rows: int, seed: int, at_once: int) -> Interval:
    if (total == 1).all():
        return wilson(int(counts.sum()), len(counts), rows, at_once).times(rows)
    return bootstrap(counts, rows, seed, at_once).times(rows)


def _eligible(measured: Measured) -> NDArray[np.float64]:
    """Rows that are kept or copies of others, by row of the input."""
    of = [counts for reason, counts in measured.counts.items() if reason == "ok" or reason in COPIES]
    return sum(of, np.zeros(measured.rows))


def _kept(measured: Measured, reasons: Mapping[str, Interval], rows: int, seed: int) -> tuple[Interval, Interval]:
    """Kept rows of the whole; and as a share of what would be kept without further copies."""
    total = sum(measured.counts.values(), np.zeros(measured.rows))
    either = _count(_eligible(measured), total, rows, seed, 1)
    low, value, high = _bounds(either)
    gone = [reasons[reason] for reason in COPIES if reason in reasons]
    lost = Interval(*(sum(getattr(each, name) for each in gone) for name in ("low", "value", "high")))
    kept = Interval(max(0.0, low - lost.high), max(0.0, value - lost.value), max(0.0, high - lost.low))
    naive = rows * float(measured.counts.get("ok", np.zeros(measured.rows)).mean())
    found = rows / measured.rows * sum(float(measured.counts[reason].sum()) for reason in COPIES & set(measured.counts))
    if not naive:
        return kept, exactly(1.0)
    shares = ((naive + found - each) / naive for each in (lost.high, lost.value, lost.low))
    return kept, Interval(*(max(0.0, share) for share in shares))


def _dataset_bytes(measured: Measured, rows: int, seed: int, per_kept: Interval, shards: int) -> Interval:
    """By the media of what is kept, and by shard what every shard has once."""
    media = float(measured.kept_bytes.sum())
    if not media:
        return exactly(0.0)
    each = bootstrap(measured.kept_bytes * (measured.dataset_bytes / media), rows, seed).times(rows)
    parts = (a * b for a, b in zip(_bounds(each), _bounds(per_kept), strict=True))
    return Interval(*parts).plus(exactly(shards * measured.shard_bytes))


def _hours(
    pipeline: Pipeline, resolved: Resolved, sources: Sequence[SourceRows], measured: Measured, kept: Interval
) -> tuple[dict[str, Interval], dict[str, float], dict[str, bool]]:
    """Hours of one worker by part, how many processors it takes, and whether a GPU."""
    batch = max((stage.batch_size for stage in resolved.stages), default=16)
    seconds = exactly(0.0)
    for source in sources:
        counts = [commit.counts for plan, commit in measured.ingest if plan.source == source.name]
        if counts:
            links = pipeline.fetch.concurrency if source.name in measured.linked else 0
            pace = ingest_pace(counts, batch, links)
            seconds = seconds.plus(pace.seconds(source.rows, source.shards, pipeline.seed))
    hours, cpus, gpus = {"ingest": seconds.times(1 / 3600)}, {"ingest": 1.0}, {"ingest": False}
    rows, num_shards = sum(source.rows for source in sources), sum(source.shards for source in sources)
    for name, commits in measured.scores.items():
        scorer: Stage = resolved.scorers[name]
        scoring = score_pace([commit.counts for commit in commits], scorer.batch_size)
        scored = sum(commit.counts["samples"] for commit in commits) / measured.rows * rows
        part = f"score.{name}"
        spent = scoring.seconds(round(scored), num_shards, pipeline.seed) if scoring else exactly(0.0)
        hours[part] = spent.times(1 / 3600)
        gpus[part] = any(commit.counts["facts"].get("device", "").startswith("cuda") for commit in commits)
        cpus[part] = max(scorer.resources.cpus, float(getattr(scorer, "threads", 1)))
    emitted = max(1, sum(measured.kept.values()))
    hours["emit"], cpus["emit"], gpus["emit"] = kept.times(measured.emit_s / emitted / 3600), 1.0, False
    return hours, cpus, gpus


def _shards(pipeline: Pipeline, sources: Sequence[SourceRows], measured: Measured, kept: float) -> dict[str, int]:
    """Shards of all splits, by modality."""
    val = pipeline.emit.val_share
    return {
        modality: sum(
            num_shards(samples * share, _windows(pipeline, sources, modality), pipeline.emit.samples_per_shard)
            for share in (val, 1 - val)
        )
        for modality, samples in _by_modality(measured, kept).items()
    }


def _by_modality(measured: Measured, kept: float) -> dict[str, float]:
    total = max(1, sum(measured.kept.values()))
    return {modality: kept * number / total for modality, number in sorted(measured.kept.items())}


def _windows(pipeline: Pipeline, sources: Sequence[SourceRows], modality: str) -> int:
    shards = sum(source.shards for source in sources if source.modality == modality)
    return max(1, -(-shards // pipeline.emit.window_shards))


def num_shards(samples: float, windows: int, samples_per_shard: int) -> int:
    """Shards of so many samples in windows that are cut on their own."""
    return windows * len(cut(round(samples / windows), samples_per_shard))


def _loading(
    pipeline: Pipeline, sources: Sequence[SourceRows], measured: Measured, kept: float, needed: int
) -> list[Loading]:
    found = []
    for modality, samples in _by_modality(measured, kept * (1 - pipeline.emit.val_share)).items():
        windows = _windows(pipeline, sources, modality)
        now = num_shards(samples, windows, pipeline.emit.samples_per_shard)
        size = min(pipeline.emit.samples_per_shard, int(samples // needed))
        while size > 0 and num_shards(samples, windows, size) < needed:
            size = size * 9 // 10
        found.append(Loading(modality, round(samples), now, needed, size))
    return found


def to_json(found: Projection) -> dict[str, Any]:
    """The projection as plain values; every interval as low, value and high."""
    tree: dict[str, Any] = {
        "rows": found.rows,
        "sampled": found.sampled,
        "workers": found.workers,
        "reasons": {reason: each.to_json() for reason, each in sorted(found.reasons.items())},
        "table_bytes": round(found.table_bytes),
        "hours": {part: each.to_json() for part, each in found.hours.items()},
        "not_projected": found.skipped,
    }
    for name in ("unseen", "samples_per_s", "network_bytes", "staged_bytes", "dataset_bytes"):
        tree[name] = getattr(found, name).to_json()
    for name in ("wall_hours", "cpu_hours", "gpu_hours"):
        tree[name] = getattr(found, name).to_json()
    tree["loading"] = [{**vars(each), "is_enough": each.is_enough} for each in found.loading]
    if found.cost is not None:
        cost = {name: getattr(found.cost, name).to_json() for name in ("once", "cpu", "gpu", "network", "month")}
        tree["cost"] = {**cost, "currency": found.cost.currency}
    return tree
