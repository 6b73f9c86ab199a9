"""The report part of a run: what its page and the dataset's are made from, and whether those there still hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import yaml

from mmdata.counters import Counters
from mmdata.emit.report import ReportInput, ShardFiles, write_report
from mmdata.emit.report_rules import applied
from mmdata.run.dataset import Selection
from mmdata.run.driver import Driver
from mmdata.run.removals import Removals
from mmdata.shards import storage
from mmdata.shards.folders import DatasetFolder


def report_part(
    driver: Driver,
    selection: Selection,
    dataset: str | None,
    digest: str,
    counters: Counters,
    scores: dict[str, Counters],
) -> None:
    """Write the run's page and the one that goes with the dataset, unless those there show this dataset already."""
    of_dataset = DatasetFolder(dataset).report if dataset else ""
    if _shows(driver.run.report, [digest, selection.key]) and (not of_dataset or _shows(of_dataset, [digest])):
        return
    pipeline = driver.pipeline
    removals = Removals.of(driver.run)
    rules = [*((rule.name, {}) for rule in driver.removed), *((entry.name, entry.options) for entry in pipeline.select)]
    of_run = ReportInput(
        name=pipeline.name,
        dataset=Path(dataset).name if dataset else None,
        digest=digest or None,
        selection=selection.key,
        shards=[ShardFiles(s.shard, s.ledger, dict(s.scores), s.selection, s.staged) for s in selection.shards],
        counters=_in_order(counters, [stage.name for stage in driver.resolved.stages]),
        score_counters=scores,
        rules=applied(rules, selection.counts.rules),
        config_yaml=yaml.safe_dump(pipeline.to_yaml(), sort_keys=False, allow_unicode=True),
        notes=pipeline.notes,
        removed=removals.ledger_mask if removals else None,
        written=_written(dataset) if dataset else {},
    )
    write_report(of_run, driver.run.report, of_dataset)


def _in_order(counters: Counters, stages: Sequence[str]) -> Counters:
    """The same with its stages in the order of the pipeline: records on disk have them by name."""
    order = {name: place for place, name in enumerate(["fetch", *stages])}
    ordered = sorted(counters.stages.items(), key=lambda item: order.get(item[0], len(order)))
    return replace(counters, stages=dict(ordered))


def _shows(report: str, names: Sequence[str]) -> bool:
    """True where the page is there and has these names: the digest of its dataset, and of a run its selection's.

    For a run the digest alone will not do: what is removed may be shown on its page and be in no dataset.
    """
    try:
        page = storage.read_bytes(report)
    except FileNotFoundError:
        return False
    return all(name.encode() in page for name in names)


def _written(dataset: str) -> Mapping[str, Any]:
    """By modality and split, samples, shards and bytes of a dataset."""
    tree = orjson.loads(storage.read_bytes(DatasetFolder(dataset).manifest))
    found: Mapping[str, Any] = tree["samples"]
    return found
