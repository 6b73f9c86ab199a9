"""A server that does, on request, what servers on the web do: well-behaved, slow, broken and hostile.

`/name` calls the method `name` of Zoo with the socket and the rest of the path. Plain sockets and threads: a library
would not send most of this. Nothing sleeps: what must hang, waits until the zoo closes. It lives on 127.0.0.2, so that
tests can allow that and see that nobody comes to a canary on 127.0.0.1.
"""

from __future__ import annotations

import gzip
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

BODY = bytes(range(256)) * 40
BOMB = gzip.compress(bytes(20_000_000))
DRIP_S = 0.02


class Zoo:
    """hits: requests by path; most: the largest number of `/busy` requests that were served at once; agents: seen."""

    def __init__(self, tls: ssl.SSLContext | None = None, address: str = "127.0.0.2") -> None:
        self.hits: Counter[str] = Counter()
        self.requests: list[str] = []
        self.connections = 0
        self.most = 0
        self.silent = False  # accept, and say nothing
        self.closing = threading.Event()
        self.barrier: threading.Barrier | None = None
        self._now = 0
        self._lock = threading.Lock()
        self._tls = tls
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.create_server((address, 0), family=family, backlog=256)
        self.port: int = self._socket.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self._socket.close()
        for connection in list(self._open):
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        self._open.add(connection)
        try:
            if self.silent:
                self.hang()
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            while self._one(connection):
                pass
        except (OSError, ValueError):
            pass
        finally:
            connection.close()

    def _one(self, connection: socket.socket) -> bool:
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(65536)
            if not data:
                return False
            head += data
            if head.startswith(b"\x16\x03"):  # a TLS hello: what web servers answer on their plain port
                return bool(self.send(connection, b"plain HTTP here", "400 Bad Request")) and False
        text = head.decode("latin-1")
        path = text.split(" ", 2)[1]
        with self._lock:
            self.hits[path] += 1
            self.requests.append(text)
        name, _, rest = path.lstrip("/").partition("/")
        return bool(getattr(self, name)(connection, rest))

    def send(self, connection: socket.socket, body: bytes = BODY, status: str = "200 OK", *headers: str) -> bool:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        connection.sendall("\r\n".join(lines).encode("utf-8") + body)
        return True

    def raw(self, connection: socket.socket, *parts: bytes) -> None:
        for part in parts:
            connection.sendall(part)

    def hang(self) -> None:
        self.closing.wait(20)

    def __getattr__(self, name: str) -> object:
        """Whatever else is asked for (a proxy's `http:`) is not here."""
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda c, rest: self.send(c, b"", "404 Not Found")

    # well-behaved
    def ok(self, c: socket.socket, rest: str) -> bool:
        return self.send(c)

    def chunked(self, c: socket.socket, rest: str) -> bool:
        self.raw(c, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY), BODY, b"\r\n0\r\n\r\n")
        return True

    def until_close(self, c: socket.socket, rest: str) -> bool:
        self.raw(c, b"HTTP/1.0 200 OK\r\n\r\n", BODY)
        return False

    def html(self, c: socket.socket, rest: str) -> bool:
        return self.send(c, b"<html>no picture</html>", "200 OK", "Content-Type: image/jpeg; charset=klingon")

    def early_hints(self, c: socket.socket, rest: str) -> bool:
        self.raw(c, b"HTTP/1.1 103 Early Hints\r\nX-Robots-Tag: noai\r\n\r\n")
        return self.send(c)

    def busy(self, c: socket.socket, rest: str) -> bool:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        if self.barrier:
            self.barrier.wait(5)
        with self._lock:
            self._now -= 1
        return self.send(c)

    # status codes
    def status(self, c: socket.socket, rest: str) -> bool:
        return self.send(c, b"" if rest[:3] in ("204", "304") else b"sorry", f"{rest} As Asked")

    def big_404(self, c: socket.socket, rest: str) -> bool:
        self.raw(c, b"HTTP/1.1 404 No\r\nContent-Length: 1000000000000\r\n\r\n", b"x" * 300_000)
        self.hang()
        return False

    def empty(self, c: socket.socket, rest: str) -> bool:
        return self.send(c, b"")

    def retry_after(self, c: socket.socket, rest: str) -> bool:
        """429 with Retry-After `rest`; the second time the file."""
        if self.hits[f"/retry_after/{rest}"] > 1:
            return self.send(c)
        return self.send(c, b"", "429 Too Many", f"Retry-After: {unquote(rest)}")

    def flaky(self, c: socket.socket, rest: str) -> bool:
        return self.send(c) if self.hits[f"/flaky/{rest}"] > int(rest) else self.send(c, b"", "503 Not Now")

    # redirects
    def to(self, c: socket.socket, rest: str) -> bool:
        """`code/url`, the URL percent-encoded"""
        code, _, url = rest.partition("/")
        return self.send(c, b"moved", f"{code} Moved", f"Location: {unquote(url)}")

    def nowhere(self, c: socket.socket, rest: str) -> bool:
        return self.send(c, b"moved", "301 Moved")

    def loop(self, c: socket.socket, rest: str) -> bool:
        return self.send(c, b"", "302 Found", "Location: /loop/" + ("b" if rest == "a" else "a"))

    def chain(self, c: socket.socket, rest: str) -> bool:
        return self.send(c, b"", "307 On", f"Location: /chain/{int(rest) - 1}") if int(rest) else self.send(c)

    def bomb_redirect(self, c: socket.socket, rest: str) -> bool:
        return self.send(c, BOMB, "302 Found", "Content-Encoding: gzip", "Location: /ok")

    # headers
    def robots(self, c: socket.socket, rest: str) -> bool:
        values = unquote(rest).split("|")
        return self.send(c, BODY, "200 OK", *(f"x-RoBots-TaG: {value}" for value in values))

    def encoded(self, c: socket.socket, rest: str) -> bool:
        return self.send(c, gzip.compress(BODY), "200 OK", f"Content-Encoding: {rest}")

    def bomb(self, c: socket.socket, rest: str) -> bool:
        return self.send(c, BOMB, "200 OK", "Content-Encoding: gzip")

    def many_headers(self, c: socket.socket, rest: str) -> bool:
        self.raw(c, b"HTTP/1.1 200 OK\r\n", b"X-Flood: y\r\n" * 100_000, b"Content-Length: 0\r\n\r\n")
        return False

    # slow
    def stall(self, c: socket.socket, rest: str) -> bool:
        self.hang()
        return False

    def stall_in_headers(self, c: socket.socket, rest: str) -> bool:
        self.raw(c, b"HTTP/1.1 200 OK\r\nContent-")
        self.hang()
        return False

    def stall_in_body(self, c: socket.socket, rest: str) -> bool:
        self.raw(c, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x" * 10)
        self.hang()
        return False

    def drip(self, c: socket.socket, rest: str) -> bool:
        self.raw(c, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not self.closing.wait(DRIP_S):
            self.raw(c, b"x")
        return False

    # too much, too little, not HTTP
    def endless(self, c: socket.socket, rest: str) -> bool:
        self.raw(c, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not self.closing.is_set():
            self.raw(c, b"4000\r\n", bytes(0x4000), b"\r\n")
        return False

    def terabyte(self, c: socket.socket, rest: str) -> bool:
        self.raw(c, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", BODY)
        self.hang()
        return False

    def short(self, c: socket.socket, rest: str) -> bool:
        self.raw(c, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(BODY) + 1), BODY)
        return False

    def long(self, c: socket.socket, rest: str) -> bool:
        """More than was said: the start of a poisoned answer to the next request on this connection."""
        poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
        self.raw(c, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY + poison)
        return True

    def cut_chunks(self, c: socket.socket, rest: str) -> bool:
        self.raw(c, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc")
        return False

    def bad_chunks(self, c: socket.socket, rest: str) -> bool:
        self.raw(c, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n")
        return False

    def garbage(self, c: socket.socket, rest: str) -> bool:
        self.raw(c, b"\x00\x01 what is this\r\n\r\n" * 20)
        return False

    def hang_up(self, c: socket.socket, rest: str) -> bool:
        return False

    def reset(self, c: socket.socket, rest: str) -> bool:
        if rest == "body":
            self.raw(c, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x" * 50_000)
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False


@contextmanager
def open_zoo(tls: ssl.SSLContext | None = None, address: str = "127.0.0.2") -> Iterator[Zoo]:
    zoo = Zoo(tls, address)
    try:
        yield zoo
    finally:
        zoo.close()
