"""The same runs on Ray: equal bytes for any worker count, kills that change nothing, a cluster, a job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.run.test_pipeline import manifest_of
from tests.run.world import World, command, environment, tree_of
from tests.score.checkpoints import write_tiny_checkpoint

pytestmark = pytest.mark.slow
GATE_S = 60.0


def digest_of(world: World, dataset: str) -> object:
    return manifest_of(world.folder / dataset)["digest"]


class Gate:
    """Lets a number of requests through and holds all later ones until it is opened."""

    def __init__(self, world: World, passes: int) -> None:
        self.is_reached = threading.Event()
        self._open = threading.Event()
        self._left = passes
        self._lock = threading.Lock()
        world.gate = self._hold

    def _hold(self, _path: str) -> None:
        with self._lock:
            self._left -= 1
            may_pass = self._left >= 0
        if not may_pass:
            self.is_reached.set()
            self._open.wait(GATE_S)

    def open(self) -> None:
        self._open.set()


def start(world: World, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*words),
        cwd=world.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=100)
    return output


def still_there(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended within a minute; one that only waits to be reaped by its parent has."""
    deadline = time.monotonic() + 60
    while (alive := [p for p in processes if _is_alive(p)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return alive


def workers_of(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    """Ray's daemons and workers and their decoding children; not its agents, which take a minute to notice a death."""
    family = psutil.Process(driver.pid).children(recursive=True)
    return [process for process in family if "Agent" not in " ".join(process.cmdline())]


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_one_and_two_workers_and_no_ray_at_all_give_the_same_digest(world: World) -> None:
    model = write_tiny_checkpoint(world.folder / "clip")
    pipeline = str(world.write_pipeline(score=[{"image_text": {"model": model, "batch_size": 4}}]))
    for name, words in {"one": ["run.workers=1"], "two": ["run.workers=2"], "none": ["--in-process"]}.items():
        world.mmdata("run", pipeline, *words, "--run", f"runs/{name}", "--dataset", f"out/{name}")
    digests = {digest_of(world, f"out/{name}") for name in ("one", "two", "none")}
    assert len(digests) == 1


def test_a_scorer_added_later_runs_alone(world: World) -> None:
    world.mmdata("run", str(world.write_pipeline()), "--in-process")
    requests, staged = len(world.requests), tree_of(world.folder / "runs/small/staged")
    model = write_tiny_checkpoint(world.folder / "clip")
    pipeline = str(world.write_pipeline(score=[{"image_text": {"model": model, "batch_size": 4}}]))
    world.mmdata("run", pipeline)
    assert len(world.requests) == requests
    assert tree_of(world.folder / "runs/small/staged") == staged
    assert len(list((world.folder / "runs/small/scores/image_text").iterdir())) == len(staged)
    changed = world.mmdata("run", pipeline, "score.image_text.batch_size=8", check=False)
    assert changed.returncode == 3
    assert "score.image_text.batch_size: 4 -> 8" in changed.stderr


def test_kill_9_of_the_driver_then_the_same_command_gives_the_same_digest(world: World) -> None:
    pipeline = str(world.write_pipeline())
    world.mmdata("run", pipeline, "--in-process", "--run", "runs/clean", "--dataset", "out/clean")
    gate = Gate(world, passes=35)
    driver = start(world, "run", pipeline, "run.workers=2")
    assert gate.is_reached.wait(GATE_S)
    family = workers_of(driver)
    driver.kill()
    ended(driver)
    gate.open()
    assert family
    assert still_there(family) == []
    requests = len(world.requests)
    world.mmdata("run", pipeline, "run.workers=2")
    assert digest_of(world, "datasets/small") == digest_of(world, "out/clean")
    assert len(world.requests) - requests < 60
    assert not (world.folder / "runs/small/attempts").exists()


def test_kill_9_of_workers_changes_nothing(world: World) -> None:
    pipeline = str(world.write_pipeline())
    world.mmdata("run", pipeline, "--in-process", "--run", "runs/clean", "--dataset", "out/clean")
    gate = Gate(world, passes=25)
    driver = start(world, "run", pipeline, "run.workers=2")
    assert gate.is_reached.wait(GATE_S)
    workers = [
        p for p in psutil.Process(driver.pid).children(recursive=True) if "ray::ingest_shard" in " ".join(p.cmdline())
    ]
    assert workers
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
    gate.open()
    output = ended(driver)
    assert driver.returncode == 0, output
    assert digest_of(world, "datasets/small") == digest_of(world, "out/clean")


def test_a_second_driver_ends_with_exit_7_and_the_first_goes_on(world: World) -> None:
    pipeline = str(world.write_pipeline())
    gate = Gate(world, passes=5)
    first = start(world, "run", pipeline, "--in-process")
    assert gate.is_reached.wait(GATE_S)
    second = world.mmdata("run", pipeline, "--in-process", check=False)
    gate.open()
    assert second.returncode == 7
    assert "another driver" in second.stderr
    assert first.wait(100) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_with_its_code_and_no_process_left(world: World, number: int, code: int) -> None:
    pipeline = str(world.write_pipeline())
    gate = Gate(world, passes=15)
    driver = start(world, "run", pipeline, "run.workers=2")
    assert gate.is_reached.wait(GATE_S)
    family = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(number)
    gate.open()
    output = ended(driver)
    assert driver.returncode == code, output
    assert "goes on from here" in output
    assert still_there(family) == []


def test_an_unreachable_ray_address_is_one_line_and_exit_2(world: World) -> None:
    refused = world.mmdata("run", str(world.write_pipeline()), "--ray-address", "127.0.0.1:1", check=False)
    assert refused.returncode == 2
    assert "no Ray cluster answers there" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A cluster of its own on this machine, started as a user would with `ray start --head`."""
    import socket

    ports = []
    for _ in range(3):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(str(probe.getsockname()[1]))
    gcs, dashboard, client = ports
    programs = Path(sys.executable).parent
    ray = str(programs / "ray")
    # Unix socket paths are short, so Ray's folder cannot lie below pytest's.
    environ = environment() | {"RAY_TMPDIR": "/tmp", "RAY_USAGE_STATS_ENABLED": "0"}
    environ["PATH"] = f"{programs}{os.pathsep}{environ['PATH']}"  # a job's entry point is `python` on the head
    words = ["start", "--head", "--node-ip-address=127.0.0.1", f"--port={gcs}", f"--dashboard-port={dashboard}"]
    words += [f"--ray-client-server-port={client}", "--num-cpus=2", "--object-store-memory=100000000", "--block"]
    head = subprocess.Popen(
        [ray, *words, "--dashboard-host=127.0.0.1"],
        env=environ,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for_port(int(dashboard), head)
        yield {"gcs": f"127.0.0.1:{gcs}", "jobs": f"http://127.0.0.1:{dashboard}"}
    finally:
        family = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
        for process in family:
            if process.is_running():
                process.terminate()
        _, alive = psutil.wait_procs(family, timeout=20)
        for process in alive:
            process.kill()
        head.wait(timeout=20)


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until something listens there; the process that should must not have ended."""
    import socket

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "ray start ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError(f"nothing listens on {port}")


@pytest.mark.timeout(240)
def test_a_cluster_and_a_job_give_the_bytes_of_a_local_run_and_truthful_exits(
    world: World, cluster: dict[str, str]
) -> None:
    pipeline = str(world.write_pipeline())
    world.mmdata("run", pipeline, "--in-process", "--run", "runs/clean", "--dataset", "out/clean")
    world.mmdata("run", pipeline, "--ray-address", cluster["gcs"], "--run", "runs/c", "--dataset", "out/c")
    job = ["submit", pipeline, "--ray-address", cluster["jobs"], "--run", "runs/j", "--dataset", "out/j"]
    done = world.mmdata(*job)
    assert "job " in done.stdout
    assert digest_of(world, "out/c") == digest_of(world, "out/clean")
    assert digest_of(world, "out/j") == digest_of(world, "out/clean")
    refused = world.mmdata(*job[:2], "stages.decode_image.side_px=32", *job[2:], check=False)
    assert refused.returncode == 3, refused.stdout
    assert "side_px: 64 -> 32" in refused.stdout
