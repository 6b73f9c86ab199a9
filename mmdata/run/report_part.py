"""The report part of a run: what the page is made from, and whether the one that is there still holds."""

from __future__ import annotations

from pathlib import Path

import yaml

from mmdata.counters import Counters
from mmdata.emit.report import ReportInput, ShardFiles, write_report
from mmdata.run.dataset import Selection
from mmdata.run.driver import Driver
from mmdata.run.removals import Removals
from mmdata.shards import storage


def report_part(
    driver: Driver,
    selection: Selection,
    dataset: str | None,
    digest: str,
    counters: Counters,
    scores: dict[str, Counters],
) -> None:
    """Write the run's page, unless the one there shows this dataset already."""
    if _shows(driver.run.report, digest):
        return
    pipeline = driver.pipeline
    removals = Removals.of(driver.run)
    shards = [ShardFiles(s.shard, s.ledger, dict(s.scores), s.selection, s.staged) for s in selection.shards]
    thresholds = {
        column: {bound: float(limits[bound]) for bound in ("min", "max") if isinstance(limits.get(bound), int | float)}
        for entry in pipeline.select
        if entry.name == "thresholds"
        for column, limits in entry.options.items()
    }
    given = ReportInput(
        name=pipeline.name,
        dataset=Path(dataset).name if dataset else None,
        digest=digest or None,
        shards=shards,
        counters=counters,
        score_counters=scores,
        thresholds=thresholds,
        config_yaml=yaml.safe_dump(pipeline.to_yaml(), sort_keys=False, allow_unicode=True),
        notes=pipeline.notes,
        removed=removals.ledger_mask if removals else None,
    )
    write_report(given, driver.run.report)


def _shows(report: str, digest: str) -> bool:
    """True where the page is there and is of the dataset with this digest."""
    try:
        return digest.encode() in storage.read_bytes(report)
    except FileNotFoundError:
        return False
