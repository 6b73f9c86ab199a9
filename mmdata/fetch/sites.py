"""Links to pages of video sites, through yt-dlp (extra `sites`), where `fetch.sites` is on.

yt-dlp runs in a process of its own, one link after the other, and writes to a temporary folder. What differs from the
native engine:

| option | with sites |
|---|---|
| addresses, `ports`, `connect_to` | held where each socket is made, redirects and all pages on the way included |
| `timeout_s` | bounds each wait for the network; a link as a whole may take SITE_WAITS times as long |
| `retries` | of every failure; `attempts` says 1 |
| `max_redirects`, `connect_timeout_s`, `first_byte_timeout_s`, `min_bytes_per_s`, `slow_grace_s` | no effect |
| `name_servers` | no effect: the system looks names up |
| `opt_out` | no effect: yt-dlp does not show the headers of pages |
| `site_format` | yt-dlp's selector among what comes as one file over HTTP or HLS; nothing is merged or converted |
| reasons | `fetch.site_*` where the site says why; `http_code` only for errors |

No ffmpeg and no JavaScript engine is started: formats that need one (merged ones; many of YouTube's) are not there.
Terms of use of a site may forbid downloading; whether a use is allowed is the user's to know.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mmdata.fetch
from mmdata.errors import ConfigError, Reason, SampleError
from mmdata.fetch.links import Fetched, Link, check_bytes
from mmdata.fetch.settings import Settings
from mmdata.fetch.task import checked_target

SITE_WAITS = 30  # a page, its player, its manifests and many fragments
START_S = 60.0
_MEDIUM = re.compile(r"\.(jpe?g|png|gif|webp|avif|bmp|svg|mp[34]|m4[av]|mov|mkv|webm|avi|mpe?g|wav|flac|og[gv]|opus)$")
# Extractors that take whatever link they see.
_ANY_LINK = {"generic", "html5", "commonmistakes", "unicodebom"}


def is_site_link(url: str) -> bool:
    """True for a link that an extractor of yt-dlp knows as a page of its site, and that names no medium's file."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or _MEDIUM.search(parts.path.lower()):
        return False
    return any(extractor.suitable(url) for extractor in _extractors())


@functools.cache
def _extractors() -> list[Any]:
    from yt_dlp.extractor import gen_extractor_classes

    return [each for each in gen_extractor_classes() if each.IE_NAME.lower() not in _ANY_LINK and each._VALID_URL]


def without_site_links(links: Iterable[Link], of_sites: list[Link]) -> Iterator[Link]:
    """The links that are no pages of video sites, one by one; the others are put into `of_sites` on the way."""
    for link in links:
        if is_site_link(link.url):
            of_sites.append(link)
        else:
            yield link


class SiteFetcher:
    """Gives links to yt-dlp, one after the other; `results` gives what came of each."""

    def __init__(self, links: Iterable[Link], settings: Settings, blocklist: Container[str]) -> None:
        if importlib.util.find_spec("yt_dlp") is None:
            raise ConfigError("fetch.sites: needs yt-dlp, which is not installed: pip install 'mmdata[sites]'")
        self._links = iter(links)
        self._settings = settings
        self._blocklist = blocklist
        self._child: subprocess.Popen[bytes] | None = None

    def results(self) -> Iterator[Fetched]:
        """Each result once. Closing this ends yt-dlp and removes what it has written."""
        try:
            for link in self._links:
                try:
                    checked_target(link.url, self._settings)
                except SampleError as error:
                    yield Fetched(link.key).end(error.reason, error.detail)
                    continue
                with tempfile.TemporaryDirectory(prefix="mmdata-site-") as folder:
                    yield self._fetched(link, Path(folder))
        finally:
            self._end_child()

    def _fetched(self, link: Link, folder: Path) -> Fetched:
        fetched = Fetched(link.key, attempts=1)
        answer = self._ask({"url": link.url, "folder": str(folder)})
        if answer is None:
            self._end_child()
            return fetched.end(Reason.TIMEOUT, f"yt-dlp is not done within {self._limit_s:g} s, or has ended")
        fetched.http_code = answer.get("http_code")
        reason = Reason(answer["reason"])
        if reason is not Reason.OK:
            return fetched.end(reason, answer["detail"])
        path = Path(answer["file"])
        if path.parent != folder or path.stat().st_size > self._settings.max_bytes:
            return fetched.end(Reason.TOO_LARGE, f"more than {self._settings.max_bytes} bytes")
        fetched.data = path.read_bytes()
        fetched.num_bytes, fetched.http_code = len(fetched.data), 200
        return check_bytes(fetched, link.expected_sha256, self._blocklist)

    @property
    def _limit_s(self) -> float:
        return SITE_WAITS * self._settings.options.timeout_s

    def _ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The answer of the child to one link, None where it gives none in time."""
        child = self._child or self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            return None
        deadline = time.monotonic() + START_S + self._limit_s
        poll = select.poll()
        poll.register(child.stdout, select.POLLIN)
        line = b""
        while not line.endswith(b"\n"):
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return None
            data = os.read(child.stdout.fileno(), 1 << 16)
            if not data:
                return None
            line += data
        found: dict[str, Any] = json.loads(line)
        return found

    def _start(self) -> subprocess.Popen[bytes]:
        options = self._settings.options
        root = str(Path(mmdata.fetch.__path__[0]).parents[1])
        environment = {name: os.environ[name] for name in ("PATH", "TMPDIR", "SSL_CERT_FILE") if name in os.environ}
        self._child = subprocess.Popen(
            [sys.executable, "-m", "mmdata.fetch.sites_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environment, "PYTHONPATH": root, "YTDLP_NO_PLUGINS": "1", "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
        settings = {
            "networks": [str(network) for network in self._settings.socket_rules.networks],
            "forbidden_ports": sorted(self._settings.socket_rules.forbidden_ports),
            "ports": sorted(self._settings.ports),
            "connect_to": self._settings.connect_to,
            "proxy": options.proxy,
            "max_bytes": self._settings.max_bytes,
            "timeout_s": options.timeout_s,
            "retries": options.retries,
            "format": options.site_format,
            "user_agent": self._settings.user_agent,
        }
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(settings).encode() + b"\n")
        return self._child

    def _end_child(self) -> None:
        if self._child is None:
            return
        try:
            os.killpg(self._child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass
        self._child = None
