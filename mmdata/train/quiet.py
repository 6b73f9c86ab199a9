"""Libraries that say less, so that a terminal shows what mmdata says."""

from __future__ import annotations

from typing import Any


def quiet_libraries() -> None:
    """From here on no progress bars between the lines, and of transformers' remarks only errors."""
    from transformers.utils import logging

    remarks: Any = logging
    remarks.disable_progress_bar()
    remarks.set_verbosity_error()
