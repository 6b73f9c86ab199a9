"""Live progress of a run: bars in a terminal, plain lines elsewhere, and `status.json` for others to read.

status.json, rewritten whole at most every 2 s while there is work, never by a run that finds everything done:

    version         1
    state           running | done | failed | stopped; it stays `running` when the driver is killed
    message         why it failed or stopped, one line; else empty
    part            the first part that is not done; empty when all that began are
    elapsed_s       since this driver began
    engine_start_s  of that, what Ray took to start; 0 where it was not needed
    updated_unix_s  wall clock of the last write; a label only, nothing is computed from it
    parts           those that began, in order, each
      part          ingest | score.<scorer> | select | emit
      state         running | done | failed
      shards_done, shards_total, rows_done, rows_total    with those that an earlier driver had done
      bytes_in, bytes_out
      reasons       rows by `group.code`, `ok` among them
      ok_share      of rows_done; null before the first
      rows_per_s, rows_per_s_60s    of this driver, overall and over the last 60 s; null before the first
      elapsed_s, eta_s              eta_s is null where it cannot be told
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TextIO

from mmdata.counters import Counters
from mmdata.emit.report_text import count
from mmdata.errors import ConfigError, StorageError
from mmdata.run.funnel import console_of, print_funnel, print_status
from mmdata.run.status_part import PartProgress, speed_words, top_reasons
from mmdata.sample import clean_detail
from mmdata.shards import storage
from mmdata.shards.folders import RunFolder

__all__ = ["Progress", "print_funnel", "print_status", "read_status"]

VERSION = 1
WRITE_EVERY_S = 2.0
LINE_EVERY_S = 5.0
SAME_LINE_EVERY_S = 30.0  # where nothing moved in between
DRAW_EVERY_S = 0.25
_SAME = ("state", "message", "part")
_SAME_PART = ("part", "state", "shards_done", "shards_total", "rows_done", "rows_total", "reasons")


class Progress:
    """What the driver tells about its shards, shown and written. Use it in a `with`; leaving it ends the display.

    tty: a live display, else a line every 5 s while something moves and at the end of a part; by default what `stream`
    (standard error) is. ticking: a thread keeps display and file fresh while the driver waits. A status.json that
    cannot be written does not end a run: where storage is full, the work itself says so.
    """

    def __init__(
        self,
        run: RunFolder,
        tty: bool | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        ticking: bool = True,
    ) -> None:
        self._run, self._stream = run, stream or sys.stderr
        self._tty = self._stream.isatty() if tty is None else tty
        self._clock, self._wall = clock, wall
        self._parts: dict[str, PartProgress] = {}
        self._began = clock()
        self._written = self._drawn = float("-inf")
        self._planned = self._began
        self._state, self._message = "running", ""
        self._has_work = False
        self.engine_start_s = 0.0  # of elapsed_s, what Ray took to start
        self._live: Any = None
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_ticking, daemon=True) if ticking else None

    def __enter__(self) -> Progress:
        if self._tty:
            from rich.live import Live

            self._live = Live(console=console_of(self._stream, True), auto_refresh=False)
            self._live.start()
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        stopped = kind is not None and not issubclass(kind, Exception)
        with self._lock:
            self._state = "done" if kind is None else "stopped" if stopped else "failed"
            self._message = clean_detail(str(error or ""))
            if self._live is not None:
                self._live.update(self._table(), refresh=True)
                self._live.stop()
                self._live = None
            if not self._is_written():
                self._write()

    def planned(self, rows: int) -> None:
        """So many rows of the inputs have been read; a line now and then, since a large table takes minutes."""
        if self._clock() - self._planned >= LINE_EVERY_S:
            self._planned = self._clock()
            print(f"plan: {count(rows)} rows read", file=self._stream, flush=True)

    def start(
        self, part: str, shards: int, rows: int, done: Counters | None = None, done_shards: int | None = None
    ) -> None:
        """A part begins, with so many shards and rows in all; `done` is what earlier drivers did of them.

        done_shards: by default all of them where `done` has all rows, else none.
        """
        with self._lock:
            this = self._parts[part] = PartProgress(part, shards, rows, self._clock())
            if done is not None:
                this.counters.add(done)
                # A scorer is given the rows of its modalities only, so shards tell what is left, where they are known.
                whole = done.samples >= rows if done_shards is None else done_shards >= shards
                this.shards = done_shards if done_shards is not None else shards if whole else 0
                self._has_work |= not whole
            self.tick()

    def shard(self, part: str, counters: Counters) -> None:
        """One more shard of a part is committed, with these counts. `emit.<hash>` counts as `emit`."""
        with self._lock:
            this = self._parts[part if part in self._parts else part.partition(".")[0]]
            self._has_work = True
            this.shards += 1
            this.counters.add(counters)
            this.new_rows += counters.samples
            this.recent.append((self._clock(), counters.samples))
            self.tick()

    def end(self, part: str, total: Counters | None = None) -> None:
        """All shards of a part are done; `total` are its final counts where they did not come shard by shard."""
        with self._lock:
            this = self._parts[part]
            this.ended = self._clock()
            this.shards = this.shards_total
            if total is not None:
                this.new_rows += max(total.samples - this.counters.samples, 0) if self._has_work else 0
                this.counters = total
            elif not this.counters.samples:
                this.counters.samples = this.rows_total
            if not self._tty and this.new_rows:
                self._say(this)
            self.tick()

    def fail(self, part: str) -> None:
        """Some shards of a part failed after their retries."""
        with self._lock:
            self._has_work = True
            self._parts[part if part in self._parts else part.partition(".")[0]].failed = True
            self.tick()

    def tick(self) -> None:
        """Redraw, print a line and write status.json where it is time for it."""
        with self._lock:
            now = self._clock()
            if self._live is not None and now - self._drawn >= DRAW_EVERY_S:
                self._drawn = now
                self._live.update(self._table(), refresh=True)
            for this in self._parts.values() if not self._tty else ():
                moved = this.counters.samples != this.said[1]
                since_s = now - max(this.said[0], this.began)
                if this.state == "running" and since_s >= (LINE_EVERY_S if moved else SAME_LINE_EVERY_S):
                    self._say(this)
            if self._has_work and now - self._written >= WRITE_EVERY_S:
                self._write()

    def status(self) -> dict[str, Any]:
        """What status.json holds now."""
        with self._lock:
            now = self._clock()
            return {
                "version": VERSION,
                "state": self._state,
                "message": self._message,
                "part": next((this.name for this in self._parts.values() if this.state != "done"), ""),
                "elapsed_s": round(now - self._began, 1),
                "engine_start_s": round(self.engine_start_s, 3),
                "updated_unix_s": round(self._wall()),
                "parts": [this.to_json(now) for this in self._parts.values()],
            }

    def _keep_ticking(self) -> None:
        while not self._stop.wait(DRAW_EVERY_S):
            self.tick()

    def _write(self) -> None:
        self._written = self._clock()
        with contextlib.suppress(StorageError):
            storage.write_whole(self._run.status, json.dumps(self.status(), indent=1).encode())

    def _is_written(self) -> bool:
        """True where status.json says the same already, times aside: a run that had nothing to do writes nothing."""
        if not self._parts:
            return True
        try:
            old = read_status(self._run)
            return _essence(old) == _essence(self.status())
        except (ConfigError, StorageError, KeyError):
            return False

    def _say(self, this: PartProgress) -> None:
        this.said = (self._clock(), this.counters.samples)
        facts = this.to_json(self._clock())
        words = [
            f"{this.name}: {count(this.shards)}/{count(this.shards_total)} shards",
            f"{count(facts['rows_done'])} rows",
            *speed_words(facts),
            top_reasons(facts["reasons"]),
        ]
        print(", ".join(word for word in words if word), file=self._stream, flush=True)

    def _table(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        for this in self._parts.values():
            facts = this.to_json(self._clock())
            total = max(this.rows_total, 1)
            done = total if facts["state"] == "done" else min(facts["rows_done"], total)
            shards = f"{count(this.shards)}/{count(this.shards_total)}"
            bar = ProgressBar(total=total, completed=done, width=24)
            table.add_row(this.name, bar, shards, "  ".join(speed_words(facts)), top_reasons(facts["reasons"]))
        return table


def _essence(status: Mapping[str, Any]) -> list[Any]:
    """What a status says, without times and rates."""
    parts = [[part[name] for name in _SAME_PART] for part in status["parts"]]
    return [*(status[name] for name in _SAME), parts]


def read_status(run: RunFolder) -> dict[str, Any]:
    """The status.json of a run. Raises ConfigError where there is none or it is none."""
    try:
        status = json.loads(storage.read_bytes(run.status))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{run.root}: no status.json there; is it a run folder?") from None
    except ValueError as error:
        raise ConfigError(f"{run.status}: cannot be read: {error}") from error
    if not isinstance(status, dict) or status.get("version") != VERSION:
        raise ConfigError(f"{run.status}: not a status of version {VERSION}; it was written by another mmdata")
    return status
