"""The report's laws: every row is counted under its reason, nothing foreign becomes markup, nothing is loaded."""

from __future__ import annotations

import html
import io
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from mmdata.counters import Counters, StageCount
from mmdata.emit.report import ReportInput, ShardFiles, write_report
from mmdata.emit.report_data import facts_of
from mmdata.emit.report_media import SOUND_BYTES
from mmdata.emit.report_pictures import KEPT_PICTURES, PAGE_PICTURES_BYTES, PAGE_SOUND_BYTES, PICTURE_SHARDS
from mmdata.emit.report_rows import Rows
from mmdata.emit.report_rules import applied, limits_of
from mmdata.emit.report_scores import planted_curve, score_columns
from mmdata.emit.report_text import clean, share, size
from mmdata.errors import Reason, ShardError
from mmdata.sample import Sample
from mmdata.shards import ledger, storage
from mmdata.shards.folders import RunFolder
from tests.builders import failed_sample, image_sample, jpeg, write_run, write_staged_shard
from tests.emit.media import audio_sample

NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "\x1b[31mred\x1b[0m\x07",
    "invoice\u202egpj.exe",
    "x" * 1_000_000,
    "</style></title><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
]
RULES = applied([("thresholds", {"clip_similarity": {"min": 0.2}})])


class Tags(HTMLParser):
    """Every tag with its attributes, and the text of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.text += " " if tag in ("td", "th") else ""

    def handle_data(self, data: str) -> None:
        self.text += data


def select(run: RunFolder, shard: int, threshold: float = 0.2) -> None:
    """A selection table as select/ writes it: a threshold on the similarity, every tenth kept row to val."""
    rows = ledger.read(run.ledger(shard), ["key", "reason", "detail"]).to_pylist()
    similarity = ledger.read(run.scores("image_text", shard), ["clip_similarity"])["clip_similarity"].to_pylist()
    reasons = [
        row["reason"] if value is None else "ok" if value >= threshold else Reason.SCORE_LOW.value
        for row, value in zip(rows, similarity, strict=True)
    ]
    keep = [reason == "ok" for reason in reasons]
    table = {
        "key": [row["key"] for row in rows],
        "status": [Reason(reason).status.value for reason in reasons],
        "reason": reasons,
        "detail": [
            row["detail"] if reason == row["reason"] else "too low" for row, reason in zip(rows, reasons, strict=True)
        ],
        "keep": keep,
        "repeat": pa.array([int(kept) for kept in keep], pa.int32()),
        "split": [("val" if i % 10 == 0 else "train") if kept else None for i, kept in enumerate(keep)],
    }
    storage.write_whole(run.selection("s", shard), ledger.parquet_bytes(pa.table(table)))


def files(run: RunFolder, shards: int, selected: bool = True) -> list[ShardFiles]:
    return [
        ShardFiles(
            shard,
            run.ledger(shard),
            {"image_text": run.scores("image_text", shard)},
            run.selection("s", shard) if selected else None,
            run.staged(shard),
        )
        for shard in range(shards)
    ]


def report_of(shards: list[ShardFiles], **changes: object) -> ReportInput:
    stages = {"fetch_http": StageCount(60, 51, 9, 0, 2.0), "decode_image": StageCount(51, 51, 0, 0, 0.5)}
    counters = Counters(60, 1_000_000, 90_000, 3.0, Counter({"ok": 51}), stages)
    scored = Counters(51, 0, 0, 1.0, Counter(ok=51), {"image_text": StageCount(51, 51, 0, 0, 0.9)})
    report = ReportInput(
        "demo", "datasets/demo", "ab" * 32, shards, counters, {"image_text": scored}, RULES, "name: demo\n"
    )
    return replace(report, **changes)  # type: ignore[arg-type]


def page_of(report: ReportInput, folder: Path) -> str:
    path = folder / "report.html"
    write_report(report, str(path))
    return path.read_text(encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = write_run(tmp_path / "run")
    for shard in range(3):
        select(run, shard)
    return run


def nasty_run(folder: Path) -> RunFolder:
    """Every nasty text as caption, link, detail, licence and kind of planted fault."""
    run = RunFolder(str(folder / "nasty"))
    samples: list[Sample] = []
    for row, text in enumerate(NASTY):
        good = image_sample("pictures", 2 * row, caption=text)
        bad = failed_sample("pictures", 2 * row + 1, detail=text)
        for sample in (good, bad):
            sample.columns["url"] = f"http://{text[:2000]}/{text[:2000]}"
            sample.columns["caption"] = text
        samples += [good, bad]
    texts = [text for text in NASTY for _ in range(2)]
    own = pa.table({"license": texts, "planted": texts, "expected_reason": texts})
    write_staged_shard(run, 0, samples, [0.5] * len(samples), own)
    select(run, 0)
    return run


def test_every_reason_is_on_the_page_with_its_count(run: RunFolder, tmp_path: Path) -> None:
    text = Tags(page_of(report_of(files(run, 3)), tmp_path)).text
    found = Counter[str]()
    for shard in range(3):
        found.update(ledger.read(run.selection("s", shard), ["reason"])["reason"].to_pylist())
    assert sum(found.values()) == 60
    for reason, number in found.items():
        assert re.search(rf"{re.escape(reason)}\s+{number}\s", text), reason


def test_counts_sum_up_to_the_rows_given(run: RunFolder, tmp_path: Path) -> None:
    rows = Rows(files(run, 3), [], tmp_path)
    facts = facts_of(rows)
    assert sum(line.rows for line in facts.reasons) == facts.rows == 60
    assert facts.steps[0].rows - sum(loss.rows for step in facts.steps for loss in step.losses) == facts.kept
    assert facts.steps[-1].rows == facts.kept == sum(number for _, number, _ in facts.splits)
    for lines in (facts.sources, facts.licences, facts.modalities):
        assert sum(line.rows for line in lines) == 60
        assert all(line.rows == line.kept + line.dropped + line.failed + line.waiting for line in lines)
    (column,) = score_columns(rows, RULES)
    assert sum(each.rows for each in column.bins) == column.rows == 51
    now = next(move for move in column.moves[0].moves if move.is_now)
    assert now.kept == facts.kept
    rows.close()


def test_a_caption_cannot_inject_markup(tmp_path: Path) -> None:
    run = nasty_run(tmp_path)
    notes = {text[:100]: text[:5000] for text in NASTY}
    names = {"name": NASTY[1], "dataset": NASTY[0], "config_yaml": "caption: \ud800 " + NASTY[6], "notes": notes}
    page = page_of(report_of(files(run, 1), **names), tmp_path)
    parsed = Tags(page)
    assert {tag for tag, _ in parsed.tags} & {
        "script",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "foreignobject",
    } == set()
    for tag, attributes in parsed.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert "style" not in attributes
    assert sum(tag == "style" for tag, _ in parsed.tags) == 1
    assert "<script" not in page.lower()
    assert "<img src=x" not in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)
    assert html.escape(NASTY[0]) in page, "it is shown, as text"
    assert "{{ 7 * 7 }}" in page
    assert "x" * 5000 not in page, "a caption of a megabyte is cut"


def test_the_page_refers_to_nothing_elsewhere(run: RunFolder, tmp_path: Path) -> None:
    page = page_of(report_of(files(run, 3)), tmp_path)
    for tag, attributes in Tags(page).tags:
        for name in ("src", "href", "action", "data", "srcset", "poster", "background", "xlink:href"):
            where = attributes.get(name)
            assert where is None or where.startswith(("data:", "#")), (tag, where)
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for tag, a in Tags(page).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:; style-src 'sha256-")
    assert "unsafe" not in policy


def test_every_picture_has_an_alt_text_and_every_link_a_target(run: RunFolder, tmp_path: Path) -> None:
    tags = Tags(page_of(report_of(files(run, 3)), tmp_path)).tags
    pictures = [attributes for tag, attributes in tags if tag == "img"]
    assert len(pictures) > 20
    assert all(attributes["alt"] for attributes in pictures)
    ids = {attributes.get("id") for _, attributes in tags}
    assert all((attributes["href"] or "")[1:] in ids for tag, attributes in tags if tag == "a")
    assert ("html", {"lang": "en"}) in tags


def test_the_same_input_gives_the_same_bytes(run: RunFolder, tmp_path: Path) -> None:
    report = report_of(files(run, 3))
    assert page_of(report, tmp_path) == page_of(report, tmp_path)


@pytest.mark.parametrize("shards_scored", [0, 1, 3])
def test_a_half_finished_run_has_a_report(run: RunFolder, tmp_path: Path, shards_scored: int) -> None:
    shards = [
        each if each.shard < shards_scored else replace(each, scores={}) for each in files(run, 3, selected=False)
    ]
    text = Tags(page_of(report_of(shards, dataset=None, digest=None, num_shards=9), tmp_path)).text
    assert "run not finished" in text
    assert "3 of 9 shards" in text
    assert ("not scored yet" in text) == (0 < shards_scored < 3)


def test_a_report_of_rows_that_all_failed(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "run"))
    write_staged_shard(run, 0, [failed_sample("pictures", row) for row in range(5)], [0.0] * 5)
    text = Tags(page_of(report_of(files(run, 1, selected=False)), tmp_path)).text
    assert re.search(r"fetch\.http_4xx\s+5\s", text)


def test_planted_faults_are_held_against_what_was_found(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "run"))
    kinds = ["right"] * 20 + ["swapped"] * 10 + ["dead_link", "late", "late"]
    samples = [image_sample("pictures", row) for row in range(30)]
    samples += [failed_sample("pictures", 30)]
    samples += [failed_sample("pictures", row, Reason.TIMEOUT) for row in (31, 32)]
    expected = ["ok"] * 20 + [Reason.SCORE_LOW.value] * 10 + [Reason.HTTP_4XX.value] + [Reason.TOO_SLOW.value] * 2
    similarity = [0.4] * 19 + [0.1] + [0.05] * 9 + [0.3] + [0.0] * 3
    write_staged_shard(run, 0, samples, similarity, pa.table({"planted": kinds, "expected_reason": expected}))
    select(run, 0)
    rows = Rows(files(run, 1), [], tmp_path)
    verdicts = {line.kind: (line.verdict, line.right, line.rows) for line in facts_of(rows).planted}
    assert verdicts == {
        "right": ("right", 19, 20),
        "swapped": ("right", 9, 10),
        "dead_link": ("right", 1, 1),
        "late": ("wrong", 0, 2),
    }
    curve = planted_curve(rows, limits_of(RULES))
    assert curve is not None
    assert (curve.right_kept, curve.swapped_dropped) == (0.95, 0.9)
    # of 200 pairs, the one right caption at 0.1 loses to the one swapped at 0.3
    assert curve.auc == pytest.approx(199 / 200)
    rows.close()
    text = Tags(page_of(report_of(files(run, 1)), tmp_path)).text
    assert "90.0 % of the swapped captions and keeps 95.0 %" in text


def test_tables_that_do_not_belong_together_are_refused(run: RunFolder, tmp_path: Path) -> None:
    shards = files(run, 3)
    wrong = replace(shards[0], scores=shards[1].scores)
    with pytest.raises(ShardError, match="not those of the ledger"):
        page_of(report_of([wrong]), tmp_path)


def test_own_columns_with_bytes_that_are_no_text_are_shown(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "run"))
    broken = pa.array([b"CC\xff", b"ok"]).view(pa.string())
    write_staged_shard(run, 0, [image_sample("pictures", row) for row in range(2)], None, pa.table({"licence": broken}))
    shards = [ShardFiles(0, run.ledger(0), {}, None, run.staged(0))]
    assert "CC\ufffd" in page_of(report_of(shards, rules=[]), tmp_path)


def test_a_picture_that_cannot_be_read_costs_only_its_tile(run: RunFolder, tmp_path: Path) -> None:
    for shard in range(3):
        staged = Path(run.staged(shard))
        staged.write_bytes(re.sub(rb"\xff\xd8\xff", b"xxx", staged.read_bytes()))
    parsed = Tags(page_of(report_of(files(run, 3)), tmp_path))
    assert not [tag for tag, _ in parsed.tags if tag == "img"]
    assert "no picture" in parsed.text


def test_the_page_stays_small_however_large_the_pictures(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "run"))
    rng = np.random.default_rng(0)
    samples = []
    for row in range(60):
        sample = image_sample("pictures", row)
        sample.parts["jpg"] = jpeg(row, 1200, 900) + rng.bytes(400_000)
        samples.append(sample)
    write_staged_shard(run, 0, samples, [row / 60 for row in range(60)])
    select(run, 0)
    assert len(page_of(report_of(files(run, 1)), tmp_path)) < 3_000_000


def test_the_page_stays_below_15_mb_however_much_there_is_to_hear(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "run"))
    rng = np.random.default_rng(0)
    sink = io.BytesIO()
    soundfile.write(sink, rng.integers(-(2**15), 2**15, 16_000 * 12, np.int16), 16_000, format="FLAC")
    samples = [audio_sample(row) for row in range(60)]
    for sample in samples:
        sample.parts["flac"] = sink.getvalue()
    write_staged_shard(run, 0, samples)
    shards = [ShardFiles(0, run.ledger(0), {}, None, run.staged(0))]
    page = page_of(report_of(shards, rules=[]), tmp_path)
    tags = [tag for tag, _ in Tags(page).tags]
    assert 300_000 < len(sink.getvalue()) < SOUND_BYTES
    assert tags.count("img") == KEPT_PICTURES
    assert 3 < tags.count("audio") == PAGE_SOUND_BYTES // len(sink.getvalue())
    assert len(page) < 15_000_000
    assert (PAGE_PICTURES_BYTES + PAGE_SOUND_BYTES) * 4 / 3 < 13_000_000, "two megabytes are left for words and charts"


def test_pictures_come_from_a_bounded_number_of_shards(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", shards=PICTURE_SHARDS + 6, rows_per_shard=4)
    opened = [Path(run.staged(shard)) for shard in range(PICTURE_SHARDS + 6)]
    page = page_of(report_of(files(run, len(opened), selected=False)), tmp_path)
    assert f"from {PICTURE_SHARDS} of {len(opened)} shards" in Tags(page).text


def test_notes_and_configuration_are_on_the_page(run: RunFolder, tmp_path: Path) -> None:
    notes = {"How the threshold was chosen": "Where both shares are equal.", "Encoder": "A small one."}
    text = Tags(page_of(report_of(files(run, 3), notes=notes), tmp_path)).text
    assert "How the threshold was chosen. Where both shares are equal." in text
    assert "A small one." in text
    assert "name: demo" in text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a\nb\t c", "a b c"),
        ("a\u202eb", "a\ufffdb"),
        ("\ud800x", "\ufffdx"),
        ("", ""),
        (None, ""),
        ("y" * 300, "y" * 159 + "\u2026"),
    ],
)
def test_foreign_text_is_one_harmless_line(given: str | None, shown: str) -> None:
    assert clean(given) == shown


def test_numbers_are_written_for_people() -> None:
    assert [share(1, 8), share(0, 5), share(5, 5), share(1, 5000), share(4999, 5000), share(1, 0)] == [
        "12.5 %", "0 %", "100 %", "< 0.1 %", "> 99.9 %", "-",
    ]  # fmt: skip
    assert [size(999), size(1_234_567)] == ["999 B", "1.23 MB"]
