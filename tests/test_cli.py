"""The command line: help is quick and loads nothing heavy, and wrong usage ends with 2 and says so."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "ray", "pyarrow", "duckdb", "cv2", "numpy", "open_clip", "fsspec", "pycurl", "PIL")
COMMANDS = (
    "run",
    "ingest",
    "score",
    "select",
    "emit",
    "report",
    "check",
    "init",
    "status",
    "verify",
    "show",
    "submit",
    "doctor",
)
HELP_S = 0.5
ROUNDS = 5
LOADED = """
import atexit, sys
sys.argv = ["mmdata", *sys.argv[1:]]
from mmdata.cli import main
atexit.register(lambda: print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules})))
main()
"""


def _mmdata(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "mmdata", *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("--version",)])
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = done.stdout.rpartition("loaded:")[2].split()
    assert "typer" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_help_answers_in_half_a_second() -> None:
    """The median of a few, and twice that where the machine is so busy that Python itself starts slowly."""
    took, bare = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        assert _mmdata("--help").returncode == 0
        took.append(time.perf_counter() - start)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        bare.append(time.perf_counter() - start)
    assert statistics.median(took) < max(HELP_S, 20 * statistics.median(bare))


def test_help_names_every_command_and_where_to_start() -> None:
    out = _mmdata("--help").stdout
    listed = {line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line.strip()}
    assert set(COMMANDS) <= listed
    assert "mmdata check my.yaml" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    from typer.testing import CliRunner

    from mmdata.cli import app

    done = CliRunner().invoke(app, [command, "--help"], terminal_width=200)
    assert done.exit_code == 0
    assert f"{command} [OPTIONS]" in done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nosuch",), "No such command 'nosuch'"),
        (("check",), "Missing argument 'PIPELINE'"),
        (("run", "a.yaml", "--no-such-option"), "No such option: --no-such-option"),
        (("check", "none.yaml"), "mmdata: none.yaml: no such file"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_was_wrong(arguments: tuple[str, ...], says: str) -> None:
    done = _mmdata(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_no_command_shows_the_help() -> None:
    done = _mmdata()
    assert done.returncode == 2
    assert "Commands:" in done.stdout + done.stderr


def test_the_version_is_the_packages() -> None:
    from mmdata import __version__

    assert _mmdata("--version").stdout == f"mmdata {__version__}\n"
