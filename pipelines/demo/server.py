"""A small HTTP/1.1 server on the loopback interface: the demo's media, and what the web does to a crawler.

    python pipelines/demo/server.py --port 0          prints the port, serves until interrupted
    with DemoServer() as port: ...                    the same in a thread

A path is a file under `media/`, unless `behaviours.json` says otherwise: there a path has a `kind` (see `_Connection`)
and its settings. Only GET and HEAD are known; connections are kept alive; nothing outside `media/` can be named.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

HERE = Path(__file__).resolve().parent
_TYPES = {
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
    ".heic": "image/heic",
    ".html": "text/html; charset=utf-8",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".avi": "video/x-msvideo",
    ".mpeg": "video/mpeg",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".m4a": "audio/mp4",
    ".amr": "audio/amr",
    ".g722": "audio/G722",
}
_PHRASES = {200: "OK", 302: "Found", 404: "Not Found", 405: "Method Not Allowed", 410: "Gone", 429: "Too Many Requests"}
_IDLE_S = 60.0  # a client that says nothing for so long is let go
_PATIENCE_S = 30.0  # the longest that a drip or a silence lasts; a client should have left long before


class _HangUpError(Exception):
    """The connection ends here, as planned."""


class _Site:
    """What is served: files and behaviours, and how often each path was asked for."""

    def __init__(self, media: Path, behaviours: Mapping[str, Mapping[str, Any]]) -> None:
        self.media = media.resolve()
        self.behaviours = behaviours
        self.asked: Counter[str] = Counter()

    def file(self, path: str) -> Path | None:
        """The file that a path names, if it lies under `media/`."""
        found = (self.media / path.lstrip("/")).resolve()
        return found if found.is_file() and found.is_relative_to(self.media) else None


class _Connection:
    """One client. Each method `do_<kind>` is a kind of behaviour."""

    def __init__(self, site: _Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.site = site
        self.reader = reader
        self.writer = writer
        self.is_head = False

    async def serve(self) -> None:
        """Answer requests until the client leaves or a behaviour hangs up."""
        while True:
            request = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), _IDLE_S)
            lines = request.decode("latin-1").split("\r\n")
            method, _, rest = lines[0].partition(" ")
            path = unquote(urlsplit(rest.rpartition(" ")[0]).path)
            self.is_head = method == "HEAD"
            if method not in ("GET", "HEAD"):
                await self.answer(405, b"only GET and HEAD\n")
                raise _HangUpError
            behaviour = self.site.behaviours.get(path, {"kind": "file", "file": path})
            self.site.asked[path] += 1
            await getattr(self, f"do_{behaviour['kind']}")(behaviour, self.site.asked[path])
            if any(line.lower().replace(" ", "") == "connection:close" for line in lines[1:]):
                raise _HangUpError

    async def answer(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, length: int | None = None
    ) -> None:
        """One response; `length` is what Content-Length claims, if not the truth."""
        fields = {"Content-Length": str(len(body) if length is None else length), **(headers or {})}
        head = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Other')}", *(f"{name}: {fields[name]}" for name in fields)]
        self.writer.write(("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + (b"" if self.is_head else body))
        await self.writer.drain()

    async def do_file(self, behaviour: Mapping[str, Any], _: int) -> None:
        """`file` under media/, with `type` and `headers` if the file's own do not do."""
        file = self.site.file(str(behaviour["file"]))
        if file is None:
            await self.answer(404, b"no such file\n", {"Content-Type": "text/plain"})
            return
        content_type = str(behaviour.get("type", _TYPES.get(file.suffix, "application/octet-stream")))
        await self.answer(200, file.read_bytes(), {"Content-Type": content_type, **behaviour.get("headers", {})})

    async def do_status(self, behaviour: Mapping[str, Any], asked: int) -> None:
        """`status` with `headers`, for ever or for the first `times` requests; then `file`."""
        if asked > int(behaviour.get("times", asked)):
            await self.do_file(behaviour, asked)
            return
        await self.answer(
            int(behaviour["status"]), b"no\n", {"Content-Type": "text/plain", **behaviour.get("headers", {})}
        )

    async def do_redirect(self, behaviour: Mapping[str, Any], _: int) -> None:
        """302 to `to`, whatever that is."""
        await self.answer(302, b"", {"Location": str(behaviour["to"])})

    async def do_empty(self, _: Mapping[str, Any], __: int) -> None:
        """200 with no body."""
        await self.answer(200, b"", {"Content-Type": "image/jpeg"})

    async def do_drip(self, behaviour: Mapping[str, Any], _: int) -> None:
        """The file, `bytes_per_s` at a time."""
        body = self._body(behaviour)
        await self.answer(200, b"", {"Content-Type": "image/webp"}, length=len(body))
        step = max(1, int(behaviour["bytes_per_s"]) // 5)
        for start in range(0, min(len(body), step * 5 * int(_PATIENCE_S)), step):
            self.writer.write(body[start : start + step])
            await self.writer.drain()
            await asyncio.sleep(0.2)
        raise _HangUpError

    async def do_silence(self, _: Mapping[str, Any], __: int) -> None:
        """No answer; waits until the client leaves."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.reader.read(1), _PATIENCE_S)
        raise _HangUpError

    async def do_short(self, behaviour: Mapping[str, Any], _: int) -> None:
        """Half of the file under the Content-Length of the whole, then an orderly end of the connection."""
        body = self._body(behaviour)
        await self.answer(200, body[: len(body) // 2], {"Content-Type": "image/webp"}, length=len(body))
        raise _HangUpError

    async def do_reset(self, _: Mapping[str, Any], __: int) -> None:
        """A TCP reset instead of an answer."""
        connection: socket.socket = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        raise _HangUpError

    async def do_endless(self, behaviour: Mapping[str, Any], _: int) -> None:
        """`megabytes` of zeros, announced."""
        size = int(behaviour["megabytes"]) * 1_000_000
        await self.answer(200, b"", {"Content-Type": "image/jpeg"}, length=size)
        for _sent in range(0, size, 100_000):
            self.writer.write(bytes(100_000))
            await self.writer.drain()

    def _body(self, behaviour: Mapping[str, Any]) -> bytes:
        file = self.site.file(str(behaviour["file"]))
        assert file is not None, f"behaviours.json names {behaviour['file']}, which is not there"
        return file.read_bytes()


def read_behaviours(path: Path = HERE / "behaviours.json") -> dict[str, dict[str, Any]]:
    """Path to behaviour; a kind that the server does not know is an error at once, not at the first request."""
    behaviours: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    for name, behaviour in behaviours.items():
        if not hasattr(_Connection, f"do_{behaviour['kind']}"):
            raise ValueError(f"{path}: {name}: no such kind: {behaviour['kind']}")
    return behaviours


async def _accept(site: _Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    gone = (_HangUpError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError, OSError)
    try:
        with contextlib.suppress(*gone):
            await _Connection(site, reader, writer).serve()
    except asyncio.CancelledError:
        pass  # the server stops; asyncio would log a cancelled handler as an error
    finally:
        writer.close()


class DemoServer:
    """The server in a thread of its own: `with DemoServer() as port:`."""

    def __init__(
        self, port: int = 0, media: Path = HERE / "media", behaviours: Path = HERE / "behaviours.json"
    ) -> None:
        self._site = _Site(media, read_behaviours(behaviours))
        # Bound here, so that a port in use is the caller's error, and the port is known before the thread runs.
        self._socket = socket.create_server(("127.0.0.1", port), backlog=512)
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="demo-server", daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        return self.port

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End every connection and wait for the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        tasks: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(_accept(self._site, reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = self._loop.run_until_complete(asyncio.start_server(connected, sock=self._socket))
        self._loop.run_forever()
        server.close()
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="0: any free port, printed on the first line")
    with DemoServer(parser.parse_args().port) as port:
        print(port, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
