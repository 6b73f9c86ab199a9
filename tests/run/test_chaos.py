"""Kills again and again: drivers and workers at seeded moments, then the same command, and the same bytes."""

from __future__ import annotations

import random
import signal

import psutil
import pytest

from tests.run.test_cluster import GATE_S, Gate, digest_of, ended, start
from tests.run.world import World

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
DRIVER_KILLS = 8
WORKER_KILLS = 6


def clean_digest(world: World, pipeline: str) -> object:
    world.mmdata("run", pipeline, "--in-process", "--run", "runs/clean", "--dataset", "out/clean")
    return digest_of(world, "out/clean")


def test_a_run_whose_driver_is_killed_again_and_again_ends_with_the_same_digest(world: World) -> None:
    pipeline = str(world.write_pipeline())
    expected = clean_digest(world, pipeline)
    moments = random.Random(7)
    for _ in range(DRIVER_KILLS):
        gate = Gate(world, passes=moments.randrange(1, 14))
        driver = start(world, "run", pipeline, "--in-process")
        gate.is_reached.wait(GATE_S)
        driver.kill()
        ended(driver)
        gate.open()
    world.mmdata("run", pipeline, "--in-process")
    assert digest_of(world, "datasets/small") == expected
    world.mmdata("verify", "datasets/small")


def test_workers_killed_again_and_again_change_nothing(world: World) -> None:
    pipeline = str(world.write_pipeline())
    expected = clean_digest(world, pipeline)
    moments = random.Random(11)
    driver = None
    for _ in range(WORKER_KILLS):
        gate = Gate(world, passes=moments.randrange(1, 9))
        if driver is None or driver.poll() is not None:
            driver = start(world, "run", pipeline, "run.workers=2", "run.attempts=9")
        if not gate.is_reached.wait(GATE_S):
            break
        for process in psutil.Process(driver.pid).children(recursive=True):
            if "ray::ingest_shard" in " ".join(process.cmdline()):
                process.send_signal(signal.SIGKILL)
        gate.open()
    assert driver is not None
    output = ended(driver)
    assert driver.returncode == 0, output
    assert digest_of(world, "datasets/small") == expected
