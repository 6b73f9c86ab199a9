"""The process that runs yt-dlp for `fetch/sites.py`: settings on the first line of its input, then a link a line.

An audit hook sees every socket and every program that Python code is about to start, yt-dlp's included: sockets go to
allowed addresses only, whatever a page or a redirect names, and no program is started (no ffmpeg, no JavaScript engine,
no browser's cookies). Files cannot grow beyond the cap on bytes.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
from pathlib import Path
from typing import Any

from mmdata.errors import Reason
from mmdata.fetch.address import AddressRules
from mmdata.fetch.site_errors import AddressRefused, TooLarge, reason_of
from mmdata.sample import clean_detail

SLACK_BYTES = 1 << 20  # beyond the cap, so that our own check, with its reason, comes before the system's
_PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty"}
_PLAIN = "[protocol~='^(https?|m3u8_native)$']"  # what yt-dlp can download by itself


def guard(settings: dict[str, Any]) -> list[str]:
    """From here on, no socket to an address that is not allowed, and no other program. Cannot be undone.

    Returns a list to which the words of each refusal of an address are added.
    """
    refusals: list[str] = []
    rules = AddressRules.parse(settings["networks"], settings["forbidden_ports"])
    ports, mapped = set(settings["ports"]), {tuple(place) for place in settings["connect_to"].values()}
    look_up = socket.getaddrinfo

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _PROGRAMS:
            raise OSError(f"{event}: no other program may be started")
        if event not in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            return
        place = arguments[1]
        why = refusal(place) if isinstance(place, tuple) else f"{place!r} is no address of the internet"
        if why:
            refusals.append(why)
            raise AddressRefused(why)

    def refusal(place: tuple[Any, ...]) -> str:
        address, port = str(place[0]), int(place[1])
        if not settings["proxy"] and port not in ports and (address, port) not in mapped:
            return f"port {port} is not in fetch.ports"
        return rules.refusal(address, port)

    def mapped_look_up(host: Any, port: Any, *arguments: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        address, number = settings["connect_to"].get(name.lower(), (host, port))
        return look_up(address, number, *arguments, **named)

    socket.getaddrinfo = mapped_look_up
    sys.addaudithook(refuse)
    return refusals


def fetch(url: str, folder: Path, settings: dict[str, Any], refusals: list[str]) -> dict[str, Any]:
    """What came of a link: {"file": path} or {"reason", "detail", "http_code"}. refusals: as `guard` fills it."""
    from yt_dlp import YoutubeDL
    from yt_dlp.utils import YoutubeDLError

    refusals.clear()
    try:
        with YoutubeDL(_options(folder, settings)) as downloader:
            info = downloader.extract_info(url)
    except (YoutubeDLError, OSError, TooLarge) as error:
        if refusals:  # yt-dlp does not keep the error of every socket
            return _ended(Reason.ADDRESS, refusals[0])
        reason, detail, code = reason_of(error)
        return {"reason": reason.value, "detail": clean_detail(detail), "http_code": code}
    while info and info.get("_type") in ("playlist", "multi_video"):
        entries = [entry for entry in info.get("entries") or () if entry]
        info = entries[0] if len(entries) == 1 else None
    files = [Path(each.get("filepath") or "") for each in (info or {}).get("requested_downloads") or ()]
    if len(files) != 1 or not files[0].is_file():
        return _ended(Reason.SITE_UNAVAILABLE, "no single video at this link that is not live")
    return {"file": str(files[0]), "reason": Reason.OK.value}


def _ended(reason: Reason, detail: str) -> dict[str, Any]:
    return {"reason": reason.value, "detail": detail, "http_code": None}


def _options(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    max_bytes = settings["max_bytes"]

    def count(progress: dict[str, Any]) -> None:
        seen = max(progress.get("downloaded_bytes") or 0, progress.get("total_bytes") or 0)
        if seen > max_bytes:
            raise TooLarge(f"{seen} bytes, allowed {max_bytes}")

    return {
        "format": f"({settings['format']}){_PLAIN}",
        "outtmpl": {"default": str(folder / "medium.%(ext)s")},
        "progress_hooks": [count],
        "socket_timeout": settings["timeout_s"],
        "retries": settings["retries"],
        "extractor_retries": settings["retries"],
        "fragment_retries": settings["retries"],
        "skip_unavailable_fragments": False,
        "http_headers": {"User-Agent": settings["user_agent"]},
        "proxy": settings["proxy"],  # "" also keeps those of the environment out
        "noplaylist": True,
        "playlist_items": "1:2",  # enough to see that it is one
        "match_filter": lambda info, *, incomplete: "live" if info.get("is_live") else None,
        "external_downloader": {"default": "native"},
        "fixup": "never",
        "cachedir": False,
        "updatetime": False,
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "logger": _Silent(),
    }


class _Silent:
    """yt-dlp's words come as errors too; nothing must get between the answers."""

    def debug(self, text: str) -> None: ...

    info = warning = error = debug


def main() -> None:
    """Answer a line of JSON for each link that stands on a line of the input."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    settings = json.loads(sys.stdin.readline())
    import yt_dlp.extractor  # before the guard: a library may look for programs as it loads

    yt_dlp.extractor.gen_extractor_classes()
    limit = settings["max_bytes"] + SLACK_BYTES
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    refusals = guard(settings)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = fetch(request["url"], Path(request["folder"]), settings, refusals)
        except Exception as error:  # an extractor's bug must not end the work on all other links
            answer = _ended(Reason.PROTOCOL, clean_detail(f"yt-dlp: {type(error).__name__}: {error}"))
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
