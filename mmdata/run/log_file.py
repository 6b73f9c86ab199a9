"""The run's own log: what the driver did and what failed, line by line, in `logs/driver.log` of a local run folder."""

from __future__ import annotations

import logging
from pathlib import Path

from mmdata.shards import storage
from mmdata.shards.folders import RunFolder

_LOGGER = logging.getLogger("mmdata")


class LogFile:
    """Appends to the log from the first call of `open` until `close`; a run that does nothing writes nothing."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._handler: logging.Handler | None = None

    def open(self) -> None:
        """Begin to write. A log on an object store would be written anew with every line, so there is none."""
        if self._handler is not None or storage.is_remote(self._run.root):
            return
        Path(self._run.logs).mkdir(parents=True, exist_ok=True)
        self._handler = logging.FileHandler(storage.join(self._run.logs, "driver.log"), encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        _LOGGER.addHandler(self._handler)
        _LOGGER.setLevel(logging.INFO)

    def close(self) -> None:
        """End it."""
        if self._handler is not None:
            _LOGGER.removeHandler(self._handler)
            self._handler.close()
            self._handler = None
