"""The report of a run: one self-contained HTML page, for a finished run and for a half-finished one.

No script, no font, no picture and no style from elsewhere; the policy in its head forbids all of them, even if
something foreign got past the escaping. The same input gives the same bytes, except for the measured seconds.
"""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
from markupsafe import Markup

from mmdata.counters import Counters
from mmdata.emit import report_charts, report_drawing, report_text
from mmdata.emit.report_data import Facts, StageTime, facts_of, stage_times
from mmdata.emit.report_pictures import PICTURE_SHARDS, sheets_of, texts_of
from mmdata.emit.report_rows import Rows, ShardFiles
from mmdata.emit.report_scores import planted_curve, primary_column, score_columns, sizes_of
from mmdata.shards import storage

__all__ = ["ReportInput", "ShardFiles", "write_report"]


@dataclass
class ReportInput:
    """What a report is made from.

    shards: those that ingest has finished; at least one. counters: of ingest. score_counters: by scorer.
    thresholds: by column, `min` and/or `max`. notes: a heading and a text each; the first whose heading has
    the word threshold stands beside the threshold and says how it was chosen. num_shards: how many the plan
    has, where fewer are given. removed: gives which rows of a ledger were removed; nothing of those is shown.
    """

    name: str
    dataset: str | None
    digest: str | None
    shards: Sequence[ShardFiles]
    counters: Counters
    score_counters: dict[str, Counters]
    thresholds: dict[str, dict[str, float]]
    config_yaml: str
    notes: dict[str, str] = field(default_factory=dict)
    num_shards: int | None = None
    removed: Callable[[pa.Table], Any] | None = None


def write_report(report: ReportInput, path: str) -> None:
    """Write the page whole to `path` (a local path or URL). Raises ShardError where tables do not belong together."""
    with tempfile.TemporaryDirectory(prefix="mmdata-report-") as scratch:
        rows = Rows(report.shards, list(report.thresholds), Path(scratch), report.removed)
        try:
            page = _render(report, rows)
        finally:
            rows.close()
    storage.write_whole(path, page.encode("utf-8", "replace"))


def _render(report: ReportInput, rows: Rows) -> str:
    facts = facts_of(rows)
    facts.stages = stage_times([("ingest", report.counters), *report.score_counters.items()])
    style = _template_file("report.css")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template_file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name in ("count", "share", "size", "seconds", "value", "clean", "clean_lines"):
        environment.filters[name] = getattr(report_text, name)
    sizes = sizes_of(rows)
    curve = planted_curve(rows, report.thresholds)
    note, notes = _notes(report.notes)
    return environment.get_template("report.html.j2").render(
        report=report,
        facts=facts,
        finished=rows.has_selection,
        waiting=not rows.has_selection or any(loss.status == "waiting" for step in facts.steps for loss in step.losses),
        policy=_policy(style),
        style=Markup(style),
        funnel=report_drawing.funnel(facts.steps, facts.splits),
        texts=texts_of(rows, [place for line in facts.reasons for place in line.examples]),
        columns=[(column, report_charts.score_chart(column)) for column in score_columns(rows, report.thresholds)],
        curve=curve,
        curve_chart=report_charts.curve_chart(curve) if curve else None,
        sizes=sizes,
        sizes_chart=report_charts.sizes_chart(sizes) if sizes else None,
        bytes_chart=report_charts.bytes_chart(sizes) if sizes and sizes.bytes_bins else None,
        share_bar=report_charts.share_bar,
        bar=report_charts.bar,
        sheets=sheets_of(rows, report.thresholds),
        score=primary_column(rows, report.thresholds),
        picture_shards=min(len(rows.shards), PICTURE_SHARDS),
        threshold_note=note,
        notes=notes,
        parts=_parts(report, facts.stages),
        shares=_shares(facts),
    )


def _notes(notes: dict[str, str]) -> tuple[str, dict[str, str]]:
    """The note on the threshold, by its heading, and all the others."""
    chosen = next((heading for heading in notes if "threshold" in heading.lower()), None)
    return notes.get(chosen or "", ""), {heading: text for heading, text in notes.items() if heading != chosen}


def _policy(style: str) -> str:
    """The page may show its own pictures and its one style sheet, and nothing else at all."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    media = "img-src data:; media-src data:"
    return f"default-src 'none'; {media}; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _parts(report: ReportInput, stages: Sequence[StageTime]) -> list[tuple[str, Counters, list[StageTime], float]]:
    """Each part with its stages and the seconds of the slowest of them, or of all where they have none."""
    parts = []
    for name, counters in (("ingest", report.counters), *report.score_counters.items()):
        lines = [stage for stage in stages if stage.part == name]
        parts.append((name, counters, lines, sum(stage.seconds for stage in lines)))
    return parts


def _shares(facts: Facts) -> list[tuple[str, str, list[Any]]]:
    """Tables of what became of the rows, by source and by what else there is more than one of."""
    tables: list[tuple[str, str, list[Any]]] = [("sources", "By source", facts.sources)]
    if len(facts.modalities) > 1:
        tables.append(("modalities", "By modality", facts.modalities))
    if len(facts.languages) > 1:
        tables.append(("languages", "By language", facts.languages))
    return tables


def _template_file(name: str) -> str:
    return resources.files("mmdata.emit").joinpath("templates", name).read_text(encoding="utf-8")
