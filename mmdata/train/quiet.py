"""Libraries that say less, so that a terminal shows what mmdata says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """No progress bars between the lines, and of transformers' remarks only errors."""
    from transformers.utils import logging

    remarks: Any = logging
    remarks.disable_progress_bar()
    remarks.set_verbosity_error()
    yield
