"""Libraries that say less, so that a terminal shows what mmdata says."""

from __future__ import annotations

import warnings
from typing import Any


def quiet_libraries() -> None:
    """From here on no progress bars between the lines, and of transformers' remarks only errors."""
    from transformers.utils import logging

    remarks: Any = logging
    remarks.disable_progress_bar()
    remarks.set_verbosity_error()
    # peft asks transformers in a way that newer versions call by another name.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
