"""Progress and status.json: what is written is true, is written rarely, and not at all where nothing was done."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import pytest

from mmdata.counters import Counters
from mmdata.errors import ConfigError, ShardError
from mmdata.run.funnel import Funnel, funnel_of, funnel_of_status
from mmdata.run.status import Progress, print_funnel, print_status, read_status
from mmdata.shards import storage
from mmdata.shards.folders import RunFolder


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def counts(samples: int, **reasons: int) -> Counters:
    named = {name.replace("__", "."): number for name, number in reasons.items()}
    return Counters(samples=samples, bytes_in=10 * samples, bytes_out=samples, reasons=Counter(named))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "run"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def progress(run: RunFolder, clock: Clock, stream: io.StringIO) -> Progress:
    return Progress(run, tty=False, stream=stream, clock=clock, wall=lambda: 0.0, ticking=False)


def work(progress: Progress, clock: Clock) -> None:
    """A whole run: 4 shards of 100 rows, of which an earlier driver had done 1."""
    with progress:
        progress.start("ingest", 4, 400, counts(100, ok=90, fetch__timeout=10), done_shards=1)
        for _ in range(3):
            clock.now_s += 10
            progress.shard("ingest", counts(100, ok=80, fetch__timeout=15, decode__corrupt=5))
        progress.end("ingest")
        progress.start("score.image_text", 4, 330, Counters())
        clock.now_s += 5
        progress.shard("score.image_text", counts(330, ok=328, score__failed=2))
        progress.end("score.image_text")
        progress.start("select", 1, 400)
        progress.end("select", counts(400, ok=300, filtered__score_low=28, fetch__timeout=55, decode__corrupt=15))
        progress.start("emit", 2, 300)
        progress.shard("emit.0123abcd", counts(310, ok=310))
        progress.end("emit")


def test_status_json_says_how_far_each_part_is(progress: Progress, run: RunFolder, clock: Clock) -> None:
    with progress:
        progress.start("ingest", 4, 400, counts(100, ok=90, fetch__timeout=10), done_shards=1)
        clock.now_s += 10
        progress.shard("ingest", counts(100, ok=80, fetch__timeout=15, decode__corrupt=5))
        status = read_status(run)
    (part,) = status.pop("parts")
    assert status == {
        "version": 1, "state": "running", "message": "", "part": "ingest", "elapsed_s": 10.0, "engine_start_s": 0.0,
        "updated_unix_s": 0,
    }  # fmt: skip
    assert part == {
        "part": "ingest",
        "state": "running",
        "shards_done": 2,
        "shards_total": 4,
        "rows_done": 200,
        "rows_total": 400,
        "bytes_in": 2000,
        "bytes_out": 200,
        "reasons": {"ok": 170, "fetch.timeout": 25, "decode.corrupt": 5},
        "ok_share": 0.85,
        "rows_per_s": 10.0,
        "rows_per_s_60s": 10.0,
        "elapsed_s": 10.0,
        "eta_s": 20.0,
    }


def test_the_rate_of_the_last_minute_forgets_what_was_before(progress: Progress, clock: Clock) -> None:
    with progress:
        progress.start("ingest", 10, 10_000, Counters())
        clock.now_s += 10
        progress.shard("ingest", counts(6000, ok=6000))
        clock.now_s += 70
        progress.shard("ingest", counts(600, ok=600))
        (part,) = progress.status()["parts"]
    assert part["rows_per_s"] == 82.5
    assert part["rows_per_s_60s"] == 10.0
    assert part["eta_s"] == 340.0


def test_status_json_is_written_at_most_every_two_seconds(
    progress: Progress, run: RunFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(storage, "write_whole", lambda path, data: written.append(data))
    with progress:
        progress.start("ingest", 100, 1000, Counters())
        for _ in range(99):
            clock.now_s += 0.1
            progress.shard("ingest", counts(10, ok=10))
    assert 5 <= len(written) <= 7
    assert all(json.loads(data)["version"] == 1 for data in written)


def test_a_finished_run_run_again_writes_nothing_and_says_nothing(
    progress: Progress, run: RunFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(progress, clock)
    stream = io.StringIO()
    monkeypatch.setattr(storage, "write_whole", lambda path, data: pytest.fail("wrote"))
    again = Progress(run, tty=False, stream=stream, clock=clock, ticking=False)
    with again:
        ingest = counts(400, ok=330, fetch__timeout=55, decode__corrupt=15)
        again.start("ingest", 4, 400, ingest)
        again.end("ingest")
        again.start("score.image_text", 4, 330, counts(330, ok=328, score__failed=2))
        again.end("score.image_text")
        again.start("select", 1, 400)
        again.end("select", counts(400, ok=300, filtered__score_low=28, fetch__timeout=55, decode__corrupt=15))
        again.start("emit", 2, 300, counts(310, ok=310))
        again.end("emit")
    assert stream.getvalue() == ""
    assert read_status(run)["state"] == "done"


def test_a_finished_scorer_that_takes_some_modalities_only_has_nothing_to_do(
    progress: Progress, run: RunFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress:
        progress.start("score.image_text", 2, 100, counts(30, ok=30), done_shards=1)
        clock.now_s += 5
        progress.shard("score.image_text", counts(40, ok=40))  # of 70 rows, the others are sound
        progress.end("score.image_text")
    monkeypatch.setattr(storage, "write_whole", lambda path, data: pytest.fail("wrote"))
    with Progress(run, tty=False, stream=io.StringIO(), clock=clock, ticking=False) as again:
        clock.now_s += 5
        again.start("score.image_text", 2, 100, counts(70, ok=70), done_shards=2)
        again.end("score.image_text")


def test_a_driver_that_was_killed_at_the_end_is_put_right_by_the_next(
    progress: Progress, run: RunFolder, clock: Clock
) -> None:
    work(progress, clock)
    storage.write_whole(run.status, json.dumps(read_status(run) | {"state": "running"}).encode())
    again = Progress(run, tty=False, stream=io.StringIO(), clock=clock, ticking=False)
    with again:
        again.start("ingest", 4, 400, counts(400, ok=400))
        again.end("ingest")
    assert read_status(run)["state"] == "done"


@pytest.mark.parametrize(
    ("error", "state"), [(ShardError("shard 3: \x1b[31mbad\nluck"), "failed"), (KeyboardInterrupt(), "stopped")]
)
def test_how_a_run_ended_is_written(progress: Progress, run: RunFolder, error: BaseException, state: str) -> None:
    def fail() -> None:
        with progress:
            progress.start("ingest", 1, 10, Counters())
            progress.fail("ingest")
            raise error

    with pytest.raises(type(error)):
        fail()
    status = read_status(run)
    assert (status["state"], status["part"], status["parts"][0]["state"]) == (state, "ingest", "failed")
    assert status["message"] in ("shard 3:  [31mbad luck", "")


def test_without_a_terminal_there_are_plain_lines(progress: Progress, stream: io.StringIO, clock: Clock) -> None:
    work(progress, clock)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "ingest: 2/4 shards, 200 rows, 10/s, ok 85.0 %, ETA 20 s, fetch.timeout 25, decode.corrupt 5"
    assert lines[3] == (
        "ingest: 4/4 shards, 400 rows, 10/s, ok 82.5 %, done in 30 s, fetch.timeout 55, decode.corrupt 15"
    )
    assert stream.getvalue().isascii()
    assert "\x1b" not in stream.getvalue()


def test_where_nothing_moves_a_line_comes_only_every_half_minute(
    progress: Progress, stream: io.StringIO, clock: Clock
) -> None:
    with progress:
        progress.start("ingest", 1, 10, Counters())
        for _ in range(100):
            clock.now_s += 1
            progress.tick()
        assert 3 <= len(stream.getvalue().splitlines()) <= 4


def test_in_a_terminal_bars_are_drawn(run: RunFolder, clock: Clock, stream: io.StringIO) -> None:
    work(Progress(run, tty=True, stream=stream, clock=clock), clock)
    assert "score.image_text" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()


def test_a_status_that_cannot_be_written_does_not_end_a_run(
    progress: Progress, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, data: bytes) -> None:
        raise storage.StorageError("storage is full")

    monkeypatch.setattr(storage, "write_whole", full)
    work(progress, clock)


@pytest.mark.parametrize("data", [None, b"{", b"[]", b'{"version": 99}', b"\xff"])
def test_what_is_no_status_is_refused(run: RunFolder, data: bytes | None) -> None:
    if data is not None:
        storage.write_whole(run.status, data)
    with pytest.raises(ConfigError, match="status"):
        read_status(run)


def test_the_funnel_of_counters_and_of_a_status_are_the_same(progress: Progress, run: RunFolder, clock: Clock) -> None:
    work(progress, clock)
    ingest = counts(400, ok=330, fetch__timeout=55, decode__corrupt=15)
    score = counts(330, ok=328, score__failed=2)
    final = counts(400, ok=300, filtered__score_low=28, fetch__timeout=55, decode__corrupt=15)
    expected = Funnel(400, 330, 328, 300, 310, dict(final.reasons))
    assert funnel_of(ingest, {"image_text": score}, final, counts(310, ok=310)) == expected
    assert funnel_of_status(read_status(run)) == expected


def test_before_selection_the_reasons_still_add_up() -> None:
    funnel = funnel_of(counts(10, ok=7, fetch__dns=3), {"image_text": counts(7, ok=6, score__failed=1)})
    assert funnel == Funnel(10, 7, 6, None, None, {"ok": 6, "fetch.dns": 3, "score.failed": 1})
    assert sum(funnel.reasons.values()) == funnel.rows


def test_the_funnel_table_is_plain_ascii_without_a_terminal(
    progress: Progress, run: RunFolder, clock: Clock, stream: io.StringIO
) -> None:
    work(progress, clock)
    out = io.StringIO()
    long_path = "/data/" + "x" * 200
    print_funnel(read_status(run), {"dataset": long_path, "digest": "ab" * 32}, stream=out, tty=False)
    shown = out.getvalue()
    assert shown.isascii()
    assert "\x1b" not in shown
    assert long_path in shown, "paths are not broken into lines"
    for words in (("rows", "400", "100 %"), ("kept", "300", "75.0 %"), ("fetch.timeout", "55", "13.8 %")):
        assert any(all(word in line for word in words) for line in shown.splitlines()), words


def test_print_status_shows_state_parts_and_funnel(progress: Progress, run: RunFolder, clock: Clock) -> None:
    work(progress, clock)
    out = io.StringIO()
    print_status(read_status(run), stream=out, tty=False)
    assert out.getvalue().startswith("done\n")
    assert "score.image_text" in out.getvalue()
    assert "filtered.score_low" in out.getvalue()
