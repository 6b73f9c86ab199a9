"""What this machine has and lacks for mmdata."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from mmdata.score.devices import gpu_names

MIN_PYTHON = (3, 10)
MIN_FREE_GB = 10
MIN_RAY = (2, 52)  # older releases let any web page run jobs on a cluster (CVE-2025-62593)
DASHBOARD_PORT = 8265
PACKAGES = {
    "ray": "ray",
    "pyarrow": "pyarrow",
    "duckdb": "duckdb",
    "pycurl": "pycurl",
    "cv2": "opencv-python-headless",
    "simplejpeg": "simplejpeg",
    "torch": "torch",
    "open_clip": "open_clip_torch",
}
OPTIONAL = {"img2dataset": "fetch.engine: img2dataset", "s3fs": "s3:// paths"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    ok: bool
    what: str
    detail: str


def findings() -> Iterator[Finding]:
    """Everything looked at, in order; imports the heavy packages, so it takes some seconds."""
    yield Finding(sys.version_info >= MIN_PYTHON, "python", f"{sys.version.split()[0]} (3.10 or newer is needed)")
    for module, package in PACKAGES.items():
        yield _package(module, package)
    for package, use in OPTIONAL.items():
        found = _version(package)
        yield Finding(True, package, found or f"not installed; needed only for {use}")
    ray = _version("ray")
    if ray is not None:
        yield Finding(tuple(int(n) for n in ray.split(".")[:2]) >= MIN_RAY, "ray is safe", f"{ray}, 2.52 or newer is")
    yield _dashboard()
    free_gb = shutil.disk_usage(".").free >> 30
    yield Finding(free_gb >= MIN_FREE_GB, "free disk here", f"{free_gb} GB ({MIN_FREE_GB} GB is little enough)")
    yield Finding(True, "processors", f"{os.cpu_count()}")
    yield _gpu()


def _package(module: str, package: str) -> Finding:
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken native library raises whatever it likes; the doctor must go on
        return Finding(False, package, f"cannot be imported: {type(error).__name__}: {error}; pip install {package}")
    return Finding(True, package, _version(package) or "installed")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _dashboard() -> Finding:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        is_open = probe.connect_ex(("127.0.0.1", DASHBOARD_PORT)) == 0
    if is_open and os.environ.get("RAY_AUTH_MODE") != "token":
        detail = f"open on port {DASHBOARD_PORT} without RAY_AUTH_MODE=token: it runs jobs for anyone"
        return Finding(False, "ray dashboard", detail)
    return Finding(True, "ray dashboard", "not open here" if not is_open else "open, with tokens")


def _gpu() -> Finding:
    try:
        names = gpu_names()
    except ImportError:
        return Finding(False, "gpu", "torch is not installed")
    return Finding(True, "gpu", ", ".join(names) or "none; scoring runs on processors")
