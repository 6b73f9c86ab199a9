"""The sandbox: whatever a file does to its decoder, it costs that sample only, and nothing of ours is in reach."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mmdata.counters import check_law
from mmdata.errors import MmdataError, Reason
from mmdata.run import sandbox as sandbox_module
from mmdata.run.sandbox import Sandbox, kept_sandboxes
from mmdata.sample import Sample, sample_key
from tests.run.breaking import BREAKS, CUTS

END_S = 30
PARENT = """
import sys
from mmdata.run.sandbox import Sandbox
from mmdata.sample import Sample
with Sandbox([("tests.run.breaking:Breaks", {})], timeout_s=600, memory_mb=64) as sandbox:
    (sample,) = sandbox.process([Sample("a-000000000001", {"raw": b"fine"}, {"modality": "image_text"})])
    print(sample.columns["pid"], flush=True)
    if sys.argv[1] == "busy":
        sandbox.process([Sample("a-000000000002", {"raw": b"hang"}, {"modality": "image_text"})])
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    """One sandbox for the tests that leave its child alive."""
    with Sandbox([(BREAKS, {"mark": "seen"})], timeout_s=60, memory_mb=256) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox([(BREAKS, {"mark": "seen"})], timeout_s=60, memory_mb=96) as sandbox:
        yield sandbox


def _samples(*raws: bytes) -> list[Sample]:
    return [
        Sample(sample_key("pictures", number), {"raw": raw}, {"row": number, "modality": "image_text"})
        for number, raw in enumerate(raws)
    ]


def _reasons(samples: Sequence[Sample]) -> list[str]:
    return [sample.reason.value for sample in samples]


def _others_are_whole(given: Sequence[tuple[str, bytes]], done: Sequence[Sample], broken: int) -> None:
    assert [sample.key for sample in done] == [key for key, _ in given]
    check_law("sandbox", [key for key, _ in given], done)
    for number, ((_, raw), sample) in enumerate(zip(given, done, strict=True)):
        assert sample.columns["row"] == number
        if number != broken:
            assert (sample.reason, sample.parts, sample.columns["mark"]) == (Reason.OK, {"raw": raw}, "SEEN")


def test_samples_come_back_in_order_with_what_the_stages_added(shared: Sandbox) -> None:
    done = shared.process(_samples(*(f"raw {number}".encode() for number in range(40))))
    assert [sample.parts["raw"] for sample in done] == [f"raw {number}".encode() for number in range(40)]
    assert {sample.columns["mark"] for sample in done} == {"SEEN"}
    assert [sample.columns["row"] for sample in done] == list(range(40))
    assert shared.counts["breaks"].seconds > 0


def test_one_child_serves_batch_after_batch(shared: Sandbox) -> None:
    pids = {shared.process(_samples(b"x"))[0].columns["pid"] for _ in range(3)}
    assert len(pids) == 1
    assert os.getpid() not in pids


def test_no_samples_are_no_work(shared: Sandbox) -> None:
    assert shared.process([]) == []


@pytest.mark.parametrize(
    ("does", "reason", "says"),
    [
        (b"signal:SIGSEGV", Reason.DECODE_CRASHED, "the decoder ended with SIGSEGV"),
        (b"signal:SIGABRT", Reason.DECODE_CRASHED, "the decoder ended with SIGABRT"),
        (b"signal:SIGKILL", Reason.DECODE_OOM, "the system ended the decoder, most likely out of memory"),
        (b"signal:SIGXCPU", Reason.DECODE_TIMEOUT, "used up its CPU time"),
        (b"exit:0", Reason.DECODE_CRASHED, "the decoder ended with exit 0"),
        (b"exit:3", Reason.DECODE_CRASHED, "the decoder ended with exit 3"),
        (b"memory:4000", Reason.DECODE_OOM, "over the memory limit"),
        (b"answer:70", Reason.DECODE_OOM, "over the memory limit"),
        (b"raise:a bug", Reason.INTERNAL, "breaks: RuntimeError: a bug"),
        (b"corrupt:no marker", Reason.CORRUPT, "no marker"),
        (b"array", Reason.INTERNAL, "TypeError: Type is not JSON serializable: set"),
    ],
)
def test_a_sample_that_breaks_its_decoder_costs_that_sample_only(
    sandbox: Sandbox, does: bytes, reason: Reason, says: str
) -> None:
    raws = [b"one", b"two", does, b"four", b"five"]
    samples = _samples(*raws)
    given = [(sample.key, raw) for sample, raw in zip(samples, raws, strict=True)]
    done = sandbox.process(samples)
    _others_are_whole(given, done, broken=2)
    assert (done[2].reason, done[2].detail, done[2].parts) == (reason, says, {})
    assert sandbox.restarts <= 2
    assert _reasons(sandbox.process(_samples(b"next"))) == ["ok"], "the sandbox goes on after it"


@pytest.mark.parametrize(
    "does", [b"text", b"list", b"long", b"part", b"minus", b"other", b"reason", b"none", b"names", b"counts"]
)
def test_an_answer_of_a_decoder_that_was_taken_over_is_only_data(sandbox: Sandbox, does: bytes) -> None:
    raws = [b"one", b"nonsense:" + does, b"three"]
    samples = _samples(*raws)
    given = [(sample.key, raw) for sample, raw in zip(samples, raws, strict=True)]
    done = sandbox.process(samples)
    _others_are_whole(given, done, broken=1)
    assert done[1].reason is Reason.DECODE_CRASHED
    assert done[1].detail in (
        "the decoder gave an answer that makes no sense",
        "the decoder answered for another sample",
    )


def test_a_sample_that_hangs_is_ended_in_time_and_tried_once() -> None:
    raws = [b"one", b"hang", b"three"]
    samples = _samples(*raws)
    given = [(sample.key, raw) for sample, raw in zip(samples, raws, strict=True)]
    with Sandbox([(BREAKS, {"mark": "seen"})], timeout_s=2, memory_mb=64) as sandbox:
        done = sandbox.process(samples)
        assert sandbox.restarts == 1
    _others_are_whole(given, done, broken=1)
    assert (done[1].reason, done[1].detail) == (Reason.DECODE_TIMEOUT, "gave no answer in time")


def test_a_decoder_that_closes_its_pipes_and_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_module, "EXIT_S", 0.5)
    with Sandbox([(BREAKS, {})], timeout_s=2, memory_mb=64) as sandbox:
        done = sandbox.process(_samples(b"one", b"hang_closed", b"three"))
    assert _reasons(done) == ["ok", "decode.crashed", "ok"]


def test_all_samples_may_break_their_decoder(sandbox: Sandbox) -> None:
    done = sandbox.process(_samples(*[b"signal:SIGSEGV"] * 4))
    assert _reasons(done) == ["decode.crashed"] * 4
    assert [sample.columns["row"] for sample in done] == [0, 1, 2, 3]


def test_memory_that_others_leaked_is_not_held_against_a_sample(sandbox: Sandbox) -> None:
    """60 MB each of 96: the second does not fit beside what the first left, but it does alone."""
    done = sandbox.process(_samples(b"leak:60", b"memory:60", b"memory:60"))
    assert _reasons(done) == ["ok"] * 3
    assert sandbox.restarts >= 1


def test_every_sample_is_counted_once_also_one_that_kills_the_child_or_is_tried_again(sandbox: Sandbox) -> None:
    sandbox.process(_samples(b"fine", b"exit:3", b"memory:4000", b"corrupt:it", b"fine"))
    # The parent knows the stage by the name that it gave to the child, which in a pipeline is the stage's own.
    answered, killed = sandbox.counts["breaks"], sandbox.counts[BREAKS]
    assert (answered.given, answered.ok, answered.failed) == (4, 2, 2)
    assert (killed.given, killed.ok, killed.failed) == (1, 0, 1)


def test_a_dead_child_is_replaced_by_a_fresh_one(sandbox: Sandbox) -> None:
    (before,) = sandbox.process(_samples(b"x"))
    os.kill(before.columns["pid"], signal.SIGKILL)
    (after,) = sandbox.process(_samples(b"x"))
    assert after.is_ok
    assert after.columns["pid"] != before.columns["pid"]
    assert sandbox.restarts == 1


def test_a_child_is_replaced_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_module, "RECYCLE_SAMPLES", 3)
    with Sandbox([(BREAKS, {})], timeout_s=60, memory_mb=64) as sandbox:
        pids = [sandbox.process(_samples(b"x", b"y"))[0].columns["pid"] for _ in range(3)]
        assert pids[0] == pids[1] != pids[2]
        assert sandbox.restarts == 0


def test_no_secret_of_the_parent_is_in_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "PYTHONPATH", "HOME", "LD_PRELOAD_X"):
        monkeypatch.setenv(name, "canary")
    with Sandbox([(BREAKS, {})], timeout_s=60, memory_mb=64) as sandbox:
        (sample,) = sandbox.process(_samples(b"environment"))
    assert "canary" not in sample.columns["environment"].values()
    assert {"PATH", "LC_ALL", "OMP_NUM_THREADS"} <= set(sample.columns["environment"])
    assert sample.columns["folder"] == "/"


def test_no_byte_can_be_written_to_a_file(shared: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "left.bin"
    (sample,) = shared.process(_samples(f"write:{path}".encode()))
    assert sample.columns["errno"] == errno.EFBIG
    assert not path.exists() or path.stat().st_size == 0


def test_what_a_library_prints_does_not_get_between_the_answers(shared: Sandbox) -> None:
    done = shared.process(_samples(b"print:\x00\x00\x00\x01{", b"after"))
    assert _reasons(done) == ["ok", "ok"]
    assert done[1].parts == {"raw": b"after"}


def test_parts_far_larger_than_the_pipe_go_both_ways() -> None:
    raws = [bytes([number]) * (50 << 20) for number in range(2)] + [b"small"] * 20
    with Sandbox([(BREAKS, {})], timeout_s=120, memory_mb=512) as sandbox:
        done = sandbox.process(_samples(*raws))
        assert sandbox.restarts == 0
    assert _reasons(done) == ["ok"] * len(raws)
    assert all(sample.parts["raw"] == raw for sample, raw in zip(done, raws, strict=True))


def test_many_samples_with_long_columns_do_not_fill_the_pipes(shared: Sandbox) -> None:
    samples = _samples(*[b"x" * 2000] * 300)
    for sample in samples:
        sample.columns["caption"] = "c" * 5000
    assert len(shared.process(samples)) == 300


def test_children_of_a_sample_come_back_in_its_place() -> None:
    with Sandbox([(CUTS, {}), (BREAKS, {})], timeout_s=60, memory_mb=64) as sandbox:
        done = sandbox.process(_samples(b"ab", b"", b"c"))
    keys = [sample_key("pictures", number) for number in range(3)]
    assert [sample.key for sample in done] == [f"{keys[0]}_0000", f"{keys[0]}_0001", keys[1], f"{keys[2]}_0000"]
    assert [sample.parts["raw"] for sample in done] == [b"a", b"b", b"", b"c"]
    check_law("sandbox", keys, done)


def test_a_sample_without_what_the_stages_read_passes_unchanged(shared: Sandbox) -> None:
    columns = {"row": 1, "modality": "image_text"}
    sample = Sample(sample_key("pictures", 1), {"jpg": b"1"}, dict(columns))
    (done,) = shared.process([sample])
    assert (done.key, done.parts, done.columns, done.reason) == (sample.key, {"jpg": b"1"}, columns, Reason.OK)


def test_closing_leaves_no_process_and_may_be_done_twice() -> None:
    sandbox = Sandbox([(BREAKS, {})], timeout_s=60, memory_mb=64)
    pid = sandbox.process(_samples(b"x"))[0].columns["pid"]
    sandbox.close()
    sandbox.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert sandbox.process(_samples(b"x"))[0].is_ok, "a closed sandbox starts again"
    sandbox.close()


def test_no_pipe_stays_open_after_deaths() -> None:
    before = set(os.listdir("/proc/self/fd"))
    with Sandbox([(BREAKS, {})], timeout_s=60, memory_mb=64) as sandbox:
        sandbox.process(_samples(b"signal:SIGSEGV", b"x"))
    assert len(set(os.listdir("/proc/self/fd")) - before) == 0


@pytest.mark.parametrize("parent", ["idle", "busy"])
def test_a_child_ends_with_a_parent_that_is_killed(parent: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    watched = os.pidfd_open(pid)
    try:
        process.kill()
        process.communicate(timeout=END_S)
        ended, _, _ = select.select([watched], [], [], END_S)
        assert ended, "the child outlived its parent"
    finally:
        os.close(watched)


def test_sandboxes_of_two_threads_do_not_meet() -> None:
    found: dict[int, list[str]] = {}

    def work(number: int) -> None:
        with Sandbox([(BREAKS, {})], timeout_s=60, memory_mb=64) as sandbox:
            found[number] = _reasons(sandbox.process(_samples(b"x", b"signal:SIGSEGV", b"y")))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert found == {number: ["ok", "decode.crashed", "ok"] for number in range(2)}


def test_a_stage_that_cannot_be_set_up_says_why() -> None:
    with (
        Sandbox([("tests.run.breaking:NoSuchStage", {})], timeout_s=5, memory_mb=64) as sandbox,
        pytest.raises(MmdataError, match=r"cannot be set up in the decoding child: AttributeError: .* 'NoSuchStage'"),
    ):
        sandbox.process(_samples(b"x"))


def test_the_children_of_all_groups_of_a_pipeline_are_kept_until_another_comes() -> None:
    groups = [[(BREAKS, {"mark": mark})] for mark in ("first", "second")]

    def pids() -> list[object]:
        kept = kept_sandboxes(groups, timeout_s=60, memory_mb=96)
        return [sandbox.process(_samples(b"fine"))[0].columns["pid"] for sandbox in kept]

    before = pids()
    assert len(set(before)) == 2
    assert pids() == before
    for sandbox in kept_sandboxes([], timeout_s=60, memory_mb=96):
        sandbox.close()
    for pid in before:
        with pytest.raises(ProcessLookupError):
            os.kill(int(str(pid)), 0)
