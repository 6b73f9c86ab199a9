"""What the rules decided, as the report and the card tell it: limits, balance, duplicates, concepts, dialogues."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.emit.card_choices import choices_text
from mmdata.emit.report import ShardFiles, write_report
from mmdata.emit.report_balance import asked_for, came_to
from mmdata.emit.report_charts import LEFT, RIGHT, WIDTH, labels_along
from mmdata.emit.report_duplicates import duplicates_of
from mmdata.emit.report_pictures import sheets_of
from mmdata.emit.report_rules import AppliedRule, applied, limits_of
from mmdata.emit.report_sankey import Stream, sankey, streams_of
from mmdata.emit.report_sayings import turns_of
from mmdata.emit.report_scores import score_columns
from mmdata.emit.report_tail import tails_of
from mmdata.select.counts import RuleCount
from mmdata.shards import ledger
from tests.emit.decided import DECISIONS, Decided, decide, samples_of_all
from tests.emit.test_report import NASTY, Tags

SHARDS = range(5)


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Decided:
    return decide(tmp_path_factory.mktemp("decided"), DECISIONS, samples_of_all())


@pytest.fixture(scope="module")
def pages(decided: Decided, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The page of the run, and the one that goes with the dataset."""
    folder = tmp_path_factory.mktemp("pages")
    write_report(decided.report(), str(folder / "run.html"), str(folder / "dataset.html"))
    run, dataset = ((folder / name).read_text(encoding="utf-8") for name in ("run.html", "dataset.html"))
    return run, dataset


def section(page: str, name: str) -> str:
    """The text of one section, white space as single blanks."""
    found = page.partition(f'<section id="{name}"')[2].partition("</section>")[0]
    return " ".join(Tags(found).text.split())


def test_a_bound_that_is_a_percentile_of_each_source_is_told_with_what_it_came_to(decided: Decided) -> None:
    limits = [limit for limit in limits_of(decided.rules) if limit.column == "bytes"]
    assert {limit.group for limit in limits} == {"pictures", "audio-text", "video-text", "instruct"}
    assert all(limit.is_relative and (limit.said, limit.side) == ("p90", "max") for limit in limits)
    (pictures,) = (limit.value for limit in limits if limit.group == "pictures")
    gone = [row["bytes"] for row in decided.tables if row["reason"] == "filtered.threshold"]
    assert pictures is not None
    assert min(gone) > pictures


def test_a_relative_bound_is_not_known_before_selection() -> None:
    limits = limits_of(applied(DECISIONS))
    assert [(limit.column, limit.said, limit.value) for limit in limits] == [
        ("clip_similarity", "0.1", 0.1),
        ("bytes", "p90", None),
    ]


def test_limits_are_lines_at_their_place_on_the_page(pages: tuple[str, str]) -> None:
    scores = pages[0].partition('<section id="scores"')[2].partition("</section>")[0]
    assert scores.count('class="limit"') == 1 + 4  # one for all rows, one for each of four sources
    assert "audio-text: max 1,005 (p90)" in scores


def test_the_edge_of_every_bound_shows_what_lies_beyond_it_and_within(decided: Decided, tmp_path: Path) -> None:
    limits = limits_of(decided.rules)
    sheets = [sheet for sheet in sheets_of(decided.rows(tmp_path), limits) if sheet.kind == "edge"]
    assert {sheet.title for sheet in sheets} == {
        "Edge of clip_similarity min 0.1",
        "Edge of bytes max p90, here 1628, of pictures",
        "Edge of bytes max p90, here 1005, of audio-text",
        "Edge of bytes max p90, here 1003, of instruct",
        "Edge of bytes max p90, here 1001, of video-text",
    }
    for sheet in sheets:
        limit = next(limit for limit in limits if sheet.title.startswith(f"Edge of {limit.column}"))
        (bound,) = (float(each) for each in re.findall(r"(?:min|here) ([\d.]+)", sheet.title))
        sides = {
            mark: [pick.score for pick in sheet.picks if pick.mark == mark and pick.score is not None]
            for mark in ("beyond", "within")
        }
        assert len(sheet.picks) == sum(map(len, sides.values()))
        assert sides["within"]
        for mark, is_kept in (("beyond", False), ("within", True)):
            far = [abs(score - bound) for score in sides[mark]]
            assert far == sorted(far), "nearest first"
            assert all((score >= bound if limit.side == "min" else score <= bound) is is_kept for score in sides[mark])


def test_what_moving_a_threshold_would_do_is_what_selection_does_with_it(tmp_path: Path) -> None:
    decisions = [("thresholds", {"clip_similarity": {"min": 0.1, "missing": "keep"}})]
    shards = samples_of_all()
    now = decide(tmp_path / "now", decisions, shards)
    (column,) = score_columns(now.rows(tmp_path), now.rules)
    (table,) = column.moves
    assert [move.limit for move in table.moves if move.is_now] == [0.1]
    low, high = column.bins[0].low, column.bins[-1].high
    assert len({move.passing for move in table.moves}) == len(table.moves) > 4, "each changes something"
    assert all(low <= move.limit <= high for move in table.moves)
    other = next(move for move in table.moves if move.limit > 0.12)
    moved = decide(
        tmp_path / "moved", [("thresholds", {"clip_similarity": {"min": other.limit, "missing": "keep"}})], shards
    )
    without_score = sum(len(shard) for shard in shards[2:])
    assert other.about == ""
    assert other.kept + without_score == moved.counts.num_kept < now.counts.num_kept


def test_no_limit_is_offered_that_no_value_can_pass_or_fail(tmp_path: Path) -> None:
    now = decide(tmp_path, [("thresholds", {"bytes": {"max": 1_000_000}})], samples_of_all())
    (column,) = (column for column in score_columns(now.rows(tmp_path), now.rules) if column.name == "bytes")
    found = sorted(row["bytes"] for row in now.tables if row["bytes"] is not None)
    for move in column.moves[0].moves:
        assert move.is_now or found[0] <= move.limit <= found[-1]
        assert move.passing == sum(value <= move.limit for value in found)


def test_where_round_values_change_nothing_those_of_samples_are_offered(tmp_path: Path) -> None:
    shards = samples_of_all()[:2]
    for number, sample in enumerate(sample for shard in shards for sample in shard if sample.is_ok):
        sample.columns["bytes"] = 1 if number < 50 else 10_000
    now = decide(tmp_path, [("thresholds", {"bytes": {"max": 5000}})], shards)
    (column,) = (column for column in score_columns(now.rows(tmp_path), now.rules) if column.name == "bytes")
    assert [(move.limit, move.passing, move.is_now) for move in column.moves[0].moves] == [
        (10_000, 57, False),
        (5000, 50, True),
    ]


def test_a_top_share_is_moved_as_a_share(tmp_path: Path) -> None:
    now = decide(
        tmp_path, [("thresholds", {"clip_similarity": {"top_share": 0.3, "missing": "keep"}})], samples_of_all()
    )
    (column,) = score_columns(now.rows(tmp_path), now.rules)
    (table,) = column.moves
    assert table.limit.said == "top 30 %"
    at = {move.said: move for move in table.moves}
    assert at["top 30 %"].is_now
    assert at["top 50 %"].limit < at["top 30 %"].limit < at["top 10 %"].limit
    assert table.rows == column.rows == 57
    assert at["top 50 %"].passing == pytest.approx(57 / 2, abs=2)  # values come in pairs


def test_balance_is_told_before_after_and_against_its_target(decided: Decided, pages: tuple[str, str]) -> None:
    (balance,) = asked_for(decided.rules)
    parts = {part.name: (part.before, part.target, part.after) for part in balance.parts}
    kept = Counter(row["modality"] for row in decided.tables if row["keep"])
    assert parts["image_text"] == (24, 12, kept["image_text"])
    assert {name: after for name, (_, _, after) in parts.items()} == kept
    words = section(pages[0], "balance")
    assert "Rule 5: balance by modality" in words
    assert re.search(r"image_text 66\.7 % 50\.0 % 50\.0 % 12", words)
    assert "Weights in the manifest by modality" in words


def test_modalities_languages_and_sources_are_told_before_and_after(decided: Decided, tmp_path: Path) -> None:
    found = {(each.by, each.unit): each for each in came_to(decided.rows(tmp_path))}
    for by in ("modality", "language", "source"):
        had = Counter(row[by] or "(none)" for row in decided.tables if row["bytes"] is not None)
        kept = Counter(row[by] or "(none)" for row in decided.tables if row["keep"])
        for part in found[by, "samples"].parts:
            assert (part.before, part.after) == (had[part.name], kept[part.name])
    hours = {part.name: part.before for part in found["modality", "hours"].parts}
    assert hours == pytest.approx({"audio_text": 6 * 0.5 / 3600, "video_text": 2 / 3600})


def test_duplicates_are_shown_with_who_stays_first_and_why(decided: Decided, tmp_path: Path) -> None:
    rows = decided.rows(tmp_path)
    found = duplicates_of(rows, decided.rules, SHARDS)
    assert found is not None
    ((number, by, groups, members, dropped, stays),) = found.rules
    assert (number, by, groups, members, dropped) == (1, "sha256", 4, 19, 15)
    assert stays == "greatest clip_similarity"
    assert sum(number for _, number in found.sizes) == 4
    shards = [[row for row in decided.tables if row["key"] in keys(files)] for files in decided.files]
    for sheet in found.sheets:
        members_of = [shards[shard][position] for shard, position in (pick.place for pick in sheet.picks)]
        assert len({row["raw_sha256"] for row in members_of}) == 1
        assert members_of[0]["key"] == members_of[0]["duplicate_group"]
        assert sheet.picks[0].score == max(pick.score or 0.0 for pick in sheet.picks)
        assert sheet.picks[0].mark in ("kept", "stands for them; lost later")
        assert {pick.reason for pick in sheet.picks[1:]} == {"filtered.duplicate_content"}
        assert "the one with the greatest clip_similarity" in sheet.note
    rows.close()


def keys(files: ShardFiles) -> set[str]:
    return set(ledger.read(files.ledger, ["key"])["key"].to_pylist())


def test_the_long_tail_of_a_rule_is_told_before_and_after(decided: Decided, pages: tuple[str, str]) -> None:
    words = section(pages[0], "concepts")
    assert "Rule 4 keeps about 8 captions of each concept: 4 of 15 concepts were in more." in words
    facts = decided.rules[3].facts
    for text, before, after in facts["head"][:5]:
        assert re.search(rf"\b{text} {before} {after} ", words), text


def test_without_a_rule_for_concepts_the_words_of_captions_are_counted(tmp_path: Path) -> None:
    now = decide(tmp_path, [("thresholds", {"clip_similarity": {"min": 0.2, "missing": "drop"}})], samples_of_all())
    (tail,) = tails_of(now.rows(tmp_path), now.rules, SHARDS)
    had = Counter(word for row in now.tables if row["bytes"] is not None for word in _animals(row["caption"]))
    kept = Counter(word for row in now.tables if row["keep"] for word in _animals(row["caption"]))
    head = {text: (before, after) for text, before, after in tail.head}
    assert {word: head[word] for word in ("cat", "dog", "owl")} == {word: (had[word], kept[word]) for word in had}
    assert not {"a", "the", "of"} & set(head)


def _animals(caption: str | None) -> set[str]:
    return set((caption or "").split()) & {"cat", "dog", "owl"}


def test_a_dialogue_shows_its_first_question_and_answer(pages: tuple[str, str]) -> None:
    assert re.search(r"<b>Q</b> <bdi[^>]*>What is number \d\?</bdi>", pages[0])
    assert re.search(r"<b>A</b> <bdi[^>]*>It is \d\.</bdi>", pages[0])
    assert "(no caption)" not in pages[0]


@pytest.mark.parametrize("text", ["", "no JSON", "[1, 2]", '{"role": "user"}', '[{"role": "user"}]', "[" * 50])
def test_what_are_no_messages_says_nothing(text: str) -> None:
    assert turns_of(text) == ()


def test_turns_of_strangers_are_harmless() -> None:
    messages = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), NASTY[3:5], strict=True)]
    assert turns_of(json.dumps(messages)) == (("Q", clean_of(NASTY[3])), ("A", clean_of(NASTY[4])))


def clean_of(text: str) -> str:
    return re.sub("\u202e", "\ufffd", re.sub(r"[\x00-\x1f]+", " ", text)).strip()


def test_bands_from_the_sources_carry_every_row(decided: Decided, tmp_path: Path) -> None:
    streams = streams_of(decided.rows(tmp_path))
    found = Counter[tuple[str, str]]()
    for stream in streams:
        found[stream.source, stream.end] += stream.rows
    expected = Counter(
        (row["source"], "kept" if row["keep"] else row["reason"].split(".")[0]) for row in decided.tables
    )
    assert found == expected


def test_the_page_of_a_dataset_shows_nothing_of_what_is_not_in_it(decided: Decided, pages: tuple[str, str]) -> None:
    run, dataset = pages
    gone = [row for row in decided.tables if not row["keep"]]
    assert len(gone) > 20
    for row in gone:
        assert row["key"] not in dataset
        assert f">{row['caption']}<" not in dataset
    assert any(row["key"] in run for row in gone)
    assert any(row["key"] in dataset for row in decided.tables if row["keep"])
    assert 'id="time"' not in dataset
    assert 'id="time"' in run
    assert section(dataset, "balance") == section(run, "balance")


def test_the_page_of_a_dataset_does_not_hang_on_how_long_things_took(
    decided: Decided, pages: tuple[str, str], tmp_path: Path
) -> None:
    slow = decided.report()
    slow.counters.seconds = 99.0
    slow.selection = "another"  # its name hangs on the ledgers, which tell how often a link was tried
    write_report(replace(slow, config_yaml="run: {workers: 7}\n"), str(tmp_path / "run"), str(tmp_path / "dataset"))
    assert (tmp_path / "dataset").read_text(encoding="utf-8") == pages[1]


def test_a_stage_that_was_given_nothing_has_no_line(pages: tuple[str, str]) -> None:
    words = section(pages[0], "time")
    assert "decode_image" in words
    assert "log_mel" not in words


def test_names_of_groups_and_concepts_cannot_inject_markup(decided: Decided, tmp_path: Path) -> None:
    texts = [text[:3000] for text in NASTY]
    facts = [
        ("thresholds", {"bytes": {"min": "p10", "per": "source"}},
         {"bounds": {"bytes": [{"group": [text], "min": 10.0, "max": None} for text in texts]}}),
        ("balance", {"by": "source"},
         {"by": ["source"], "unit": "samples", "groups": [[text, 5, 4, 4] for text in texts]}),
        ("long_tail", {"ngrams": 1},
         {"t": 3, "concepts": 9, "capped": 1, "head": [[text, 9, 3] for text in texts], "tail": [[1, 9, 3]]}),
        ("mixture", {}, {"by": texts[1], "weights": dict.fromkeys(texts, 0.1), "rows": dict.fromkeys(texts, 2)}),
        ("dedup", {"by": "url", "keep_best": "bytes"}, {"groups": 1, "rows": 2, "largest": [[texts[0], 2]]}),
    ]  # fmt: skip
    rules = [AppliedRule(i + 1, name, options, RuleCount(name, 9, {}, told)) for i, (name, options, told) in
             enumerate(facts)]  # fmt: skip
    write_report(replace(decided.report(), rules=rules), str(tmp_path / "run"), str(tmp_path / "dataset"))
    for page in ((tmp_path / name).read_text(encoding="utf-8") for name in ("run", "dataset")):
        parsed = Tags(page)
        assert not {tag for tag, _ in parsed.tags} & {"script", "iframe", "object", "embed", "base", "form"}
        assert not any(name.startswith("on") or name == "style" for _, each in parsed.tags for name in each)
        assert "<img src=x" not in page
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page, "it is shown, as text"
    card = "\n".join(choices_text(rules))
    assert not re.search(r"[<>\x00-\x08\x0b-\x1f\u202e]", card)


def test_the_card_tells_thresholds_duplicates_balance_and_long_tail(decided: Decided) -> None:
    card = "\n".join(choices_text(decided.rules))
    assert "| `clip_similarity` | min 0.1 | all | 0.1 |" in card
    assert "| `bytes` | max p90 | audio-text | 1005 |" in card
    assert "| 1 | sha256 | 4 | 19 | 15 | greatest clip_similarity |" in card
    assert "| image_text | 24 | 66.7 % | 50.0 % | 12 | 50.0 % |" in card
    assert "About 8 captions of each concept: 4 of 15 concepts were in more." in card
    assert "| audio_text | 40.0 % | 25.0 % |" in card


@given(st.lists(st.tuples(st.floats(LEFT, RIGHT), st.integers(0, 10**9)), max_size=30))
def test_labels_of_an_axis_never_overlap_nor_leave_the_picture(places: list[tuple[float, int]]) -> None:
    marks = labels_along([(x, str(number)) for x, number in sorted(places)], 100.0)
    assert bool(marks) == bool(places)
    ends = []
    for mark in marks:
        x, text = re.fullmatch(r'<text x="([^"]+)".*>(\d+)</text>', mark).groups()  # type: ignore[union-attr]
        half = 5.9 * len(text) / 2
        ends.append((float(x) - half, float(x) + half))
    assert all(left[1] < right[0] for left, right in pairwise(ends))
    assert all(start >= -0.1 and end <= WIDTH + 0.1 for start, end in ends)


def test_a_long_source_name_leaves_room_for_its_number_on_a_phone() -> None:
    streams = [Stream("planted-speech-of-somewhere", "audio_text", "kept", "kept", 12_345)]
    narrow = str(sankey([*streams, Stream("web", "audio_text", "failed", "fetch", 1)])).split("<svg")[2]
    labels = [re.sub("<[^>]+>", "", label) for label in re.findall(r"<text.*?</text>", narrow)]
    assert max(map(len, labels)) == 16
    assert any(label.startswith("planted-") and label.endswith(" 12,345") for label in labels)
