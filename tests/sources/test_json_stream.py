"""Rows inside of a JSON object: found by key, in bounded pieces, and damage said with its place."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.errors import SourceError
from mmdata.sources import json_stream
from mmdata.sources.json_rows import read_json
from mmdata.sources.json_stream import Scanner

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def rows(path: Path, rows_key: str = "") -> list[dict[str, Any]]:
    found = []
    for block in read_json(str(path), rows_key):
        columns = [array.to_pylist() for array in block.arrays]
        for row in zip(*columns, strict=True):
            found.append({n: v for n, v in zip(block.names, row, strict=True) if v is not None})
    return found


@settings(deadline=None, max_examples=60)
@given(items=st.lists(VALUES, max_size=6), indent=st.sampled_from([None, 1]), piece=st.integers(1, 40))
def test_members_are_those_of_the_json_module_however_small_the_pieces(
    items: list[Any], indent: int | None, piece: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK_CHARS", piece)
        scan = Scanner("a.json", io.StringIO(json.dumps(items, indent=indent) + "\n"))
        assert [scan.value()[0] for _ in scan.members("[")] == items
        scan.expect_end("array")
        tree = {f"k{index}": item for index, item in enumerate(items)}
        scan = Scanner("a.json", io.StringIO(json.dumps(tree, indent=indent) + "\n"))
        assert {key: scan.value()[0] for _, key in scan.members("{")} == tree
        scan = Scanner("a.json", io.StringIO(json.dumps([items, tree, 7])))
        for _ in scan.members("["):
            scan.skip()
        assert scan.peek() == ""


def test_rows_are_found_by_their_key_beside_others(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"info": {"n": [1]}, "before": [[1, 2], {}], "data": [{"a": 1}, {"a": 2}], "after": 0}))
    assert rows(path, "data") == [{"a": 1}, {"a": 2}]


def test_every_member_can_be_a_row_with_its_key(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"x": {"a": 1}, "y": {"a": 2}, "z": 3}))
    assert rows(path, "*") == [{"item_key": "x", "a": 1}, {"item_key": "y", "a": 2}, {"item_key": "z", "value": 3}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": [], "b": 1}', "no array under 'data' \\(rows_key\\); found: a, b"),
        ('{"data": 5}', "no array under 'data' \\(rows_key\\); found: data"),
        ('{"data": [{"a": 1}', "item 0 of the array is not JSON, or the file is cut: it ends too early"),
        ('{"data": [{"a": 1}]', "member 1 of the object is not JSON, or the file is cut: it ends too early"),
        ('{"data": [{"a": 1}]} 1', "text follows the end of the object"),
        ("{5: 1}", "member 0 of the object: found 5, wanted a name in quotes"),
        ("[1]", "the file: found '\\[' at character 0, wanted '{'"),
        ('{"a": nothing}', "member 0 of the object is not JSON, or the file is cut: Expecting value"),
    ],
)
def test_damage_and_a_missing_key_are_said_with_their_place(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(SourceError, match=message):
        rows(path, "data")


def test_an_item_that_is_no_object_is_a_row_with_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"data": [{"a": 1}, 7]}')
    (block,) = read_json(str(path), "data")
    assert block.num_rows == 2
    assert block.errors == {1: "item 1: found int, allowed is an object"}
