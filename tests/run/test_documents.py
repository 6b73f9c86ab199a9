"""Ingest of documents: every medium under the rules of links, with a reason each; what is lost leaves no place."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import BudgetError, ConfigError
from mmdata.fetch.links import Fetched, check_bytes
from mmdata.run.document_media import DocumentMedia
from mmdata.run.pipeline import Places, run_pipeline
from mmdata.sample import Sample
from mmdata.shards import ledger
from mmdata.shards.tar import read_samples
from mmdata.sources.messages import MEDIA_REASONS, places
from tests.builders import jpeg
from tests.run.world import MISSING, World, world_at
from tests.score.checkpoints import write_tiny_checkpoint

STAGES = [{"decode_document": {"side_px": 64}}]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_at(tmp_path) as made:
        yield made


def document(number: int, links: list[str]) -> dict[str, Any]:
    return {
        "url": f"http://pages.example/{number}",
        "text_list": [f"Sentence {index} of {number}." for index in range(len(links) + 1)],
        "image_info": [{"raw_url": link, "matched_text_index": index} for index, link in enumerate(links)],
        "tag": f"t{number}",
    }


def link(row: int) -> str:
    return f"http://media.example/{row}.jpg"


def ingested(
    world: World, documents: list[dict[str, Any]], *, until: str = "ingest", **sections: Any
) -> dict[int, dict[str, Any]]:
    """Ledger rows by number, each with its staged parts, after ingest in this process."""
    (world.folder / "docs.jsonl").write_text("".join(json.dumps(each) + "\n" for each in documents))
    source = {"kind": "interleaved", "path": "docs.jsonl"} | sections.pop("source", {})
    tree: dict[str, Any] = {"sources": {"docs": source}, "stages": STAGES} | sections
    pipeline = world.write_pipeline("docs", **tree)
    run = world.folder / "run"
    run_pipeline(str(pipeline), [], Places(str(run), str(world.folder / "out"), in_process=True), until)
    rows: dict[int, dict[str, Any]] = {}
    for path in sorted((run / "ledger").glob("*.parquet")):
        found = ledger.read(str(path)).to_pylist()
        with (run / "staged" / f"{path.name.split('.')[0]}.tar").open("rb") as tar:
            parts = dict(read_samples(tar, "staged"))
        rows |= {row["row"]: row | {"staged": parts.get(row["key"], {})} for row in found}
    return rows


def test_documents_keep_what_could_be_had_and_say_why_of_the_rest(world: World) -> None:
    rows = ingested(
        world,
        [
            document(0, [link(1), link(2)]),
            document(1, [link(4), link(MISSING[0]), link(5)]),
            document(2, [link(MISSING[0]), link(MISSING[1])]),
            document(3, ["http://169.254.169.254/a.jpg", link(6), "ftp://media.example/7.jpg"]),
            document(4, [link(8), link(8)]),
            document(5, []),
        ],
    )
    assert {number: row[MEDIA_REASONS] for number, row in rows.items()} == {
        0: ["ok", "ok"],
        1: ["ok", "fetch.http_4xx", "ok"],
        2: ["fetch.http_4xx", "fetch.http_4xx"],
        3: ["blocked.address", "ok", "blocked.scheme"],
        4: ["ok", "filtered.duplicate_content"],
        5: [],
    }
    assert {number: row["reason"] for number, row in rows.items()} == {
        **dict.fromkeys((0, 1, 3, 4), "ok"),
        2: "fetch.http_4xx",
        5: "filtered.too_few_images",
    }
    one = rows[1]
    assert (one["num_images"], sorted(one["staged"]), one["parts"]) == (2, ["000.jpg", "001.jpg"], "000.jpg 001.jpg")
    assert len(places(json.loads(one["messages"]))) == 2
    assert (one["url"], one["tag"]) == ("http://pages.example/1", "t1")
    assert Counter(world.requests) == Counter(f"/{n}.jpg" for n in (1, 2, 4, 3, 5, 3, 20, 6, 8, 8))
    record = json.loads(next((world.folder / "run/commits/ingest").glob("*.json")).read_text())
    assert record["counts"]["stages"]["media of documents"][:4] == [12, 6, 3, 3]


def test_the_same_documents_have_the_same_hash_and_staged_bytes_whatever_comes_first(
    world: World, tmp_path: Path
) -> None:
    documents = [document(number, [link(number), link(number + 10)]) for number in (0, 1, 0)]
    first = ingested(world, documents)
    assert first[0]["raw_sha256"] == first[2]["raw_sha256"] != first[1]["raw_sha256"]
    tar = (world.folder / "run/staged/00000.tar").read_bytes()
    (world.folder / "run").rename(world.folder / "before")
    ingested(world, documents, fetch=fetch(world) | {"concurrency": 1})
    assert (world.folder / "run/staged/00000.tar").read_bytes() == tar


def fetch(world: World) -> dict[str, Any]:
    return {
        "allow_networks": ["127.0.0.0/8"],
        "connect_to": {"media.example": f"127.0.0.1:{world.port}"},
        "retries": 0,
    }


def test_a_listed_hash_and_too_many_images_cost_that_image_only(world: World) -> None:
    listed = hashlib.sha256(jpeg(2, 320, 240)).hexdigest()
    (world.folder / "blocked.txt").write_text(listed + "\n")
    rows = ingested(
        world,
        [document(0, [link(1), link(2), link(4), link(5)])],
        source={"max_images": 3},
        fetch=fetch(world) | {"hash_blocklist": "blocked.txt"},
    )
    assert rows[0][MEDIA_REASONS] == ["ok", "policy.hash_blocklist", "ok", "filtered.too_many_images"]
    assert sorted(world.requests) == ["/1.jpg", "/2.jpg", "/4.jpg"]


def test_local_images_need_no_server_and_instructions_may_have_none(world: World) -> None:
    (world.folder / "coco").mkdir()
    (world.folder / "coco/1.jpg").write_bytes(jpeg(1, 200, 100))
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A picture."}]
    (world.folder / "mix.json").write_text(
        json.dumps(
            [
                {"id": "a", "image": "coco/1.jpg", "conversations": turns},
                {"id": "b", "conversations": turns},
                {"id": "c", "image": ["coco/1.jpg", "coco/1.jpg"], "conversations": turns},
                {"id": "d", "image": "coco/gone.jpg", "conversations": turns},
                {"id": "e", "image": "../secret.jpg", "conversations": turns},
                {"id": "f", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]},
                {"id": "g"},
            ]
        )
    )
    rows = ingested(world, [], source={"kind": "instruct", "path": "mix.json"})
    assert {row["id"]: row["reason"] for row in rows.values()} == {
        "a": "ok",
        "b": "content.media_count",
        "c": "content.media_count",
        "d": "fetch.row_error",
        "e": "fetch.row_error",
        "f": "ok",
        "g": "fetch.row_error",
    }
    assert [sorted(rows[number]["staged"]) for number in (0, 5)] == [["000.jpg"], []]
    assert rows[1]["detail"] == "places in the text: image; media:"
    assert not world.requests


def test_documents_without_any_image_are_scored_among_the_others(world: World) -> None:
    model = write_tiny_checkpoint(world.folder / "clip")
    ingested(
        world,
        [document(0, [link(1), link(2)]), document(1, [link(MISSING[0])]), document(2, [link(4)])],
        stages=[{"decode_document": {"min_images": 0}}],
        score=[{"document_similarity": {"model": model, "batch_size": 2}}],
        until="score",
    )
    scores = {}
    for path in (world.folder / "run/scores/document_similarity").glob("*.parquet"):
        scores |= {row["key"]: row for row in ledger.read(str(path)).to_pylist()}
    found = [json.loads(scores[f"docs-{number:012d}"]["document_similarity"]) for number in range(3)]
    assert [[len(row) for row in matrix] for matrix in found] == [[3, 3], [], [2]]
    assert scores["docs-000000000001"]["matched_similarity"] is None


def test_documents_without_the_stage_that_decodes_them_are_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="docs: its rows are documents: put decode_document among the stages"):
        ingested(world, [document(0, [link(1)])], stages=[{"decode_image": {}}])


def test_an_outage_of_images_alone_holds_the_shard(world: World) -> None:
    world.is_down = True
    documents = [document(number, [link(number * 3 + n) for n in range(3)]) for number in range(8)]
    with pytest.raises(BudgetError, match="24 of 24"):
        ingested(world, documents, stages=[{"decode_document": {"min_images": 0}}], run={"attempts": 1})


def waiting(tmp_path: Path, urls: list[str]) -> DocumentMedia:
    messages = json.dumps([{"role": "user", "content": [{"type": "image"}] * len(urls)}])
    media = json.dumps([{"type": "image", "url": url} for url in urls])
    return DocumentMedia(Sample("d-000000000000", {}, {}), messages, media, tmp_path)


def test_media_in_any_order_wait_in_a_file_that_is_gone_after(tmp_path: Path) -> None:
    document = waiting(tmp_path, ["a", "b", "c"])
    for number in (2, 0, 1):
        assert not document.is_complete
        fetched = Fetched(f"d-000000000000.{number}", bytes([65 + number]) * 10)
        document.keep(check_bytes(fetched, None, ()))
        assert not fetched.data
        assert len(list(tmp_path.iterdir())) == 1
    sample = document.finish(lambda *_: pytest.fail("nothing is stored"), 100)
    assert sample.parts == {"raw.000": b"A" * 10, "raw.001": b"B" * 10, "raw.002": b"C" * 10}
    assert (sample.columns["bytes"], list(tmp_path.iterdir())) == (30, [])


def test_media_of_one_document_have_a_limit_together_in_their_order(tmp_path: Path) -> None:
    document = waiting(tmp_path, list("abcdef"))
    for number in (5, 4, 3, 2, 1, 0):
        document.keep(check_bytes(Fetched(f"d-000000000000.{number}", b"x" * (9 if number != 4 else 4)), None, ()))
    sample = document.finish(lambda *_: pytest.fail("nothing is stored"), 10)
    assert sample.columns[MEDIA_REASONS] == ["ok"] * 4 + ["ok", "fetch.too_large"]
    assert sum(map(len, sample.parts.values())) == 40
