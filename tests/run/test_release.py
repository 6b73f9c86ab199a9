"""emit.release_staged: tars go when their window is written and verified, and nothing is fetched again for it."""

from __future__ import annotations

import json
from pathlib import Path

from mmdata.emit.verify import verify
from mmdata.shards.commits import RELEASED, CommitLog, released_paths
from mmdata.shards.folders import RunFolder
from tests.run.world import World

LOCAL = "--in-process"
RELEASE = "emit.release_staged=true"


def digest_of(world: World, name: str) -> str:
    return str(json.loads((world.folder / "datasets" / name / "manifest.json").read_text())["digest"])


def staged(world: World) -> list[Path]:
    return sorted((world.folder / "runs/small/staged").glob("*.tar"))


def test_released_media_are_gone_and_neither_a_resume_nor_another_selection_fetches_them_again(world: World) -> None:
    pipeline = str(world.write_pipeline())
    world.mmdata("run", pipeline, LOCAL, RELEASE)
    requests, digest = len(world.requests), digest_of(world, "small")
    run = RunFolder(str(world.folder / "runs/small"))
    assert staged(world) == []
    assert len(CommitLog(run, RELEASED).commits) == 6
    assert released_paths(run) == {f"staged/{shard:05d}.tar" for shard in range(6)}
    verify(str(world.folder / "datasets/small"))

    world.mmdata("run", pipeline, LOCAL)
    changed = world.mmdata("run", pipeline, LOCAL, "emit.samples_per_shard=7", check=False)
    assert changed.returncode == 3
    assert "emit.release_staged freed" in changed.stderr
    assert (len(world.requests), digest_of(world, "small")) == (requests, digest)


def test_media_of_a_finished_run_are_released_later_but_not_beside_a_damaged_window(world: World) -> None:
    pipeline = str(world.write_pipeline())
    world.mmdata("run", pipeline, LOCAL)
    tar = world.folder / "datasets/small/image_text/train/00000.tar"
    data = tar.read_bytes()
    tar.write_bytes(data[:600] + bytes([data[600] ^ 1]) + data[601:])
    damaged = world.mmdata("emit", pipeline, LOCAL, RELEASE, check=False)
    assert damaged.returncode == 8
    assert "staged media are kept" in damaged.stderr
    assert len(staged(world)) == 6

    tar.write_bytes(data)
    world.mmdata("emit", pipeline, LOCAL, RELEASE)
    assert staged(world) == []
