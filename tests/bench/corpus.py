"""A corpus to race on: JPEGs of 0.66 MP and about 90 kB cut from real photographs, and nginx to serve them."""

from __future__ import annotations

import contextlib
import csv
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

PHOTOS = Path(__file__).parents[2] / "pipelines" / "demo" / "media" / "photos"
SIZES_PX = ((940, 705), (705, 940), (812, 812), (1000, 660))
KIND_420, KIND_444, KIND_GREY, KIND_PNG = "420", "444", "grey", "png"
QUALITY = 85


def build(folder: Path, number: int, kind: str = KIND_420) -> Path:
    """Write `number` pictures below `folder` unless they are there; returns the folder that holds them.

    Each is a random crop of one of the demo's photographs, scaled to 0.66 MP, flipped at random and given the noise of
    a sensor, so that its size is that of a photograph and not of an enlargement.
    """
    target = folder / f"{kind}-{number}"
    if len(list(target.glob("*"))) == number:
        return target
    target.mkdir(parents=True, exist_ok=True)
    read = (cv2.imread(str(path)) for path in sorted(PHOTOS.glob("*.jpg")))
    photos = [photo for photo in read if photo is not None and min(photo.shape[:2]) >= 300]
    rng = np.random.default_rng(17)
    noise_HWC = rng.normal(0, 3, (1200, 1200, 3)).astype(np.float32)
    for index in range(number):
        data = _encode(_picture(photos[index % len(photos)], SIZES_PX[index % len(SIZES_PX)], rng, noise_HWC), kind)
        (target / f"{index:06d}.{'png' if kind == KIND_PNG else 'jpg'}").write_bytes(data)
    return target


def _picture(
    photo_HWC: np.ndarray, size_px: tuple[int, int], rng: np.random.Generator, noise_HWC: np.ndarray
) -> np.ndarray:
    width, height = size_px
    scale = min(photo_HWC.shape[1] / width, photo_HWC.shape[0] / height) * rng.uniform(0.6, 1.0)
    crop_w, crop_h = int(width * scale), int(height * scale)
    left = int(rng.integers(0, photo_HWC.shape[1] - crop_w + 1))
    top = int(rng.integers(0, photo_HWC.shape[0] - crop_h + 1))
    crop = cv2.resize(photo_HWC[top : top + crop_h, left : left + crop_w], size_px, interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    y, x = int(rng.integers(0, 1200 - height + 1)), int(rng.integers(0, 1200 - width + 1))
    noisy: np.ndarray = np.clip(crop + noise_HWC[y : y + height, x : x + width], 0, 255).astype(np.uint8)
    return noisy


def _encode(picture_HWC: np.ndarray, kind: str) -> bytes:
    if kind == KIND_PNG:
        return cv2.imencode(".png", picture_HWC, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    if kind == KIND_GREY:
        picture_HWC = cv2.cvtColor(picture_HWC, cv2.COLOR_BGR2GRAY)
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if kind == KIND_444 else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    return cv2.imencode(".jpg", picture_HWC, options)[1].tobytes()


def write_table(path: Path, pictures: Path, base: str) -> None:
    """A CSV of url and caption for every picture of a folder."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["url", "caption"])
        for picture in sorted(pictures.iterdir()):
            writer.writerow([f"{base}/{picture.name}", f"picture {picture.stem}"])


@contextlib.contextmanager
def nginx(root: Path, folder: Path) -> Iterator[int]:
    """nginx serving `root` on 127.0.0.1 while the block runs; gives its port."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise SystemExit("the race needs nginx to serve pictures: install it (on Debian: apt-get install nginx-light)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(
        f"worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log off; sendfile on; keepalive_requests 100000; types {{ image/jpeg jpg; image/png png; }}\n"
        f"  server {{ listen 127.0.0.1:{port} backlog=4096; root {root.absolute()}; }} }}\n"
    )
    server = subprocess.Popen([program, "-c", str(config.absolute()), "-p", str(folder.absolute())])
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(10)
