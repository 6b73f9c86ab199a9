"""The report: one self-contained HTML page of a run, finished or not, and one that goes with a dataset.

No script, no font, no picture and no style from elsewhere; the policy in its head forbids all of them, even if
something foreign got past the escaping. The same input gives the same bytes, except for the measured seconds.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
from markupsafe import Markup

from mmdata.counters import Counters
from mmdata.emit import report_bars, report_charts, report_drawing, report_sankey, report_text
from mmdata.emit.report_balance import asked_for, came_to, weights_of
from mmdata.emit.report_data import Facts, StageTime, facts_of, stage_times
from mmdata.emit.report_duplicates import duplicates_of
from mmdata.emit.report_pictures import fill, picture_shards, sheets_of
from mmdata.emit.report_rows import Rows, ShardFiles
from mmdata.emit.report_rules import AppliedRule, best_columns, limits_of
from mmdata.emit.report_sayings import texts_of
from mmdata.emit.report_scores import planted_curve, primary_column, score_columns, sizes_of
from mmdata.emit.report_tail import tails_of
from mmdata.shards import storage

__all__ = ["ReportInput", "ShardFiles", "write_report"]


@dataclass
class ReportInput:
    """What a report is made from.

    shards: those that ingest has finished; at least one. counters: of ingest. score_counters: by scorer. rules: of
    selection, in order. notes: a heading and a text each; the first whose heading has the word threshold stands beside
    the thresholds and says how they were chosen. num_shards: how many the plan has, where fewer are given. removed:
    gives which rows of a ledger were removed; nothing of those is shown. selection: its name, by which the page is
    known. written: by modality and split, what the dataset has: samples, shards, bytes.
    for_dataset: the page goes with the dataset, whose bytes hang on its input alone: it has no media, no captions
    and no details of rows that are not kept, no seconds, no configuration.
    """

    name: str
    dataset: str | None
    digest: str | None
    shards: Sequence[ShardFiles]
    counters: Counters
    score_counters: dict[str, Counters]
    rules: Sequence[AppliedRule]
    config_yaml: str
    notes: dict[str, str] = field(default_factory=dict)
    num_shards: int | None = None
    removed: Callable[[pa.Table], Any] | None = None
    selection: str = ""
    written: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    for_dataset: bool = False


def write_report(report: ReportInput, path: str, dataset_path: str = "") -> None:
    """Write the page of a run whole to `path`, and the one that goes with its dataset to dataset_path.

    Both are local paths or URLs. Raises ShardError where tables do not belong together.
    """
    columns = [limit.column for limit in limits_of(report.rules)] + best_columns(report.rules)
    with tempfile.TemporaryDirectory(prefix="mmdata-report-") as scratch:
        rows = Rows(report.shards, columns, Path(scratch), report.removed)
        try:
            counted = _counted(report, rows)
            storage.write_whole(path, _page(report, rows, counted))
            if dataset_path:
                of_dataset = replace(report, for_dataset=True, dataset=None, config_yaml="", selection="")
                storage.write_whole(dataset_path, _page(of_dataset, rows, counted))
        finally:
            rows.close()


def _page(report: ReportInput, rows: Rows, counted: Mapping[str, Any]) -> bytes:
    """The page, with the samples that it may show."""
    facts, duplicates = counted["facts"], counted["duplicates"]
    sheets = sheets_of(rows, limits_of(report.rules), kept_only=report.for_dataset)
    groups = duplicates.sheets if duplicates and not report.for_dataset else []
    kept, others = ([sheet for sheet in sheets if (sheet.kind == "kept") is first] for first in (True, False))
    fill(rows, [*kept, *groups, *others])
    examples = [] if report.for_dataset else [place for line in facts.reasons for place in line.examples]
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            **counted,
            report=report,
            texts=texts_of(rows, examples),
            groups=[sheet for sheet in groups if sheet.pictures],
            sheets=[sheet for sheet in sheets if sheet.pictures],
            parts=[] if report.for_dataset else _parts(report, facts.stages),
        )
    )
    return page.encode("utf-8", "replace")


def _counted(report: ReportInput, rows: Rows) -> dict[str, Any]:
    """What both pages have."""
    limits, pictured = limits_of(report.rules), picture_shards(rows)
    facts = facts_of(rows)
    facts.stages = stage_times([("ingest", report.counters), *report.score_counters.items()])
    sizes, curve = sizes_of(rows), planted_curve(rows, limits)
    note, notes = _notes(report.notes)
    style = _template_file("report.css")
    return {
        "facts": facts,
        "finished": rows.has_selection,
        "waiting": not rows.has_selection
        or any(loss.status == "waiting" for step in facts.steps for loss in step.losses),
        "policy": _policy(style),
        "style": Markup(style),
        "funnel": report_drawing.funnel(facts.steps, facts.splits),
        "sankey": report_sankey.sankey(report_sankey.streams_of(rows)),
        "columns": [(column, report_charts.score_chart(column)) for column in score_columns(rows, report.rules)],
        "curve": curve,
        "curve_chart": report_charts.curve_chart(curve) if curve else None,
        "sizes": sizes,
        "sizes_chart": report_charts.sizes_chart(sizes) if sizes else None,
        "bytes_chart": report_charts.bytes_chart(sizes) if sizes and sizes.bytes_bins else None,
        "balances": [*asked_for(report.rules), *came_to(rows)],
        "weights": weights_of(report.rules),
        "tails": [(tail, report_bars.tail_chart(tail)) for tail in tails_of(rows, report.rules, pictured)],
        "duplicates": duplicates_of(rows, report.rules, pictured),
        "bars": report_bars,
        "score": primary_column(rows, limits),
        "picture_shards": len(pictured),
        "threshold_note": note,
        "notes": notes,
        "shares": _shares(facts),
    }


@functools.cache
def _environment() -> jinja2.Environment:
    """Templates beside this file; whatever they print is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template_file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name in ("amount", "breakable", "count", "share", "size", "seconds", "value", "clean", "clean_lines"):
        environment.filters[name] = getattr(report_text, name)
    return environment


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
        lines = [stage for stage in stages if stage.part == name and stage.given]
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
