"""How a command ends: exit codes, signals, and what is printed of errors."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from mmdata.errors import MmdataError


def end_with(command: Callable[[], Any]) -> NoReturn:
    """Run a command and leave at once: taking the interpreter down would cost a run half a second for nothing."""
    code = 0
    try:
        _run(command)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _run(command: Callable[[], Any]) -> NoReturn:
    """Run the command line; errors of ours become one message and their exit code, signals 130 and 143."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger().handlers[0].setLevel(logging.WARNING)  # more goes to the log of a run
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    try:
        command()
    except MmdataError as error:
        print(f"mmdata: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(128 + signal.SIGPIPE)
    except (SystemExit, KeyboardInterrupt) as end:
        # Ray's native code turns what a signal handler raises into an exit of its own.
        sys.exit(_stopped_by[0] + 128 if _stopped_by else getattr(end, "code", 1))
    sys.exit(0)


_stopped_by: list[int] = []


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    print(f"mmdata: stopped by {signal.Signals(number).name}; the same command goes on from here", file=sys.stderr)
    _stopped_by.append(number)
    sys.exit(128 + number)
