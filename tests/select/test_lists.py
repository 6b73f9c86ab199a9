"""Removal lists and the rule `remove`; the rule `mixture`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.errors import ConfigError
from mmdata.select.lists import RemovalList, read_removal_list, removal_entry
from mmdata.select.mixture import Mixture
from mmdata.select.remove import Remove
from tests.select.planted import decided, facts_of, write_planted
from tests.select.selected import selected

SHA = "ab" * 32


def listed(folder: Path, *lines: str, **options: int) -> Remove:
    path = folder / f"list-{len(list(folder.glob('list-*')))}.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return Remove.parse({"list": str(path), **options}, "x.yaml: select[0].remove")


def gone(folder: Path, rows: list[dict], rule: Remove) -> dict[int, str]:
    found = decided(folder, rows, [rule])
    assert {row["reason"] for row in found.values()} <= {"ok", "policy.removed"}
    return {number: row["detail"] for number, row in enumerate(found.values()) if not row["keep"]}


def test_keys_take_what_was_cut_from_them_along(tmp_path: Path) -> None:
    keys = ["web-000000000001", "films-000000000002_0001", "films-000000000002_0002", "films-000000000003_0001"]
    rule = listed(
        tmp_path, "# asked for in May", "web-000000000001", "films-000000000002", "", "key:films-000000000009"
    )
    assert gone(tmp_path, [{"key": key} for key in keys], rule) == {0: "listed key", 1: "listed key", 2: "listed key"}
    assert gone(tmp_path, [{"key": key} for key in keys], listed(tmp_path, keys[1])) == {1: "listed key"}


def test_links_domains_and_hashes_are_found(tmp_path: Path) -> None:
    urls = [
        "http://a.example/1.jpg",
        "https://user@img.b.example:8080/x",
        "http://notb.example/",
        "http://B.EXAMPLE./y?b.example",
        None,
    ]
    rows = [{"url": url, "raw_sha256": SHA if number == 2 else str(number)} for number, url in enumerate(urls)]
    rule = listed(tmp_path, urls[0] or "", "b.example", SHA.upper())
    assert gone(tmp_path, rows, rule) == {0: "listed url", 1: "listed domain", 2: "listed sha256", 3: "listed domain"}
    assert gone(tmp_path, rows, listed(tmp_path, "domain:img.b.example")) == {1: "listed domain"}


def test_perceptual_hashes_are_found_within_a_distance(tmp_path: Path) -> None:
    rows = [{"phash": value} for value in (0xFF, 0xFE, 0xF0, 2**63, None)]
    assert gone(tmp_path, rows, listed(tmp_path, "phash:00000000000000ff")) == {0: "listed phash"}
    assert gone(tmp_path, rows, listed(tmp_path, "phash:00000000000000ff", distance=1)) == dict.fromkeys(
        (0, 1), "listed phash"
    )


def test_a_row_that_is_listed_twice_is_removed_once(tmp_path: Path) -> None:
    rows = [{"key": "web-000000000001", "url": "http://a.example/1", "raw_sha256": SHA}]
    assert gone(tmp_path, rows, listed(tmp_path, "web-000000000001", "a.example", "http://a.example/1", SHA)) == {
        0: "listed key"
    }


def test_kinds_show_or_are_said() -> None:
    for line, expected in [
        ("web-000000000001_0004-x02", ("key", "web-000000000001_0004-x02")),
        ("HTTP://A.example/B", ("url", "HTTP://A.example/B")),
        ("Sub.Example.ORG.", ("domain", "sub.example.org")),
        (SHA, ("sha256", SHA)),
        ("url:http://x.example/a:b", ("url", "http://x.example/a:b")),
        ("phash: 0123456789ABCDEF", ("phash", "0123456789abcdef")),
    ]:
        assert removal_entry(line, "t") == expected


@pytest.mark.parametrize(
    "line", ["word", "phash:12", "sha256:xyz", "domain:http://a.example", "key:A B", "a b.example", "-a.example"]
)
def test_what_is_no_entry_is_refused_with_the_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match=r"list-0\.txt: found "):
        listed(tmp_path, "a.example", line)


@given(st.text(max_size=30))
def test_no_line_is_a_bug(line: str) -> None:
    try:
        kind, entry = removal_entry(line, "t")
    except ConfigError:
        return
    assert removal_entry(f"{kind}:{entry}", "t") == (kind, entry)


def test_an_empty_list_removes_nothing(tmp_path: Path) -> None:
    assert read_removal_list(listed(tmp_path, "# nothing yet").list) == RemovalList()
    assert gone(tmp_path, [{"url": "http://a.example/"}], listed(tmp_path, "")) == {}


def test_weights_become_shares_in_the_counts_and_no_row_changes(tmp_path: Path) -> None:
    rows = [{"source": "web"}, {"source": "web", "row": 1}, {"source": "books", "row": 2}]
    counts, written = selected(
        write_planted(tmp_path, rows), [Mixture.parse({"weights": {"web": 3, "books": 1}}, "t")], tmp_path
    )
    assert counts.mixture == {"by": "source", "weights": {"books": 0.25, "web": 0.75}, "rows": {"books": 1, "web": 2}}
    assert type(counts).from_json(counts.to_json()).mixture == counts.mixture
    assert counts.num_kept == 3
    assert {repeat for table in written.values() for repeat in table["repeat"].to_pylist()} == {1}


def test_every_source_needs_a_weight_and_every_weight_a_source(tmp_path: Path) -> None:
    rows = [{"source": "web"}, {"source": "books", "row": 1}]
    for weights, message in (
        ({"web": 1}, "books: has rows and no weight"),
        ({"web": 1, "books": 1, "boks": 1}, r"boks: no rows .* books"),
    ):
        with pytest.raises(ConfigError, match=message):
            facts_of(tmp_path, rows, [Mixture.parse({"weights": weights}, "t")])
    for wrong in ({}, {"weights": {"web": 0}}):
        with pytest.raises(ConfigError):
            Mixture.parse(wrong, "t")
