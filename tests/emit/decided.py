"""A run of several modalities that real rules have decided about, and the report's input as a driver makes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmdata.counters import Counters, StageCount
from mmdata.emit.report import ReportInput, ShardFiles
from mmdata.emit.report_rows import Rows
from mmdata.emit.report_rules import AppliedRule, applied, best_columns, limits_of
from mmdata.run.catalog import RULES, load_class
from mmdata.sample import Sample
from mmdata.select.counts import SelectionCounts
from mmdata.select.rules import Rule
from mmdata.select.selection import select
from mmdata.select.tables import ShardTables
from mmdata.shards import ledger, storage
from mmdata.shards.folders import RunFolder
from tests.builders import failed_sample, image_sample, write_staged_shard
from tests.emit.emitted import SEED
from tests.emit.media import audio_sample, document, video_sample

PICTURES = 60
# Of every ten captions six have a cat, three a dog, one an owl; each third picture has one of four contents.
ANIMALS = ["cat"] * 6 + ["dog"] * 3 + ["owl"]
DECISIONS: list[tuple[str, Mapping[str, Any]]] = [
    ("dedup", {"by": "sha256", "keep_best": "clip_similarity"}),
    ("thresholds", {"clip_similarity": {"min": 0.1, "missing": "keep"}}),
    ("thresholds", {"bytes": {"max": "p90", "per": "source"}}),
    ("long_tail", {"ngrams": 1, "t": 8, "unmatched": "keep"}),
    ("balance", {"by": "modality", "caps": {"image_text": 12}}),
    ("mixture", {"by": "modality", "weights": {"image_text": 1, "audio_text": 2, "video_text": 1, "instruct": 1}}),
]


@dataclass(frozen=True)
class Decided:
    """A run, what its rules counted, and where its tables lie."""

    run: RunFolder
    rules: list[AppliedRule]
    counts: SelectionCounts
    files: list[ShardFiles]
    tables: list[dict[str, Any]] = field(default_factory=list)  # every row of selection over its ledger's

    def rows(self, scratch: Path) -> Rows:
        columns = [limit.column for limit in limits_of(self.rules)] + best_columns(self.rules)
        return Rows(self.files, columns, scratch)

    def report(self) -> ReportInput:
        stages = {"decode_image": StageCount(PICTURES, PICTURES, 0, 0, 0.5), "log_mel": StageCount(0, 0, 0, 0, 0.0)}
        counters = Counters(self.counts.rows, 1_000_000, 90_000, 3.0, Counter(ok=self.counts.rows), stages)
        return ReportInput(
            "decided", None, "ab" * 32, self.files, counters, {}, self.rules, "name: decided\n", selection="s"
        )


def samples_of_all() -> list[list[Sample]]:
    """Shards of pictures, sound, films and dialogues."""
    pictures = [
        failed_sample("pictures", row)
        if row % 20 == 7
        else image_sample(
            "pictures", row, f"a {ANIMALS[row % 10]} number {row}", content=row % 12 if row % 3 == 0 else row
        )
        for row in range(PICTURES)
    ]
    half = PICTURES // 2
    return [
        pictures[:half],
        pictures[half:],
        [audio_sample(row) for row in range(6)],
        [video_sample(row) for row in range(2)],
        [document("instruct", row, row % 2) for row in range(4)],
    ]


def decide(
    folder: Path, decisions: Sequence[tuple[str, Mapping[str, Any]]], shards: Sequence[Sequence[Sample]]
) -> Decided:
    """Write the shards as a run below `folder`, pictures with scores, and let the rules decide."""
    run = RunFolder(str(folder / "run"))
    tables, has_scores = [], []
    for number, samples in enumerate(shards):
        is_pictures = samples[0].columns["modality"] == "image_text"
        similarity = [(sample.columns["row"] * 7 % 40) / 100 for sample in samples] if is_pictures else None
        write_staged_shard(run, number, samples, similarity)
        has_scores.append({"image_text": run.scores("image_text", number)} if is_pictures else {})
        tables.append(ShardTables(number, run.ledger(number), has_scores[-1]))
    rules: list[Rule] = []
    for number, (name, options) in enumerate(decisions):
        rules.append(load_class(RULES[name]).parse(options, f"select[{number}]"))
    found: list[dict[str, Any]] = []

    def write(shard: int, table: pa.Table) -> None:
        storage.write_whole(run.selection("s", shard), ledger.parquet_bytes(table))
        both = zip(ledger.read(run.ledger(shard)).to_pylist(), table.to_pylist(), strict=True)
        found.extend(row | final for row, final in both)

    counts = select(tables, rules, seed=SEED, val_share=0.2, scratch=folder / "select", write=write)
    files = [
        ShardFiles(number, run.ledger(number), scores, run.selection("s", number), run.staged(number))
        for number, scores in enumerate(has_scores)
    ]
    return Decided(run, applied(decisions, counts.rules), counts, files, found)
