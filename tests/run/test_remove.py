"""Removal: what a list names is not in the next dataset; purged, it is in no byte of the run, and is not asked for."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mmdata.emit.report_media import tile_of
from mmdata.errors import ConfigError
from mmdata.run.pipeline import Places, refetch, remove, run_pipeline, verify_dataset
from mmdata.run.removals import Removals, host_of, plain_url, read_entries
from mmdata.run.scoring import ScoreWorker
from mmdata.shards import ledger, storage, tar
from mmdata.shards.folders import RunFolder
from tests.audio.sounds import file_of, sweep_T
from tests.builders import jpeg
from tests.fetch.name_server import NameServer
from tests.run.test_pipeline import manifest_of
from tests.run.world import MISSING, World, tree_of
from tests.score.checkpoints import write_tiny_checkpoint

ROWS = 30
BAD = "bad.example"
OF_BAD = (16, 27)  # rows whose host is below the listed domain
URL, KEY, DIGEST, DEAD = 12, 14, 18, 20  # rows listed by link, by key, by hash, and one whose link is dead
REMOVED = {URL, KEY, DIGEST, *OF_BAD}
NEXT = "small-v2"


@pytest.fixture
def listed(world: World) -> Iterator[World]:
    """The world with a smaller table, some of whose hosts are found by a name server, and a list of what is to go."""
    with NameServer({f"cdn.{BAD}": "127.0.0.1"}) as server:
        rows = [[link(world, row), f"picture number {row}", "CC0"] for row in range(ROWS)]
        write_table(world, "links.csv", rows)
        fetch = {
            "allow_networks": ["127.0.0.0/8"],
            "connect_to": {"media.example": f"127.0.0.1:{world.port}"},
            "name_servers": [f"127.0.0.1:{server.port}"],
            "ports": [80, 443, world.port],
            "retries": 0,
        }
        world.write_pipeline(fetch=fetch)
        digest = hashlib.sha256(jpeg(DIGEST, 320, 240)).hexdigest()
        (world.folder / "list.txt").write_text(
            f"# a take-down\nhttp://media.example/{URL}.jpg  # by link\n{BAD}\n\nweb-{KEY:012d}\n"
            f"{digest.upper()}\nurl:{link(world, DEAD)}\n"
        )
        yield world


def link(world: World, row: int) -> str:
    return f"http://cdn.{BAD}:{world.port}/{row}.jpg" if row in OF_BAD else f"http://media.example/{row}.jpg"


def write_table(world: World, name: str, rows: list[list[str]]) -> None:
    with (world.folder / name).open("w", newline="") as file:
        csv.writer(file).writerows([["url", "caption", "license"], *rows])


def run(world: World, *overrides: str) -> None:
    places = Places(str(world.folder / "runs/small"), str(world.folder / "datasets/small"), in_process=True)
    run_pipeline(str(world.folder / "small.yaml"), overrides, places, "report")


def take_out(world: World, purge: bool, name: str = "list.txt") -> None:
    remove(str(world.folder / "runs/small"), str(world.folder / name), purge, (), Places(in_process=True))


def bytes_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file as it is, and every column of a Parquet file decompressed."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield path.relative_to(folder).as_posix(), path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            for name in table.column_names:
                yield f"{path.relative_to(folder)}[{name}]", column_bytes(table[name])


def column_bytes(column: pa.ChunkedArray) -> bytes:
    """All buffers of a column, hence whatever text or media are in it, nested or not."""
    return b"".join(buffer.to_pybytes() for chunk in column.chunks for buffer in chunk.buffers() if buffer)


def holds(folder: Path, needles: dict[str, bytes]) -> set[str]:
    """`what in which file` for all that is found."""
    return {f"{what} in {name}" for name, data in bytes_below(folder) for what, it in needles.items() if it in data}


def traces(world: World, rows: set[int], with_keys: bool = True) -> dict[str, bytes]:
    """What would give rows away: link, caption, hash, key, and the pictures as they came and as they are kept."""
    found = {BAD: BAD.encode()}
    for row in sorted(rows):
        raw = jpeg(row, 320, 240)
        found[f"link {row}"] = f"/{row}.jpg".encode()
        found[f"caption {row}"] = f"picture number {row}".encode()
        found[f"hash {row}"] = hashlib.sha256(raw).hexdigest().encode()
        found[f"picture {row}"] = raw[-500:-100]  # its tables are those of every picture
        if with_keys:
            found[f"key {row}"] = f"web-{row:012d}".encode()
    return found


def staged(world: World, rows: set[int]) -> dict[int, dict[str, bytes]]:
    """Parts of some rows in the staged tars."""
    found = {}
    for path in (world.folder / "runs/small/staged").glob("*.tar"):
        with path.open("rb") as file:
            for key, parts in tar.read_samples(file, str(path)):
                if int(key[-12:]) in rows:
                    found[int(key[-12:])] = parts
    return found


def newest_rows(world: World) -> list[dict[str, object]]:
    """Rows of the newest ledgers with the selection over them."""
    root = world.folder / "runs/small"
    chosen = max((root / "selection").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    rows = []
    for path in sorted(chosen.iterdir()):
        newest = max((root / "ledger").glob(f"{path.stem}*"), key=lambda path: len(path.name))
        both = zip(ledger.read(str(newest)).to_pylist(), ledger.read(str(path)).to_pylist(), strict=True)
        rows += [row | final for row, final in both]
    return rows


def test_the_next_version_and_the_report_have_nothing_of_what_is_listed(listed: World) -> None:
    run(listed)
    first = tree_of(listed.folder / "datasets/small")
    pictures = {f"part {row}": parts["jpg"] for row, parts in staged(listed, REMOVED).items()}
    assert len(pictures) == len(REMOVED)
    assert holds(listed.folder / "datasets/small", pictures)  # the search finds what is there
    tiles = [base64.b64encode(tile_of(parts).jpeg)[-400:] for parts in staged(listed, REMOVED).values()]
    report = listed.folder / "runs/small/report.html"
    assert any(tile in report.read_bytes() for tile in tiles)
    listed.requests.clear()
    take_out(listed, purge=False)
    assert listed.requests == []

    rows = newest_rows(listed)
    assert {row["row"] for row in rows if row["reason"] == "policy.removed"} == REMOVED
    assert Counter(row["status"] for row in rows).total() == ROWS
    dataset = listed.folder / "datasets" / NEXT
    assert "as its manifest says" in verify_dataset(str(dataset))
    assert not holds(dataset, traces(listed, REMOVED | {DEAD}) | pictures)
    assert tree_of(listed.folder / "datasets/small") == first  # the version before is kept
    page = report.read_bytes()
    assert b"policy.removed" in page
    shown = {name for name, it in traces(listed, REMOVED | {DEAD}).items() if it in page}
    assert not shown
    assert not any(tile in page for tile in tiles)

    # Every later selection heeds the list.
    run(listed, "select=[]")
    third = listed.folder / "datasets" / "small-v3"
    assert manifest_of(third)["reasons"]["policy.removed"] == len(REMOVED)  # type: ignore[index]
    assert not holds(third, traces(listed, REMOVED | {DEAD}))


def test_a_purge_leaves_it_in_no_byte_of_run_and_datasets(listed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_tiny_checkpoint(listed.folder / "clip")
    tree = yaml.safe_load((listed.folder / "small.yaml").read_text())
    (listed.folder / "small.yaml").write_text(yaml.safe_dump(tree | {"score": [{"image_text": {"model": model}}]}))
    run(listed)
    take_out(listed, purge=False)  # the list itself is to go, too
    before = {row["key"]: row for row in newest_rows(listed)}
    embeddings = scores(listed)
    gone = {f"part {row}": parts["jpg"] for row, parts in staged(listed, REMOVED).items()}
    gone |= {f"embedding {row}": embeddings[row]["image_embedding"] for row in REMOVED}  # type: ignore[dict-item]
    assert {name.partition(" ")[0] for name in holds(listed.folder / "runs", gone)} == {"part", "embedding"}

    rows_of = listed.folder / "runs/small/plan/rows"
    shutil.copy(rows_of / "00000.parquet", rows_of / ".00000.parquet.0123456789ab")  # as a kill may leave it
    monkeypatch.setattr(ScoreWorker, "score", None)  # what is scored is not scored again
    take_out(listed, purge=True)
    for folder in ("runs", "datasets"):
        # The key of a removed row stays with its reason in the run, so that every row is accounted for.
        found = holds(listed.folder / folder, traces(listed, REMOVED | {DEAD}, folder == "datasets") | gone)
        assert not found
    assert sorted(path.name for path in (listed.folder / "datasets").iterdir()) == ["small-v3"]
    assert "as its manifest says" in verify_dataset(str(listed.folder / "datasets/small-v3"))
    rows = {row["key"]: row for row in newest_rows(listed)}
    assert list(rows) == list(before)
    changed = {key for key in rows if without_selection(rows[key]) != without_selection(before[key])}
    assert {rows[key]["row"] for key in changed} == REMOVED | {DEAD}
    assert {rows[key]["reason"] for key in changed} == {"policy.removed"}
    after = scores(listed)
    assert {row for row in after if after[row] != embeddings[row]} == REMOVED
    assert all(after[row]["image_embedding"] is None for row in REMOVED)

    # New tables that name it again, in other words too: no request, and no byte of it comes in.
    monkeypatch.undo()
    listed.requests.clear()
    write_table(
        listed,
        "links-more.csv",
        [
            [f"HTTP://Media.Example:80/{URL}.jpg#top", f"picture number {URL}", "CC0"],
            [f"http://other.cdn.{BAD}/77.jpg", f"picture of {BAD}", "CC0"],
            [f"http://media.example/0{DIGEST}.jpg", "the same bytes elsewhere", "CC0"],
            ["http://media.example/55.jpg", "picture number 55", "CC0"],
        ],
    )
    run(listed)
    assert sorted(listed.requests) == [
        f"/0{DIGEST}.jpg",
        "/55.jpg",
    ]  # bytes are known by their hash only once they come
    assert Counter(row["reason"] for row in newest_rows(listed))["policy.removed"] == len(REMOVED) + 1 + 3
    gone |= traces(listed, REMOVED | {DEAD}, with_keys=False)
    gone.pop(f"link {DIGEST}")
    assert not holds(listed.folder / "runs", gone) | holds(listed.folder / "datasets", gone)
    listed.requests.clear()
    refetch(str(listed.folder / "runs/small"), "policy", (), Places(in_process=True))
    assert listed.requests == [f"/0{DIGEST}.jpg"]
    assert not holds(listed.folder / "runs", gone)


def without_selection(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name not in ("keep", "repeat", "split", "duplicate_group")}


def scores(world: World) -> dict[int, dict[str, object]]:
    """Scores by row, embeddings as their bytes."""
    found = {}
    for row in newest_scores(world):
        vector = row.pop("image_embedding")
        data = None if vector is None else pa.array(vector, pa.float16()).buffers()[1].to_pybytes()
        found[int(str(row["key"])[-12:])] = row | {"image_embedding": data}
    return found


def newest_scores(world: World) -> Iterator[dict[str, object]]:
    folder = world.folder / "runs/small/scores/image_text"
    for stem in sorted({path.name[:5] for path in folder.iterdir()}):
        (path,) = folder.glob(f"{stem}*")  # of a purged shard there is one revision
        yield from ledger.read(str(path)).to_pylist()


def content(folder: Path) -> dict[str, str]:
    """Hash of every file but those that tell of time and attempts."""
    skipped = ("status.json", "driver", "logs", "report.html", "commits")
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not any(part in skipped for part in path.parts)
    }


def test_a_purge_that_is_killed_anywhere_ends_in_the_same_state(listed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run(listed)
    kept = listed.folder / "kept"
    for name in ("runs", "datasets"):
        shutil.copytree(listed.folder / name, kept / name)
    steps = 0
    deadly = [10**9]

    class Killed(BaseException):
        pass

    def counted(name: str) -> None:
        real = getattr(storage, name)

        def step(*args: object) -> object:
            nonlocal steps
            # The thread that keeps status.json fresh writes by the clock, so its writes are no step of the work.
            is_work = threading.current_thread() is threading.main_thread()
            steps += is_work
            if is_work and steps == deadly[0]:
                raise Killed
            return real(*args)

        monkeypatch.setattr(storage, name, step)

    for name in ("write_whole", "create_if_absent", "publish", "remove"):
        counted(name)
    take_out(listed, purge=True)
    wanted, total = {name: content(listed.folder / name) for name in ("runs", "datasets")}, steps
    for share in (0.02, 0.2, 0.4, 0.6, 0.8, 0.95):
        for name in ("runs", "datasets"):
            shutil.rmtree(listed.folder / name)
            shutil.copytree(kept / name, listed.folder / name)
        steps, deadly[0] = 0, max(1, int(total * share))
        with pytest.raises(Killed):
            take_out(listed, purge=True)
        deadly[0] = 10**9
        if share == 0.4:
            run(listed)  # any command goes on with it
        take_out(listed, purge=True)
        assert {name: content(listed.folder / name) for name in ("runs", "datasets")} == wanted, share


def test_what_was_cut_from_a_row_goes_with_it_and_one_cut_alone(tmp_path: Path) -> None:
    sounds = {name: file_of(sweep_T(8 * 8000, 8000, top), 8000) for name, top in (("a", 2000.0), ("b", 3000.0))}
    (tmp_path / "wavs").mkdir()
    for name, data in sounds.items():
        (tmp_path / "wavs" / f"{name}.wav").write_bytes(data)
        (tmp_path / "wavs" / f"{name}.txt").write_text(f"words of {name}")
    tree = {
        "name": "small",
        "sources": {"talk": {"kind": "media_folder", "path": "wavs", "modality": "audio_text"}},
        "stages": [{"decode_audio": {"sample_rate_hz": 8000}}, {"segment_audio": {"max_s": 3.0}}],
        "emit": {"val_share": 0.0},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(tree))
    places = Places(str(tmp_path / "runs/small"), str(tmp_path / "datasets/small"), in_process=True)
    run_pipeline(str(tmp_path / "small.yaml"), (), places, "report")
    before = keys_in(tmp_path / "datasets/small")
    assert len(before) >= 6
    cut = "talk-000000000001_0001"
    assert cut in before
    (tmp_path / "list.txt").write_text(f"{hashlib.sha256(sounds['a']).hexdigest()}\nkey:{cut}\n")
    remove(places.run, str(tmp_path / "list.txt"), False, (), Places(in_process=True))
    left = {key for key in before if key.startswith("talk-000000000001")} - {cut}
    assert keys_in(tmp_path / "datasets/small-v2") == left
    remove(places.run, str(tmp_path / "list.txt"), True, (), Places(in_process=True))
    assert keys_in(tmp_path / "datasets/small-v3") == left
    found = holds(tmp_path / "runs", {"bytes": sounds["a"][4000:4400], "hash": hashlib.sha256(sounds["a"]).digest()})
    assert not found
    refetch(places.run, "policy.removed", (), Places(in_process=True))  # which cuts the second sound again
    assert keys_in(tmp_path / "datasets/small-v3") == left
    rows = ledger.read(RunFolder(places.run).ledger(0, 2)).to_pylist()
    assert {row["key"] for row in rows if row["reason"] == "policy.removed"} == {"talk-000000000000", cut}


def keys_in(dataset: Path) -> set[str]:
    return {
        key
        for path in (dataset / "index").rglob("*.parquet")
        for key in ledger.read(str(path), ["key"])["key"].to_pylist()
    }


def test_a_line_that_is_nothing_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# fine\nmedia.example # a domain\nnot a thing\n")
    with pytest.raises(ConfigError, match=r"list\.txt: line 3: found 'not a thing'"):
        read_entries(str(path))
    path.write_text(f"Media.Example\nhttp://a.example/x#y\nweb-{1:012d}-x02\n{'AB' * 32}\nphash:{'0f' * 8}\n")
    assert read_entries(str(path)) == [
        ("domain", "media.example"),
        ("url", "http://a.example/x#y"),
        ("url", "http://a.example/x"),
        ("key", f"web-{1:012d}"),
        ("sha256", "ab" * 32),
        ("phash", "0f" * 8),
    ]


def test_links_are_listed_by_their_meaning_and_documents_by_their_media() -> None:
    assert plain_url("HTTPS://User:x@Media.Example.:443/A?b=C#d") == "https://media.example/A?b=C"
    assert plain_url("http://[::1]:8080/a") == "http://[::1]:8080/a"
    assert plain_url("no link") == "no link"
    assert host_of("http://b\u00fccher.example/") == "xn--bcher-kva.example"
    removals = Removals()
    removals.add([("url", "http://media.example/1.jpg"), ("domain", "bad.example"), ("sha256", "ab" * 32)])
    assert removals.has_url("http://media.example:80/1.jpg")
    assert not removals.has_url("http://media.example/1.jpg?2")
    assert removals.has_url("http://a.b.bad.example:81/")
    assert not removals.has_url("http://notbad.example/")
    assert removals.has_url("http://bad.example?x")
    assert removals.has_url("HTTPS://u@BAD.example./x")
    row: dict[str, object] = {"url": None, "expected_sha256": None, "media_list": None}
    assert not removals.has_row("web-1", row)
    for medium in (
        {"type": "image", "url": "http://bad.example/x"},
        {"type": "image", "path": "x", "sha256": "ab" * 32},
    ):
        assert removals.has_row(
            "web-1", row | {"media_list": json.dumps([{"type": "image", "url": "http://x/"}, medium])}
        )


def test_a_removal_from_no_run_or_with_an_empty_list_is_refused(world: World) -> None:
    (world.folder / "list.txt").write_text("# nothing\n")
    with pytest.raises(ConfigError, match="is it a run folder"):
        take_out(world, purge=False)
    done = world.mmdata("remove", "runs/small", check=False)
    assert done.returncode == 2
    assert "--list" in done.stderr
    assert MISSING[1] == DEAD
