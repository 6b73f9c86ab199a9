"""The engine `img2dataset`: its own downloader fetches, in processes of its own, and its tars and tables are read back.

`img2dataset.download` runs with `disable_all_reencoding`, so that the bytes come as they were sent, pictures or not.
Links are checked beforehand: URL, port, and that the host resolves to allowed addresses only. What differs from the
native engine:

| option | with img2dataset |
|---|---|
| addresses | checked before the download, not where the socket is made: a name may change in between |
| `unchecked_redirects` | false: not followed (`blocked.redirect`); true: followed anywhere, up to `max_redirects` |
| `timeout_s` | bounds each wait for the network, not the request; no progress at all is `fetch.timeout` |
| `connect_timeout_s`, `first_byte_timeout_s`, `min_bytes_per_s`, `slow_grace_s` | no effect |
| `retries` | of every failure, at once; Retry-After is not obeyed; `attempts` says 1 |
| `per_host` | no effect: up to `concurrency` requests at once go to one host |
| `connect_to` | the URL is rewritten, so the server sees the mapped address and port as Host; http only |
| `name_servers` | refused |
| `opt_out` | by img2dataset's parser: text before the first colon of the header is taken for an agent's name |
| Content-Encoding | not decoded |
| `max_mb` | by Content-Length, and by what has come where there is none |
| reasons | read from img2dataset's texts: less exact, `http_code` only for errors |
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

import mmdata.fetch
from mmdata.errors import ConfigError, Reason, SampleError
from mmdata.fetch.links import Fetched, Link, check_bytes
from mmdata.fetch.opt_out import OPT_OUTS
from mmdata.fetch.responses import reason_of_status
from mmdata.fetch.settings import Settings, bracketed
from mmdata.fetch.task import checked_target

BATCH_LINKS = 10_000  # for one start of img2dataset, which takes some seconds
SHARD_LINKS = 500  # what is read back at once
START_S = 120.0  # until its processes run, and for its own end
POLL_S = 0.1

_STATUS = re.compile(r"HTTP Error (\d{3})")
# In this order: the first that is found in the text of an error counts.
_TEXTS = (
    ("X-Robots-Tag", Reason.OPTOUT_HEADER),
    ("fetch.too_large", Reason.TOO_LARGE),
    ("infinite loop", Reason.REDIRECT_LOOP),
    ("certificate", Reason.TLS),
    ("ssl", Reason.TLS),
    ("name or service not known", Reason.DNS),
    ("name resolution", Reason.DNS),
    ("no address associated", Reason.DNS),
    ("nodename nor servname", Reason.DNS),
    ("timed out", Reason.TIMEOUT),
    ("incompleteread", Reason.TRUNCATED_BODY),
    ("refused", Reason.CONNECT),
    ("unreachable", Reason.CONNECT),
    ("no route", Reason.CONNECT),
    ("remote end closed", Reason.RESET),
    ("reset by peer", Reason.RESET),
    ("broken pipe", Reason.RESET),
)


def reason_of_text(text: str) -> tuple[Reason, int | None]:
    """The reason, and the HTTP status if there was one, that an error message of img2dataset stands for."""
    low = text.lower()
    for words, reason in _TEXTS:
        if words.lower() in low:
            return reason, None
    status = _STATUS.search(text)
    if status:
        code = int(status[1])
        return (Reason.REDIRECT if 300 <= code < 400 and code != 304 else reason_of_status(code)), code
    return Reason.PROTOCOL, None


class Img2datasetFetcher:
    """Runs img2dataset over batches of links; `results` gives what came of each, shard by shard."""

    def __init__(self, links: Iterable[Link], settings: Settings, blocklist: Container[str]) -> None:
        if settings.options.name_servers:
            raise ConfigError("fetch.name_servers: engine img2dataset cannot use them; leave it out")
        self._links = iter(links)
        self._settings = settings
        self._blocklist = blocklist
        self._verdicts: dict[tuple[str, int], str] = {}

    def results(self) -> Iterator[Fetched]:
        """Each result once. Closing this ends img2dataset and removes what it has written."""
        while batch := list(itertools.islice(self._links, BATCH_LINKS)):
            urls: dict[int, str] = {}
            for row, link in enumerate(batch):
                try:
                    urls[row] = self._url(link.url)
                except SampleError as error:
                    yield Fetched(link.key).end(error.reason, error.detail)
            if urls:
                yield from self._download(batch, urls)

    def _url(self, url: str) -> str:
        """The URL to give to img2dataset. Raises SampleError for one that may not be fetched."""
        target = checked_target(url, self._settings)
        address, port = self._settings.connect_to.get(target.host, (target.host, target.port))
        why = self._refusal(address, port)
        if why:
            raise SampleError(Reason.ADDRESS, why)
        if address is target.host:
            return target.url
        if target.scheme != "http":
            raise SampleError(Reason.SCHEME, "engine img2dataset cannot connect_to a https host elsewhere")
        path = target.url.split("/", 3)[3]
        return f"http://{bracketed(address)}:{port}/{path}"

    def _refusal(self, host: str, port: int) -> str:
        if self._settings.options.proxy:
            return ""  # the proxy looks names up, and must enforce addresses
        if (host, port) not in self._verdicts:
            try:
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError):
                found = []  # img2dataset will find that too, and say so
            refusals = (self._settings.rules.refusal(str(entry[4][0]), port) for entry in found)
            self._verdicts[host, port] = next((why for why in refusals if why), "")
        return self._verdicts[host, port]

    def _download(self, batch: list[Link], urls: dict[int, str]) -> Iterator[Fetched]:
        left = set(urls)
        with tempfile.TemporaryDirectory(prefix="mmdata-img2dataset-") as name:
            folder = Path(name)
            process = self._start(folder, urls)
            try:
                quiet_until = time.monotonic() + START_S + self._shard_s()
                running = True
                while running or any(folder.glob("out/*_stats.json")):
                    running = process.poll() is None
                    for stats in sorted(folder.glob("out/*_stats.json")):
                        for row, fetched in self._read_shard(stats, batch):
                            left.discard(row)
                            yield fetched
                        quiet_until = time.monotonic() + START_S + self._shard_s()
                    if not left:
                        return
                    if time.monotonic() > quiet_until:
                        for row in sorted(left):
                            fetched = Fetched(batch[row].key, attempts=1)
                            yield fetched.end(Reason.TIMEOUT, "img2dataset makes no progress")
                        return
                    if running:
                        _wait(process)
                log = (folder / "log").read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
            finally:
                _kill(process)
        for row in sorted(left):
            detail = f"img2dataset ended ({process.returncode}) without this row: {log}"
            yield Fetched(batch[row].key, attempts=1).end(Reason.INTERNAL, detail)

    def _shard_s(self) -> float:
        """How long a shard may take where every request waits for its full time, a few waits each."""
        options = self._settings.options
        return 3 * math.ceil(SHARD_LINKS / options.concurrency) * (options.retries + 1) * math.ceil(options.timeout_s)

    def _start(self, folder: Path, urls: dict[int, str]) -> subprocess.Popen[bytes]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        options = self._settings.options
        table = pa.table({"url": list(urls.values()), "mmdata_row": pa.array(urls.keys(), pa.int64())})
        pq.write_table(table, folder / "links.parquet")
        request: dict[str, Any] = {
            "user_agent": self._settings.user_agent,
            "proxy": options.proxy,
            "max_bytes": self._settings.max_bytes,
            "max_redirects": options.max_redirects if options.unchecked_redirects else None,
            "download": {
                "url_list": str(folder / "links.parquet"),
                "input_format": "parquet",
                "url_col": "url",
                "save_additional_columns": ["mmdata_row"],
                "output_folder": str(folder / "out"),
                "output_format": "webdataset",
                "disable_all_reencoding": True,
                "processes_count": 1,
                "thread_count": options.concurrency,
                "number_sample_per_shard": SHARD_LINKS,
                "timeout": math.ceil(options.timeout_s),
                "retries": options.retries,
                "extract_exif": False,
                "compute_hash": None,
                "enable_wandb": False,
                "user_agent_token": options.agent,
                "disallowed_header_directives": sorted(OPT_OUTS) if options.opt_out else [],
            },
        }
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        root = str(Path(mmdata.fetch.__path__[0]).parents[1])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        with open(folder / "log", "wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "mmdata.fetch.img2dataset_child", str(folder / "request.json")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "WANDB_MODE": "disabled"},
                start_new_session=True,  # so that its own processes end with it
            )

    def _read_shard(self, stats: Path, batch: list[Link]) -> Iterator[tuple[int, Fetched]]:
        import pyarrow.parquet as pq

        stem = stats.with_name(stats.name.removesuffix("_stats.json"))
        columns = ["key", "mmdata_row", "status", "error_message"]
        rows = {row["key"]: row for row in pq.read_table(stem.with_suffix(".parquet"), columns=columns).to_pylist()}
        with tarfile.open(stem.with_suffix(".tar")) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                content = tar.extractfile(member) if extension != "json" else None
                if content is None:
                    continue
                row = rows.pop(key)["mmdata_row"]
                data = content.read()
                fetched = Fetched(batch[row].key, data, http_code=200, attempts=1, num_bytes=len(data))
                if len(data) > self._settings.max_bytes:
                    fetched.end(Reason.TOO_LARGE, f"more than {self._settings.max_bytes} bytes")
                yield row, check_bytes(fetched, batch[row].expected_sha256, self._blocklist)
        for row in rows.values():
            number, text = row["mmdata_row"], row["error_message"] or ""
            reason, code = reason_of_text(text)
            yield number, Fetched(batch[number].key, http_code=code, attempts=1).end(reason, text)
        for path in (stats, stem.with_suffix(".parquet"), stem.with_suffix(".tar")):
            path.unlink()


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(POLL_S)
    except subprocess.TimeoutExpired:
        pass


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
