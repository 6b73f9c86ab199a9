"""The planted rows: what the web does to a crawler, and sound pictures in unusual coats. Used by `build.py` only."""

from __future__ import annotations

import hashlib
import io
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

HOST = "http://media.example"
FOLDER = "planted"


@dataclass
class Base:
    """A picture to plant something in: its name in the package, caption, Chinese name and where it is."""

    caption: str
    name_zh: str
    path: Path

    def rgba(self) -> Image.Image:
        return Image.open(self.path).convert("RGBA")

    def rgb(self, size: int = 256) -> Image.Image:
        white = Image.new("RGBA", (256, 256), (255, 255, 255, 255))
        white.alpha_composite(self.rgba().resize((256, 256)))
        return white.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)


@dataclass
class Planted:
    """What becomes files, rows and server behaviours."""

    media: Path
    bases: Iterator[Base]
    rows: list[dict[str, Any]] = field(default_factory=list)
    behaviours: dict[str, dict[str, Any]] = field(default_factory=dict)
    blocked: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)  # files without a picture of others in them

    def row(
        self,
        url: str,
        planted: str,
        reason: str,
        base: Base | None = None,
        caption: str = "",
        sha256: str | None = None,
    ) -> None:
        """One row; `url` is a path on the demo's host, or a whole URL."""
        base = base or next(self.bases)
        self.rows.append(
            {
                "URL": f"{HOST}{url}" if url.startswith("/") else url,
                "TEXT": caption or base.caption,
                "sha256": sha256,
                "name_zh": base.name_zh,
                "license": "CC0-1.0" if url.lstrip("/") in self.made else "MIT",
                "planted": planted,
                "expected_reason": reason,
            }
        )

    def file(self, name: str, content: bytes, planted: str, reason: str, base: Base | None = None, **more: Any) -> str:
        """A file under media/planted and its row; its path on the host."""
        target = self.media / FOLDER / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        if base is None:
            self.made.append(f"{FOLDER}/{name}")
            base = next(self.bases)
        self.row(f"/{FOLDER}/{name}", planted, reason, base, **more)
        return f"/{FOLDER}/{name}"

    def behave(self, name: str, planted: str, reason: str, base: Base | None = None, **behaviour: Any) -> None:
        """A behaviour of the server and its row."""
        self.behaviours[f"/{name}"] = behaviour
        self.row(f"/{name}", planted, reason, base)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of a picture in a format of Pillow."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def plant_network(to: Planted) -> None:
    """Addresses that must not be connected to, and servers that fail, stall or lie."""
    urls = {
        "blocked.address": (
            "http://10.20.30.40/a.jpg",
            "http://192.168.1.1/b.jpg",
            "http://169.254.169.254/latest/meta-data/iam.jpg",
            "http://[fd00::1]/c.jpg",
        ),
        "blocked.scheme": ("ftp://media.example/d.jpg", "file:///etc/hostname"),
        "blocked.bad_url": ("not a link at all", "http:///no-host.jpg", "http://media.example:99999/e.jpg"),
    }
    for reason, group in urls.items():
        for url in group:
            to.row(url, {"blocked.address": "private_address"}.get(reason, reason.partition(".")[2]), reason)
    for number in range(24):
        to.row(f"/dead/{number:02}.jpg", "dead_link", "fetch.http_4xx")
    for number in range(4):
        to.behave(f"gone/{number}.jpg", "gone", "fetch.gone", kind="status", status=410)
    loop = "loop/start.jpg"
    to.behave(loop, "redirect_loop", "fetch.redirect_loop", kind="redirect", to="/loop/back.jpg")
    to.behaviours["/loop/back.jpg"] = {"kind": "redirect", "to": f"/{loop}"}
    to.behave("loop/self.jpg", "redirect_loop", "fetch.redirect_loop", kind="redirect", to="/loop/self.jpg")
    for number, target in enumerate(("http://169.254.169.254/latest/meta-data/", "http://10.0.0.8:8080/admin.jpg")):
        to.behave(f"away/{number}.jpg", "redirect_to_private", "blocked.redirect", kind="redirect", to=target)
    wait = {"Retry-After": "1"}
    to.behave("busy/ever.jpg", "rate_limited", "fetch.rate_limited", kind="status", status=429, headers=wait)
    to.behave("down/ever.jpg", "server_error", "fetch.http_5xx", kind="status", status=503)
    to.behave("down/500.jpg", "server_error", "fetch.http_5xx", kind="status", status=500)
    to.behave("empty/0.jpg", "empty_body", "fetch.empty", kind="empty")
    to.behave("empty/1.jpg", "empty_body", "fetch.empty", kind="empty")
    to.behave("reset/0.jpg", "connection_reset", "fetch.reset", kind="reset")
    to.behave("silent/0.jpg", "silent_server", "fetch.timeout", kind="silence")
    to.behave("large/0.jpg", "too_large", "fetch.too_large", kind="endless", megabytes=64)


def plant_on_files(to: Planted) -> None:
    """Behaviours of the server that need a sound file behind them."""
    wait = {"Retry-After": "1"}
    spare = (
        "busy/once.webp",
        "down/once.webp",
        "moved/once.webp",
        "moved/twice.webp",
        "type/octets",
        "named/%E5%9B%BE.webp",
    )
    for name in (*spare, "slow/drip.webp", "short/0.webp", "short/1.webp"):
        base = next(to.bases)
        file = f"{FOLDER}/behind-{len(to.behaviours):03}.webp"
        (to.media / file).parent.mkdir(parents=True, exist_ok=True)
        (to.media / file).write_bytes(base.path.read_bytes())
        if name == "busy/once.webp":
            to.behave(name, "retry_after", "ok", base, kind="status", status=429, times=1, headers=wait, file=file)
        elif name == "down/once.webp":
            to.behave(name, "error_once", "ok", base, kind="status", status=503, times=1, file=file)
        elif name == "moved/once.webp":
            to.behave(name, "redirect", "ok", base, kind="redirect", to=f"/{file}")
        elif name == "moved/twice.webp":
            to.behave(name, "redirect", "ok", base, kind="redirect", to="/moved/on.webp")
            to.behaviours["/moved/on.webp"] = {"kind": "redirect", "to": f"{HOST}/{file}"}
        elif name == "type/octets":
            to.behave(name, "octet_stream", "ok", base, kind="file", file=file, type="application/octet-stream")
        elif name.startswith("named/"):
            to.behaviours["/named/\u56fe.webp"] = {"kind": "file", "file": file}
            to.row(f"/{name}", "escaped_url", "ok", base)
        elif name == "slow/drip.webp":
            to.behave(name, "slow_drip", "fetch.too_slow", base, kind="drip", bytes_per_s=100, file=file)
        else:
            to.behave(name, "short_body", "fetch.truncated_body", base, kind="short", file=file)
    tags = ("noai", "noimageai, noindex", "mmdata: noai", "otherbot: noindex")
    for number, tag in enumerate(tags):
        base = next(to.bases)
        path = to.file(f"optout-{number}.webp", base.path.read_bytes(), "optout", "policy.optout_header", base)
        to.behaviours[path] = {"kind": "file", "file": path[1:], "headers": {"X-Robots-Tag": tag}}
        if tag.startswith("otherbot"):
            # A wish to somebody else's crawler does not bind ours.
            to.rows[-1].update(planted="optout_other_bot", expected_reason="ok")


def plant_broken(to: Planted, rng: random.Random) -> None:
    """Bytes that are no picture, no whole picture, or no picture that anybody wants."""
    for number, share in enumerate((0.3, 0.5, 0.7, 0.9)):
        base = next(to.bases)
        whole = encoded(base.rgb(320), "JPEG", quality=92, progressive=number % 2 == 1)
        name = f"truncated-{number}.jpg"
        to.file(name, whole[: int(len(whole) * share)], "truncated_jpeg", "decode.truncated", base)
    page = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><p>Please sign in ({}).</p></body></html>\n"
    for number in range(3):
        name = f"page-{number}.jpg"
        to.file(name, page.format(number).encode() * 3, "html_as_jpeg", "content.type_mismatch")
    noise = bytes(rng.randrange(255) for _ in range(6000))  # no 0xff: nothing in it is a JPEG marker
    frame = bytes.fromhex("ffd8ffe000104a46494600010100000100010000")
    to.file("corrupt-0.jpg", frame + noise + b"\xff\xd9", "corrupt", "decode.corrupt")
    base = next(to.bases)
    broken = bytearray(encoded(base.rgb(), "PNG"))
    data = broken.index(b"IDAT") + 4
    broken[data : data + 400] = noise[:400]
    to.file("corrupt-1.png", bytes(broken), "corrupt", "decode.corrupt", base)
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" width="256" height="256"><circle r="99"/></svg>\n'
    drawing = '<?xml version="1.0" encoding="UTF-8"?>\n' + drawing
    to.file("drawing.svg", drawing.encode(), "svg", "content.unsupported")
    heic = bytes.fromhex("00000018") + b"ftypheic\0\0\0\0mif1heic" + noise[:900]
    to.file("photo.heic", heic, "heic", "content.unsupported")
    Image.MAX_IMAGE_PIXELS = None
    bomb = encoded(Image.new("1", (20000, 20000)), "PNG", optimize=True)
    to.file("bomb.png", bomb, "pixel_bomb", "decode.too_many_pixels")
    for number, size in enumerate((16, 32, 48)):
        base = next(to.bases)
        to.file(f"small-{number}.png", encoded(base.rgb(size), "PNG"), "too_small", "filtered.too_small", base)
    for number, shape in enumerate(((900, 90), (100, 800))):
        base = next(to.bases)
        banner = ImageOps.pad(base.rgb(), shape, color=(255, 255, 255))
        to.file(f"banner-{number}.jpg", encoded(banner, "JPEG", quality=90), "banner", "filtered.aspect", base)


def plant_policy(to: Planted) -> None:
    """Hashes: of the table against the bytes, and of the list of what nobody may keep."""
    for number in range(3):
        base = next(to.bases)
        wrong = sha256_of(f"not these bytes {number}".encode())
        name, content = f"changed-{number}.webp", base.path.read_bytes()
        to.file(name, content, "hash_mismatch", "content.hash_mismatch", base, sha256=wrong)
    for number in range(3):
        base = next(to.bases)
        name, content = f"blocked-{number}.webp", base.path.read_bytes()
        digest = sha256_of(content)
        to.file(name, content, "blocked_hash", "policy.hash_blocklist", base, sha256=digest)
        to.blocked.append(digest)


def plant_unusual(to: Planted) -> None:
    """Sound pictures in unusual coats; all must come out."""
    turned = itertools.count()
    for orientation in (3, 6, 8):
        base = next(to.bases)
        exif = Image.Exif()
        exif[0x0112] = orientation
        undo = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
        # Two wide pictures side by side would be too easy to get right: the canvas is taller than wide.
        upright = ImageOps.pad(base.rgb(), (260, 320), color=(255, 255, 255))
        content = encoded(upright.transpose(undo), "JPEG", quality=92, exif=exif)
        to.file(f"turned-{next(turned)}.jpg", content, "exif_rotated", "ok", base)
    base = next(to.bases)
    gps = Image.Exif()
    gps[0x010F] = "Camera of nobody"
    gps.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.6), 3: "E", 4: (2.0, 17.0, 40.2)})
    to.file("gps.jpg", encoded(base.rgb(320), "JPEG", quality=92, exif=gps), "gps", "ok", base)
    for kind in ("cmyk", "grey", "progressive", "palette", "png16", "png16-grey", "gif", "webp", "png-named-jpg"):
        base = next(to.bases)
        name, content = _coat(kind, base)
        planted = {"gif": "animated", "webp": "animated", "png16-grey": "png16"}.get(kind, kind).replace("-", "_")
        path = to.file(name, content, planted, "ok", base)
        if kind == "png-named-jpg":
            to.behaviours[path] = {"kind": "file", "file": path[1:], "type": "image/jpeg"}
    base = next(to.bases)
    # Short, so that the markup does not outweigh the words for the encoder; what matters is that the report escapes it.
    script = f"<b>{base.caption}</b><script>x()</script> {base.caption}"
    to.file("markup.webp", base.path.read_bytes(), "markup_in_caption", "ok", base, caption=script)


def _coat(kind: str, base: Base) -> tuple[str, bytes]:
    if kind == "cmyk":
        return "cmyk.jpg", encoded(base.rgb(320).convert("CMYK"), "JPEG", quality=92)
    if kind == "grey":
        return "grey.jpg", encoded(base.rgb(320).convert("L"), "JPEG", quality=92)
    if kind == "progressive":
        return "progressive.jpg", encoded(base.rgb(320), "JPEG", quality=92, progressive=True)
    if kind == "palette":
        return "palette.png", encoded(base.rgba().quantize(128, method=Image.Quantize.FASTOCTREE), "PNG")
    if kind == "png-named-jpg":
        return "png-named.jpg", encoded(base.rgb(), "PNG")
    if kind in ("gif", "webp"):
        still = base.rgb()
        frames = [still, *(still.rotate(angle, fillcolor=(255, 255, 255)) for angle in (90, 180, 270))]
        options = {"save_all": True, "append_images": frames[1:], "duration": 120, "loop": 0}
        return f"animated.{kind}", encoded(frames[0], kind.upper(), **options)
    deep = np.asarray(base.rgb(), dtype=np.uint16)[..., ::-1] * 257
    if kind == "png16-grey":
        deep = deep.astype(np.float64).mean(2).astype(np.uint16)
    done, content = cv2.imencode(".png", deep)
    assert done
    return f"{kind}.png", content.tobytes()


def plant_copies(to: Planted, originals: list[tuple[str, Base]]) -> None:
    """The same bytes under a second URL, the same picture in other bytes, the same URL again.

    originals: right rows of the emoji tables. They stand in sources that are named before this one, so it is the copy
    that goes.
    """
    for number, (path, base) in enumerate(originals[:8]):
        name, reason = f"copies/{number}.webp", "filtered.duplicate_content"
        to.behave(name, "exact_duplicate", reason, base, kind="file", file=path)
    for number, (_path, base) in enumerate(originals[8:18]):
        size, quality = ((200, 80), (256, 70), (320, 90))[number % 3]
        content = encoded(base.rgb(size), "JPEG", quality=quality)
        to.file(f"near-{number}.jpg", content, "near_duplicate", "ok", base)
    for path, base in originals[18:21]:
        to.row(f"/{path}", "duplicate_url", "filtered.duplicate_url", base)
