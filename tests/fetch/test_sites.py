"""Pages of video sites: yt-dlp in its process, held to the same addresses; its errors as reasons. No internet."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmdata.errors import ConfigError, Reason, Status
from mmdata.fetch.engine import fetch_all
from mmdata.fetch.links import Fetched, Link
from mmdata.fetch.settings import settings_of
from mmdata.fetch.site_errors import AddressRefused, TooLarge, reason_of
from mmdata.fetch.sites import SiteFetcher, is_site_link
from tests.fetch.conftest import HOST, zoo_options
from tests.fetch.zoo import Zoo, open_zoo

pytest.importorskip("yt_dlp")
FILM = "/medium/film.mp4"


class Site(Zoo):
    """A video site: `/watch/here` is a page with a film of its own, `/watch/inside` names one on a private address."""

    film = b""
    inside = ""

    def watch(self, c: socket.socket, rest: str) -> bool:
        source = FILM if rest == "here" else self.inside
        page = f"<html><title>A film</title><video><source src='{source}' type='video/mp4'></video></html>"
        return self.send(c, page.encode(), "200 OK", "Content-Type: text/html")

    def medium(self, c: socket.socket, rest: str) -> bool:
        return self.send(c, self.film, "200 OK", "Content-Type: video/mp4")

    def away(self, c: socket.socket, rest: str) -> bool:
        return self.send(c, b"", "302 Found", f"Location: {self.inside}")

    def huge(self, c: socket.socket, rest: str) -> bool:
        self.raw(c, b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: 900000000\r\n\r\n", self.film)
        self.hang()
        return False

    def text(self, c: socket.socket, rest: str) -> bool:
        return self.send(c, b"<html>nothing to see</html>", "200 OK", "Content-Type: text/html")


@pytest.fixture(scope="module")
def film() -> bytes:
    """A real mp4 of one second."""
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-f", "lavfi"]
    command += ["-i", "testsrc=size=64x48:rate=5:duration=1", "-c:v", "libx264", "-f", "mp4"]
    command += ["-movflags", "frag_keyframe+empty_moov", "pipe:1"]
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def site(film: bytes) -> Iterator[Site]:
    opened = Site()
    opened.film = film
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def canary() -> Iterator[Zoo]:
    """A server on an address that is not allowed."""
    with open_zoo(address="127.0.0.1") as opened:
        yield opened


@pytest.fixture(scope="module")
def found(site: Site, canary: Zoo) -> dict[str, Fetched]:
    """What came of each path of the site, all by one process of yt-dlp."""
    site.inside = f"http://127.0.0.1:{canary.port}/film.mp4"
    paths = ["medium/film.mp4", "watch/here", "watch/inside", "away/film.mp4", "huge/film.mp4", "text"]
    paths += ["status/404", "status/429", "status/503", "hang_up/film.mp4"]
    options = zoo_options(
        site,
        connect_to={HOST: f"127.0.0.2:{site.port}", "canary.example": f"127.0.0.1:{canary.port}"},
        ports=[80, canary.port],
        max_mb=1,
        timeout_s=2.0,
    )
    links = [Link(path, f"http://{HOST}/{path}") for path in paths]
    links += [
        Link("hash", f"http://{HOST}{FILM}", "0" * 64),
        Link("literal", site.inside),
        Link("scheme", "file:///etc/passwd"),
        Link("canary", "http://canary.example/film.mp4"),
    ]
    results = {fetched.key: fetched for fetched in SiteFetcher(links, settings_of(options), ()).results()}
    assert len(results) == len(links)
    return results


@pytest.mark.parametrize("key", ["medium/film.mp4", "watch/here"])
def test_a_page_or_a_film_gives_the_bytes_of_the_film(found: dict[str, Fetched], key: str, film: bytes) -> None:
    fetched = found[key]
    assert (fetched.reason, fetched.detail) == (Reason.OK, "")
    assert fetched.data == film
    assert (fetched.sha256, fetched.attempts) == (hashlib.sha256(film).hexdigest(), 1)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("watch/inside", Reason.ADDRESS),
        ("away/film.mp4", Reason.ADDRESS),
        ("literal", Reason.ADDRESS),
        ("canary", Reason.ADDRESS),
        ("scheme", Reason.SCHEME),
        ("huge/film.mp4", Reason.TOO_LARGE),
        ("text", Reason.SITE_UNAVAILABLE),
        ("status/404", Reason.SITE_UNAVAILABLE),
        ("status/429", Reason.SITE_RATE_LIMITED),
        ("status/503", Reason.HTTP_5XX),
        ("hang_up/film.mp4", Reason.RESET),
        ("hash", Reason.HASH_MISMATCH),
    ],
)
def test_every_other_link_has_its_reason_and_no_bytes(found: dict[str, Fetched], key: str, reason: Reason) -> None:
    assert (found[key].reason, found[key].data) == (reason, b"")
    assert found[key].detail


def test_no_connection_was_made_to_an_address_that_is_not_allowed(found: dict[str, Fetched], canary: Zoo) -> None:
    assert found
    assert canary.connections == 0


def test_requests_name_us_honestly(found: dict[str, Fetched], site: Site) -> None:
    assert found
    assert all("user-agent: mmdata/" in head.lower() for head in site.requests)


def test_nothing_is_left_on_disk(found: dict[str, Fetched]) -> None:
    assert found
    assert list(Path(tempfile.gettempdir()).glob("mmdata-site-*")) == []


def test_a_site_that_never_answers_is_a_timeout_and_the_next_link_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmdata.fetch.sites.START_S", 3.0)
    monkeypatch.setattr("mmdata.fetch.sites.SITE_WAITS", 1)
    options = zoo_options(site, connect_to={HOST: f"127.0.0.2:{site.port}"}, timeout_s=0.3)
    links = [Link("drip", f"http://{HOST}/drip/film.mp4"), Link("ok", f"http://{HOST}{FILM}")]
    results = {each.key: each.reason for each in SiteFetcher(links, settings_of(options), ()).results()}
    assert results["drip"] is Reason.TIMEOUT


PRIVATE = "Private video. Sign in if you've been granted access to this video"
BOT = "Sign in to confirm you\u2019re not a bot. Use --cookies-from-browser or --cookies for the authentication"
GEO = "The uploader has not made this video available in your country"


def _errors() -> list[tuple[BaseException, Reason]]:
    """Errors as yt-dlp raises them, by its own classes and in the words of its extractors."""
    from yt_dlp.networking.exceptions import CertificateVerifyError, IncompleteRead, TransportError
    from yt_dlp.utils import ContentTooShortError, ExtractorError, GeoRestrictedError, UnsupportedError, UserNotLive

    def said(text: str, cause: BaseException | None = None) -> ExtractorError:
        return ExtractorError(text, expected=True, cause=cause, video_id="x", ie="youtube")

    def cut(cause: BaseException) -> TransportError:
        return TransportError(str(cause), cause=cause)

    refused = cut(AddressRefused("10.0.0.1 is not public"))
    return [
        (said(PRIVATE), Reason.SITE_PRIVATE),
        (said(BOT), Reason.SITE_RATE_LIMITED),
        (
            said("This content isn't available, try again later. Your account has been rate-limited"),
            Reason.SITE_RATE_LIMITED,
        ),
        (said("Sign in to confirm your age"), Reason.SITE_LOGIN),
        (said("This video is only available for registered users. Use --username"), Reason.SITE_LOGIN),
        (said("Join this channel to get access to members-only content"), Reason.SITE_LOGIN),
        (said("Video unavailable. This video has been removed by the uploader"), Reason.SITE_UNAVAILABLE),
        (said("The channel is not currently live"), Reason.SITE_UNAVAILABLE),
        (said("Requested format is not available. Use --list-formats for a list"), Reason.SITE_FORMAT),
        (said("This video is DRM protected"), Reason.SITE_FORMAT),
        (said(GEO), Reason.SITE_GEO),
        (GeoRestrictedError("Nothing here", countries=["DE"]), Reason.SITE_GEO),
        (UnsupportedError("https://example.com/"), Reason.SITE_UNAVAILABLE),
        (UserNotLive(video_id="x"), Reason.SITE_UNAVAILABLE),
        (said("Unable to download webpage", cut(socket.gaierror(-2, "Name or service not known"))), Reason.DNS),
        (said("Unable to download webpage", cut(TimeoutError("timed out"))), Reason.TIMEOUT),
        (said("Unable to download webpage", cut(ConnectionRefusedError(111, "refused"))), Reason.CONNECT),
        (said("Unable to download webpage", cut(ConnectionResetError(104, "reset"))), Reason.RESET),
        (said("Unable to download webpage", TransportError("no route")), Reason.CONNECT),
        (said("Unable to download webpage", CertificateVerifyError("expired")), Reason.TLS),
        (said("Unable to download webpage", IncompleteRead(10, 20)), Reason.TRUNCATED_BODY),
        (ContentTooShortError(10, 20), Reason.TRUNCATED_BODY),
        (said("Unable to download webpage", refused), Reason.ADDRESS),
        (TooLarge("5 bytes, allowed 4"), Reason.TOO_LARGE),
        (said("[download] Got error: HTTPConnection(host='private.example', port=80): timed out"), Reason.TIMEOUT),
        (said("[download] Got error: 1000 bytes read, 64 more expected"), Reason.TRUNCATED_BODY),
        (ExtractorError("Unable to extract title"), Reason.PROTOCOL),
        (said("Some new words"), Reason.SITE_UNAVAILABLE),
    ]


@pytest.mark.parametrize("number", range(28))
def test_an_error_of_yt_dlp_has_its_reason_also_inside_a_download_error(number: int) -> None:
    from yt_dlp.utils import DownloadError

    assert len(_errors()) == 28
    error, reason = _errors()[number]
    assert reason_of(error)[0] is reason
    assert reason_of(DownloadError(f"ERROR: {error}", (type(error), error, None)))[0] is reason
    assert reason.status is (Status.DROPPED if reason is Reason.ADDRESS else Status.FAILED)


def test_the_detail_says_what_the_site_said_without_advice() -> None:
    from yt_dlp.utils import ExtractorError

    _, detail, code = reason_of(ExtractorError("Unable to extract title", video_id="x", ie="vimeo"))
    assert (detail, code) == ("[vimeo] x: Unable to extract title", None)


@pytest.mark.parametrize(
    ("url", "is_one"),
    [
        ("https://www.youtube.com/watch?v=BaW_jenozKc", True),
        ("https://youtu.be/BaW_jenozKc", True),
        ("https://vimeo.com/22439234", True),
        ("https://i.imgur.com/A61SaA1.jpg", False),
        ("https://upload.wikimedia.org/film.webm", False),
        ("https://example.com/pictures/1", False),
        ("ftp://youtube.com/watch?v=BaW_jenozKc", False),
        ("no link", False),
        ("http://[", False),
    ],
)
def test_a_page_of_a_known_site_is_a_site_link_and_a_file_is_not(url: str, is_one: bool) -> None:
    assert is_site_link(url) is is_one


def test_site_links_go_through_yt_dlp_only_where_that_is_on(site: Site) -> None:
    """The site's host leads to our server, which speaks no TLS: the reason shows who tried."""
    links = [Link("page", "https://www.youtube.com/watch?v=BaW_jenozKc"), Link("film", f"http://{HOST}{FILM}")]
    mapped = {HOST: f"127.0.0.2:{site.port}", "www.youtube.com": f"127.0.0.2:{site.port}"}
    seen = {}
    for sites in (False, True):
        options = zoo_options(site, connect_to=mapped, ports=[80, 443], sites=sites)
        results = {each.key: each for each in fetch_all(links, options)}
        assert results["film"].reason is Reason.OK
        seen[sites] = results["page"]
    assert seen[False].reason is Reason.TLS
    assert "[youtube]" not in seen[False].detail
    assert "[youtube] BaW_jenozKc" in seen[True].detail


def test_without_yt_dlp_it_is_said_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"fetch\.sites: needs yt-dlp, .* pip install 'mmdata\[sites\]'"):
        fetch_all([], zoo_options(site, sites=True))


def test_the_child_starts_no_program_and_connects_to_no_local_socket() -> None:
    settings = {"networks": [], "forbidden_ports": [], "ports": [80], "connect_to": {}, "proxy": ""}
    code = (
        "import json, socket, subprocess, os, sys\n"
        "from mmdata.fetch.sites_child import guard\n"
        f"guard(json.loads({json.dumps(settings)!r}))\n"
        "tries = [lambda: subprocess.run(['true']), lambda: os.system('true'),\n"
        "  lambda: os.posix_spawn('/bin/true', ['true'], {}), lambda: socket.socket(socket.AF_UNIX).connect('/x'),\n"
        "  lambda: socket.create_connection(('127.0.0.1', 80)),\n"
        "  lambda: socket.create_connection(('93.184.216.34', 25))]\n"
        "for number, attempt in enumerate(tries):\n"
        "    try: attempt()\n"
        "    except OSError as error: print(number, type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2", "3", "4", "5"], done.stderr
    assert all("no other program" in line for line in lines[:3])
    assert "is no address of the internet" in lines[3]
    assert "not public" in lines[4]
    assert "port 25 is not in fetch.ports" in lines[5]
