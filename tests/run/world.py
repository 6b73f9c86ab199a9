"""A small world for runs: pictures behind a real server on loopback, a table of links, a pipeline file over them."""

from __future__ import annotations

import contextlib
import csv
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

from tests.builders import jpeg

ROWS = 60
MISSING = range(3, ROWS, 17)  # rows whose link is dead
DOUBLED = (11, 47)  # rows that repeat the bytes of row 10


class World:
    """The server's log and gate. `requests`: paths as they came. `gate`: called with each path before its answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        self.gate: Callable[[str], None] = lambda path: None
        self.is_down = False
        self.failing: set[int] = set()  # rows that are answered with 503
        self._lock = threading.Lock()
        world = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with world._lock:
                    world.requests.append(self.path)
                world.gate(self.path)
                row = int(self.path.strip("/").split(".")[0])
                code = 503 if world.is_down or row in world.failing else 404 if row in MISSING else 200
                body = jpeg(10 if row in DOUBLED else row, 320, 240) if code == 200 else b"no"
                with contextlib.suppress(ConnectionError):
                    self.send_response(code)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]

    def write_table(self, name: str = "links.csv", first: int = 0, rows: int = ROWS) -> Path:
        path = self.folder / name
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["url", "caption", "license"])
            for row in range(first, first + rows):
                writer.writerow([f"http://media.example/{row}.jpg", f"picture number {row}", "CC0"])
        return path

    def write_pipeline(self, name: str = "small", table: str = "links*.csv", **sections: object) -> Path:
        """A pipeline file over the table; keyword arguments replace whole sections."""
        tree: dict[str, object] = {
            "name": name,
            "seed": 5,
            "sources": {"web": {"kind": "url_table", "path": table}},
            "plan": {"rows_per_shard": 10},
            "fetch": {
                "allow_networks": ["127.0.0.0/8"],
                "connect_to": {"media.example": f"127.0.0.1:{self.port}"},
                "retries": 0,
                "timeout_s": 60,
                "first_byte_timeout_s": 60,
            },
            "stages": [{"decode_image": {"side_px": 64}}, {"hash_image": {}}, {"channel_stats": {}}],
            "select": [{"dedup": {"by": "sha256"}}],
            "emit": {"samples_per_shard": 20, "val_share": 0.2, "window_shards": 2},
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(tree | sections, sort_keys=False))
        return path

    def mmdata(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command line as a user would, in the world's folder."""
        done = subprocess.run(
            command(*words),
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "mmdata", *words]


def environment() -> dict[str, str]:
    """The environment without what would send a run elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }


@contextlib.contextmanager
def world_at(folder: Path) -> Iterator[World]:
    """A world whose server runs while the block does."""
    world = World(folder)
    thread = threading.Thread(target=world.server.serve_forever, daemon=True)
    thread.start()
    try:
        world.write_table()
        yield world
    finally:
        world.server.shutdown()
        world.server.server_close()
        thread.join()


def tree_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Modification time and size of every file below a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file()
    }
