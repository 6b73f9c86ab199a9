"""The token of a Ray cluster, which a run and a training send alike."""

from __future__ import annotations

import os
from pathlib import Path


def use_token() -> None:
    """Send the token that `ray start` made for this user; Ray does so by itself only for the address `auto`."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if "RAY_AUTH_MODE" not in os.environ and path.exists():
        os.environ["RAY_AUTH_MODE"] = "token"
