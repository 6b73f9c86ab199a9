"""Whole runs in one process: the law, reasons, no-op, versions, appended input, changed config, exit codes."""

from __future__ import annotations

import json
import resource
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from mmdata.shards import ledger
from tests.run.world import DOUBLED, MISSING, ROWS, World, command, environment, tree_of
from tests.score.checkpoints import write_tiny_checkpoint

LOCAL = "--in-process"


def manifest_of(dataset: Path) -> dict[str, object]:
    tree: dict[str, object] = json.loads((dataset / "manifest.json").read_text())
    return tree


def final_rows(world: World, run: str = "runs/small") -> list[dict[str, object]]:
    """Ledger columns with the newest selection's over them, for all rows."""
    root = world.folder / run
    newest = max((root / "selection").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    rows = []
    for path in sorted((root / "ledger").iterdir()):
        chosen = ledger.read(str(newest / path.name)).to_pylist()
        rows += [row | sel for row, sel in zip(ledger.read(str(path)).to_pylist(), chosen, strict=True)]
    return rows


def test_every_row_ends_with_one_reason_and_none_is_lost(world: World) -> None:
    world.mmdata("run", str(world.write_pipeline()), LOCAL)
    rows = final_rows(world)
    assert sorted(row["row"] for row in rows) == list(range(ROWS))
    assert {row["row"] for row in rows if row["reason"] == "fetch.http_4xx"} == set(MISSING)
    doubled = {row["row"] for row in rows if row["reason"] == "filtered.duplicate_content"}
    assert len(doubled) == 2
    assert doubled < {10, *DOUBLED}
    assert Counter(row["status"] for row in rows) == {
        "ok": ROWS - len(MISSING) - 2,
        "failed": len(MISSING),
        "dropped": 2,
    }
    samples = manifest_of(world.folder / "datasets/small")["samples"]
    assert sum(split["samples"] for split in samples["image_text"].values()) == ROWS - len(MISSING) - 2  # type: ignore[index]


def test_a_finished_run_run_again_makes_no_request_and_no_write(world: World) -> None:
    pipeline = str(world.write_pipeline())
    world.mmdata("run", pipeline, LOCAL)
    before, requests = tree_of(world.folder), len(world.requests)
    again = world.mmdata("run", pipeline, LOCAL)
    assert len(world.requests) == requests
    assert tree_of(world.folder) == before
    assert manifest_of(world.folder / "datasets/small")["digest"] in again.stdout


def test_two_runs_into_different_folders_give_the_same_digest(world: World) -> None:
    pipeline = str(world.write_pipeline())
    world.mmdata("run", pipeline, LOCAL, "--run", "runs/a", "--dataset", "out/a")
    world.mmdata(
        "run", pipeline, LOCAL, "--run", "runs/b", "--dataset", "out/b", "fetch.concurrency=3", "run.workers=2"
    )
    assert manifest_of(world.folder / "out/a")["digest"] == manifest_of(world.folder / "out/b")["digest"]


def test_a_changed_ingest_option_under_a_run_is_refused_with_a_diff(world: World) -> None:
    pipeline = str(world.write_pipeline())
    world.mmdata("ingest", pipeline, LOCAL)
    before = tree_of(world.folder / "runs")
    refused = world.mmdata("ingest", pipeline, LOCAL, "stages.decode_image.side_px=32", check=False)
    assert refused.returncode == 3
    assert "stages[0].side_px: 64 -> 32" in refused.stderr
    assert tree_of(world.folder / "runs") == before


def test_an_outcome_or_operational_option_may_change_under_a_run(world: World) -> None:
    pipeline = str(world.write_pipeline())
    world.mmdata("ingest", pipeline, LOCAL)
    requests = len(world.requests)
    world.mmdata("ingest", pipeline, LOCAL, "fetch.timeout_s=7", "run.attempts=1", "fetch.per_host=1")
    assert len(world.requests) == requests


def test_a_changed_selection_writes_the_next_version_and_keeps_the_old_one(world: World) -> None:
    pipeline = str(world.write_pipeline())
    world.mmdata("run", pipeline, LOCAL)
    old = tree_of(world.folder / "datasets/small")
    requests = len(world.requests)
    world.mmdata("run", pipeline, LOCAL, "select=[{subset: {count: 10}}]")
    assert len(world.requests) == requests
    assert tree_of(world.folder / "datasets/small") == old
    samples = manifest_of(world.folder / "datasets/small-v2")["samples"]
    assert sum(split["samples"] for split in samples["image_text"].values()) == 10  # type: ignore[index]
    world.mmdata("run", pipeline, LOCAL)
    assert sorted(path.name for path in (world.folder / "datasets").iterdir()) == ["small", "small-v2"]


def test_new_input_files_append_shards_and_old_shards_never_change(world: World) -> None:
    pipeline = str(world.write_pipeline())
    world.mmdata("run", pipeline, LOCAL)
    staged = tree_of(world.folder / "runs/small/staged")
    requests = len(world.requests)
    world.write_table("links-more.csv", first=1000, rows=15)
    world.mmdata("run", pipeline, LOCAL)
    now = tree_of(world.folder / "runs/small/staged")
    assert len(world.requests) == requests + 15
    assert len(now) == len(staged) + 2
    assert {name: now[name] for name in staged} == staged
    assert (world.folder / "datasets/small-v2/manifest.json").exists()


def test_a_planned_input_that_changed_is_refused_with_exit_3(world: World) -> None:
    pipeline = str(world.write_pipeline())
    world.mmdata("ingest", pipeline, LOCAL)
    world.write_table(rows=ROWS + 1)
    refused = world.mmdata("ingest", pipeline, LOCAL, check=False)
    assert refused.returncode == 3
    assert "links.csv: this input of source web changed" in refused.stderr


def test_an_outage_holds_the_shards_and_ends_with_exit_6_until_the_network_is_back(world: World) -> None:
    rows = {"plan": {"rows_per_shard": 30}}
    pipeline = str(world.write_pipeline(**rows))
    world.is_down = True
    stopped = world.mmdata("run", pipeline, LOCAL, "run.attempts=1", check=False)
    assert stopped.returncode == 6
    assert "transient" in stopped.stderr
    assert not list((world.folder / "runs/small").glob("commits/ingest/*"))
    world.is_down = False
    world.mmdata("run", pipeline, LOCAL)
    world.mmdata("run", pipeline, LOCAL, "--run", "runs/clean", "--dataset", "datasets/clean")
    digests = [manifest_of(world.folder / "datasets" / name)["digest"] for name in ("small", "clean")]
    assert digests[0] == digests[1]


def test_a_full_disk_ends_with_exit_5_and_the_same_command_goes_on(world: World) -> None:
    pipeline = str(world.write_pipeline())

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))

    stopped = subprocess.run(
        command("run", pipeline, LOCAL),
        cwd=world.folder,
        env=environment(),
        capture_output=True,
        text=True,
        preexec_fn=small_files,
        timeout=100,
        check=False,
    )
    assert stopped.returncode == 5, stopped.stderr
    assert "run the same command again" in stopped.stderr
    world.mmdata("run", pipeline, LOCAL)
    world.mmdata("verify", "datasets/small")


def test_an_empty_table_ends_with_exit_2_and_leaves_nothing(world: World) -> None:
    (world.folder / "links.csv").write_text("url,caption\n")
    refused = world.mmdata("run", str(world.write_pipeline()), LOCAL, check=False)
    assert refused.returncode == 2
    assert "links.csv" in refused.stderr
    assert not (world.folder / "runs").exists() or not list((world.folder / "runs").iterdir())


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["run", "nothing.yaml"], 2, "nothing.yaml: no such file"),
        (["verify", "nowhere"], 2, "nowhere: found no manifest.json"),
        (["show", "nowhere"], 2, "nowhere: found no manifest.json"),
        (["status", "nowhere"], 2, "nowhere"),
        (["run", "small.yaml", "stages.decode_image.min_sied_px=3"], 2, "did you mean min_side_px?"),
        (["run", "small.yaml", "--dataset", "."], 2, "not empty"),
    ],
)
def test_wrong_usage_is_one_clear_line_and_its_exit_code(world: World, words: list[str], code: int, says: str) -> None:
    world.write_pipeline()
    extra = [LOCAL] if words[0] == "run" else []
    refused = world.mmdata(*words, *extra, check=False)
    assert refused.returncode == code, refused.stderr
    assert says in refused.stderr
    assert "Traceback" not in refused.stderr


def test_check_does_no_work_and_says_what_would_run(world: World) -> None:
    described = world.mmdata("check", str(world.write_pipeline()))
    assert "web: url_table, 1 input files" in described.stdout
    assert not world.requests
    assert not (world.folder / "runs").exists()


def test_init_writes_a_pipeline_that_check_accepts(world: World) -> None:
    text = world.mmdata("init", "links.csv").stdout
    (world.folder / "made.yaml").write_text(text)
    described = world.mmdata("check", "made.yaml")
    assert "decode_image" in described.stdout


def test_show_prints_a_sample_with_caption_and_parts(world: World) -> None:
    world.mmdata("run", str(world.write_pipeline()), LOCAL)
    first = world.mmdata("show", "datasets/small").stdout.splitlines()[0]
    key = first.split()[0]
    whole = world.mmdata("show", "datasets/small", key, "--out", "parts").stdout
    assert f"caption: picture number {int(key.rpartition('-')[2])}" in whole
    assert (world.folder / "parts" / f"{key}.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_verify_finds_one_changed_byte_with_exit_8(world: World) -> None:
    world.mmdata("run", str(world.write_pipeline()), LOCAL)
    shard = sorted((world.folder / "datasets/small/image_text/train").glob("*.tar"))[0]
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(data)
    damaged = world.mmdata("verify", "datasets/small", check=False)
    assert damaged.returncode == 8
    assert shard.name in damaged.stderr


def test_a_shard_with_nothing_to_score_goes_with_the_others(world: World) -> None:
    (world.folder / "links-dead.csv").write_text(
        "url,caption\n" + "".join(f"ftp://x.example/{n},c\n" for n in range(4))
    )
    model = write_tiny_checkpoint(world.folder / "clip")
    score = [{"image_text": {"model": model, "batch_size": 4}}]
    pipeline = world.write_pipeline(score=score, select=[{"thresholds": {"clip_similarity": {"min": -1}}}])
    world.mmdata("run", str(pipeline), LOCAL, "plan.shuffle=false", "plan.rows_per_shard=4")
    reasons = Counter(row["reason"] for row in final_rows(world))
    assert reasons["blocked.scheme"] == 4
    assert reasons["ok"] == ROWS - len(MISSING)


def test_the_report_is_of_the_selection_that_was_asked_for_last(world: World) -> None:
    pipeline = str(world.write_pipeline())
    report = world.folder / "runs/small/report.html"
    world.mmdata("run", pipeline, LOCAL)
    first = manifest_of(world.folder / "datasets/small")["digest"]
    world.mmdata("run", pipeline, LOCAL, "select=[{subset: {count: 10}}]")
    assert str(first) not in report.read_text()
    world.mmdata("run", pipeline, LOCAL)
    assert str(first) in report.read_text()


def test_a_run_folder_that_is_a_file_is_refused_with_exit_2(world: World) -> None:
    refused = world.mmdata("run", str(world.write_pipeline()), LOCAL, "--run", "links.csv/run", check=False)
    assert refused.returncode == 2
    assert "found a file there or above it" in refused.stderr
