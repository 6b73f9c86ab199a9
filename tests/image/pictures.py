"""Pictures made by code, and files of every kind with everything in them that the web puts there."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms

CANARY = b"CANARY-51.4778N-0.0015W"
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + CANARY + b"</x:xmpmeta>"


def photo(width: int = 320, height: int = 240, seed: int = 0) -> np.ndarray:
    """uint8 (height, width, 3): noise of every scale as photographs have it, a gradient, and a few hard edges."""
    rng = np.random.default_rng(seed)
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    falloff = 1 / np.maximum(np.hypot(down, across), 1 / max(width, height)) ** 1.2
    planes = []
    for strength in (1.0, 0.25, 0.25):  # brightness varies more than colour
        wave = rng.normal(size=falloff.shape) + 1j * rng.normal(size=falloff.shape)
        plane = np.fft.irfft2(wave * falloff, s=(height, width))
        planes.append(strength * plane / plane.std())
    grey, red, blue = planes
    image = 128 + 38 * np.stack([grey + red, grey - red / 2 - blue / 2, grey + blue], axis=-1)
    image += np.linspace(-30, 30, width)[None, :, None]
    for _ in range(4):
        left, top = rng.integers(0, width), rng.integers(0, height)
        image[top : top + height // 5, left : left + width // 6] += rng.normal(0, 40, 3)
    return np.clip(image, 0, 255).astype(np.uint8)


def encode(image: np.ndarray | Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """Bytes of an array or a Pillow picture; JPEG has quality 90 and 4:2:0 unless told."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if kind == "JPEG":
        options = {"quality": 90, "subsampling": 2} | options
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def load(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def rgb(data: bytes) -> np.ndarray:
    return np.asarray(load(data).convert("RGB"))


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Decibels; 8-bit pixels."""
    error = np.mean((image.astype(float) - reference.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def exif(orientation: int = 1, order: str = "<", text: bytes = b"") -> bytes:
    """An EXIF block, without the marker's `Exif` header, with an orientation and a text somewhere in it."""
    start = {"<": b"II*\x00", ">": b"MM\x00*"}[order] + struct.pack(f"{order}I", 8)
    described = struct.pack(f"{order}HHII", 0x010E, 2, len(text), 8 + 2 + 24 + 4)
    oriented = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return start + struct.pack(f"{order}H", 2) + described + oriented + bytes(4) + text


def with_exif(image: np.ndarray, orientation: int, kind: str = "JPEG", **options: Any) -> bytes:
    """A file whose stored pixels are turned so that `orientation` shows `image` upright."""
    turned = {1: (), 2: (0,), 3: (3,), 4: (1,), 5: (5,), 6: (2,), 7: (6,), 8: (4,)}[orientation]
    picture = Image.fromarray(image)
    for step in turned:
        picture = picture.transpose(Image.Transpose(step))
    return encode(picture, kind, exif=b"Exif\x00\x00" + exif(orientation), **options)


def jpeg_with_everything(image: np.ndarray) -> bytes:
    """A JPEG with GPS, XMP, a comment, an EXIF thumbnail, a maker's segment, an ICC profile and a trailing ZIP."""
    plain = encode(image, icc_profile=swapped_profile())
    thumbnail = encode(image[::8, ::8], comment=CANARY)
    segments = [
        (0xE1, b"Exif\x00\x00" + exif(text=CANARY + thumbnail[:2000])),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\x00" + XMP),
        (0xED, b"Photoshop 3.0\x00" + CANARY),
        (0xE0, b"JFXX\x00\x10" + CANARY),
        (0xFE, CANARY),
    ]
    extra = b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments)
    first = 4 + int.from_bytes(plain[4:6], "big")  # JFIF stays first
    return plain[:first] + extra + plain[first:] + b"PK\x03\x04" + CANARY


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG from raw rows (each after its filter byte 0), with extra chunks before the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    parts = [b"\x89PNG\r\n\x1a\n", header, *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"".join(parts)


def png_16_bit(image_16: np.ndarray) -> bytes:
    """A 16-bit PNG of uint16 (H, W) grey or (H, W, 3) RGB."""
    height, width = image_16.shape[:2]
    rows = image_16.astype(">u2").reshape(height, -1)
    raw = b"".join(b"\x00" + row.tobytes() for row in rows)
    return png(width, height, 16, 2 if image_16.ndim == 3 else 0, raw)


def png_with_everything(image: np.ndarray) -> bytes:
    plain = encode(image, "PNG")
    text = chunk(b"tEXt", b"Comment\x00" + CANARY) + chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + XMP)
    return plain[:33] + text + chunk(b"eXIf", exif(text=CANARY)) + chunk(b"prVt", CANARY) + plain[33:] + CANARY


def png_bomb(side: int = 14_000) -> bytes:
    """Some 25 kB that would take 196 megapixels of memory."""
    squeeze = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    body = b"".join(squeeze.compress(row) for _ in range(side)) + squeeze.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def webp_with_everything(image: np.ndarray) -> bytes:
    return encode(image, "WEBP", lossless=True, exif=b"Exif\x00\x00" + exif(text=CANARY), xmp=XMP) + CANARY


def animation(kind: str, num_frames: int = 3, width: int = 64, height: int = 48) -> bytes:
    """An animated GIF, PNG or WebP whose first frame is red, and the others blue."""
    frames = [Image.new("RGB", (width, height), (255, 0, 0))]
    frames += [Image.new("RGB", (width, height), (0, 0, 255 - i)) for i in range(num_frames - 1)]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    return encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **options)


def swapped_profile() -> bytes:
    """An ICC profile of a space whose red is our green: sRGB with two of its primaries exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {}
    for entry in range(int.from_bytes(profile[128:132], "big")):
        at = 132 + 12 * entry
        tags[bytes(profile[at : at + 4])] = at
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile)


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
