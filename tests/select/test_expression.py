"""SQL expressions: what they read, what is refused, and the rule `where`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.errors import ConfigError
from mmdata.select.expression import parse_expression
from mmdata.select.where import Where
from tests.select.planted import decided


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("width_px * height_px > 65536 and clip_similarity > 0.2", {"width_px", "height_px", "clip_similarity"}),
        (
            'image_text.clip_similarity between 0 and 1 or "Odd ""Name" is null',
            {"image_text.clip_similarity", 'Odd "Name'},
        ),
        ("case when a > 1 then b else least(c, d) end", {"a", "b", "c", "d"}),
        ("language in ('en', 'zh') and not lower(caption) like '%cat%'", {"language", "caption"}),
        ("len(string_split_regex(trim(caption), '\\s+')) > 2 -- a comment", {"caption"}),
        ("try_cast(size as double) >= 1.5 and tags[1] = 'x'", {"size", "tags"}),
    ],
)
def test_columns_are_those_that_duckdb_sees(text: str, columns: set[str]) -> None:
    found = parse_expression(text, "t")
    assert found.columns == columns
    assert parse_expression(found.sql, "t").columns == columns


@pytest.mark.parametrize(
    "text",
    [
        "(select 1)",
        "a in (select b from c)",
        "exists(select 1)",
        "abs((select max(key) from kept)) > 1",
        "case when (select true) then a end",
        "random() < 0.5",
        "now() > '2020-01-01'",
        "getenv('HOME') = 'x'",
        "read_text('/etc/passwd') = ''",
        "concat(getenv('HOME')) = 'x'",
        "count(*) > 1",
        "max(a) over () > 1",
        "sum(a) filter (b > 1) > 2",
        "list_transform([1], x -> x)[1] = 1",
        "columns('a') > 1",
        "*",
        "$1 > 2",
        "a) ; drop table kept; select (1",
        "1) from (select 1",
        "1) where (1 = 1",
        "1) as x, (2",
        "a) order by (1",
        "a > ",
        "",
        "main.abs(a) > 1",
        "nextval('s') > 1",
        "query('select 1') = 1",
    ],
)
def test_what_does_more_than_compute_a_value_of_a_row_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"x\.yaml"):
        parse_expression(text, "x.yaml: select[0].where.expr")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_no_text_is_a_bug(text: str) -> None:
    try:
        parse_expression(text, "t")
    except ConfigError:
        pass


def test_rows_for_which_it_is_not_true_are_dropped_and_missing_values_as_told(tmp_path: Path) -> None:
    rows = [{"size": 1}, {"size": 5}, {"size": None}]
    for missing, reasons in (
        (
            "drop",
            [
                ("filtered.expression", "not: size > 2"),
                ("ok", ""),
                ("filtered.expression", "a value is missing: size > 2"),
            ],
        ),
        ("keep", [("filtered.expression", "not: size > 2"), ("ok", ""), ("ok", "")]),
    ):
        rule = Where.parse({"expr": "size > 2", "missing": missing}, "t")
        assert [(row["reason"], row["detail"]) for row in decided(tmp_path, rows, [rule]).values()] == reasons


def test_columns_are_read_by_place_and_by_quoted_name(tmp_path: Path) -> None:
    rows = [{"Odd Name": 1, "clip_similarity": 0.5}, {"Odd Name": 2, "clip_similarity": 0.1}]
    rule = Where.parse({"expr": '"Odd Name" < 2 or clip_similarity < 0.05'}, "t")
    assert [row["keep"] for row in decided(tmp_path, rows, [rule]).values()] == [True, False]


def test_a_column_that_is_not_there_and_a_type_that_does_not_fit_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sise: no such column \(did you mean size\?\)"):
        decided(tmp_path, [{"size": 1}], [Where.parse({"expr": "sise > 2"}, "t")])
    with pytest.raises(ConfigError, match=r"where\.expr: .* cannot be computed"):
        decided(tmp_path, [{"caption": "no number"}], [Where.parse({"expr": "caption::int > 2"}, "t")])
