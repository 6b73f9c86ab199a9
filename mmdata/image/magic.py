"""What bytes are, by their first bytes; file names and HTTP headers are not asked."""

from __future__ import annotations

from mmdata.errors import Reason, SampleError

READABLE = ("jpg", "png", "webp", "gif")  # what is decoded at all

_STARTS = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"BM": "bmp",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
    b"II+\x00": "tiff",
    b"MM\x00+": "tiff",
    b"8BPS": "psd",
    b"%PDF": "pdf",
    b"%!PS": "eps",
    b"\x00\x00\x01\x00": "ico",
    b"\xff\x0a": "jxl",
    b"\x00\x00\x00\x0cJXL ": "jxl",
    b"\x00\x00\x00\x0cjP  ": "jp2",
    b"\xff\x4f\xff\x51": "jp2",
    b"\x76\x2f\x31\x01": "exr",
    b"#?RADIANCE": "hdr",
    b"SIMPLE  =": "fits",
    b"qoif": "qoi",
}
_PICTURE_BRANDS = {b"avif": "avif", b"avis": "avif", b"heic": "heic", b"heix": "heic", b"mif1": "heic", b"msf1": "heic"}


def sniff(data: bytes) -> str | None:
    """Short name of the kind of picture or document (`jpg`, `png`, `tiff`, ...), or None where it is neither."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        return _PICTURE_BRANDS.get(data[8:12])
    for start, kind in _STARTS.items():
        if data.startswith(start):
            return kind
    return "svg" if _is_svg(data[:2048].removeprefix(b"\xef\xbb\xbf").lstrip().lower()) else None


def _is_svg(start: bytes) -> bool:
    """An HTML page that holds a drawing is none itself."""
    return (
        start.startswith((b"<svg", b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in start and b"<html" not in start
    )


def readable_kind(data: bytes) -> str:
    """One of READABLE. Raises SampleError: UNSUPPORTED for other pictures, TYPE_MISMATCH for anything else."""
    kind = sniff(data)
    if kind is None:
        raise SampleError(Reason.TYPE_MISMATCH, f"no picture: begins with {data[:16]!r}")
    if kind not in READABLE:
        raise SampleError(Reason.UNSUPPORTED, f"{kind}; readable are {', '.join(READABLE)}")
    return kind
