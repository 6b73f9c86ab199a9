"""The race for images: the whole command against img2dataset's; same links, server, sizes and processes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import cv2
import numpy as np
import yaml
from PIL import Image

from tests.bench import corpus
from tests.bench.table import Row
from tests.run.world import command, environment

SIDE_PX = 256
QUALITY = 95
PROCESSES = 2
ROUNDS = 5
FIDELITY_PICTURES = 60


def race(folder: Path, pictures: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Medians over paired rounds: images/s of both, the ratio without and with the engine's start."""
    source = corpus.build(folder, pictures)
    with corpus.nginx(source, folder) as port:
        table = folder / f"links-{pictures}.csv"
        corpus.write_table(table, source, "http://media.example")
        direct = folder / f"direct-{pictures}.csv"
        corpus.write_table(direct, source, f"http://127.0.0.1:{port}")
        pipeline = _pipeline(folder, table, port, pictures)
        pairs = []
        for number in range(rounds):
            # Turns change, so that a machine that slows down favours neither.
            if number % 2:
                ours_s, start_s = _ours(folder, pipeline, number)
                peer_s = _img2dataset(folder, direct, pictures, number)
            else:
                peer_s = _img2dataset(folder, direct, pictures, number)
                ours_s, start_s = _ours(folder, pipeline, number)
            pairs.append((pictures / (ours_s - start_s), pictures / ours_s, pictures / peer_s))
            ours, with_start, peer = pairs[-1]
            print(
                f"  round {number + 1}: {ours:.0f} ({with_start:.0f} with Ray's start) : {peer:.0f} images/s",
                flush=True,
            )
    return {
        "ours": statistics.median(pair[0] for pair in pairs),
        "ours_with_start": statistics.median(pair[1] for pair in pairs),
        "peer": statistics.median(pair[2] for pair in pairs),
        "ratio": statistics.median(pair[0] / pair[2] for pair in pairs),
        "ratio_with_start": statistics.median(pair[1] / pair[2] for pair in pairs),
    }


def _pipeline(folder: Path, table: Path, port: int, pictures: int) -> Path:
    tree = {
        "name": f"race-{pictures}",
        "sources": {"web": {"kind": "url_table", "path": table.name}},
        "plan": {"rows_per_shard": max(500, pictures // 6)},
        "fetch": {
            "allow_networks": ["127.0.0.0/8"],
            "connect_to": {"media.example": f"127.0.0.1:{port}"},
            "per_host": 32,
        },
        "stages": [{"decode_image": {"side_px": SIDE_PX, "resize": "keep_ratio", "format": "jpg", "quality": QUALITY}}],
        "emit": {"samples_per_shard": 1000, "formats": ["webdataset"], "val_share": 0.0},
        "run": {"workers": PROCESSES},
    }
    path = folder / f"race-{pictures}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def _ours(folder: Path, pipeline: Path, number: int) -> tuple[float, float]:
    """Seconds of the whole command, and of those the seconds that Ray took to start."""
    run, dataset = folder / "runs" / f"{pipeline.stem}-{number}", folder / "ours" / f"{pipeline.stem}-{number}"
    subprocess.run(["rm", "-rf", str(run), str(dataset)], check=True)
    start = time.perf_counter()
    subprocess.run(
        command("run", str(pipeline), "--run", str(run), "--dataset", str(dataset)),
        cwd=folder,
        env=environment(),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    took = time.perf_counter() - start
    status = json.loads((run / "status.json").read_text())
    return took, float(status["engine_start_s"])


def _img2dataset(folder: Path, table: Path, pictures: int, number: int) -> float:
    output = folder / "peer" / f"{pictures}-{number}"
    subprocess.run(["rm", "-rf", str(output)], check=True)
    program = str(Path(sys.executable).parent / "img2dataset")
    words = {
        "url_list": table, "input_format": "csv", "url_col": "url", "caption_col": "caption",
        "output_format": "webdataset", "output_folder": output, "image_size": SIDE_PX, "resize_mode": "keep_ratio",
        "encode_quality": QUALITY, "processes_count": PROCESSES, "thread_count": 32,
        "number_sample_per_shard": 500 if pictures <= 3000 else 1000, "enable_wandb": False,
    }  # fmt: skip
    start = time.perf_counter()
    subprocess.run(
        [program, *(f"--{name}={value}" for name, value in words.items())],
        cwd=folder,
        env=environment() | {"NO_ALBUMENTATIONS_UPDATE": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def fidelity(folder: Path, kind: str) -> dict[str, float]:
    """Mean PSNR in dB of what both write, against a Lanczos reduction by Pillow, for one kind of input."""
    source = corpus.build(folder, FIDELITY_PICTURES, kind)
    with corpus.nginx(source, folder) as port:
        table, direct = folder / f"links-{kind}.csv", folder / f"direct-{kind}.csv"
        corpus.write_table(table, source, "http://media.example")
        corpus.write_table(direct, source, f"http://127.0.0.1:{port}")
        pipeline = _pipeline(folder, table, port, FIDELITY_PICTURES)
        _ours(folder, pipeline, 0)
        _img2dataset(folder, direct, FIDELITY_PICTURES, 0)
    references = {path.stem: _reference_HWC(path) for path in source.iterdir()}
    ours = _written(folder / "ours" / f"{pipeline.stem}-0" / "image_text" / "train")
    theirs = _written(folder / "peer" / f"{FIDELITY_PICTURES}-0")
    return {
        name: float(
            np.mean([_psnr(references[caption.removeprefix("picture ")], data) for caption, data in written.items()])
        )
        for name, written in (("ours", ours), ("peer", theirs))
    }


def _written(folder: Path) -> dict[str, bytes]:
    """Pictures of all tars of a folder by caption, whoever wrote them."""
    parts: dict[str, dict[str, bytes]] = {}
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, part = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                parts.setdefault(f"{shard.name}/{key}", {})[part] = file.read()
    written = {sample["txt"].decode(): sample["jpg"] for sample in parts.values()}
    assert len(written) == FIDELITY_PICTURES, f"{folder}: {len(written)} pictures"
    return written


def _reference_HWC(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        rgb = picture.convert("RGB")
        scale = SIDE_PX / min(rgb.size)
        size = tuple(round(side * scale) for side in rgb.size)
        return np.asarray(rgb.resize(size, Image.Resampling.LANCZOS))  # type: ignore[arg-type]


def _psnr(reference_HWC: np.ndarray, data: bytes) -> float:
    read_HWC = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert read_HWC is not None, "what was written does not decode"
    written_HWC = cv2.cvtColor(read_HWC, cv2.COLOR_BGR2RGB)
    if written_HWC.shape != reference_HWC.shape:
        raise AssertionError(f"written as {written_HWC.shape}, expected {reference_HWC.shape}")
    error = np.mean((written_HWC.astype(np.float64) - reference_HWC) ** 2)
    return float(10 * np.log10(255**2 / error))


def rows(folder: Path) -> list[Row]:
    """3,000 pictures, with and without Ray's start, and the fidelity of what was written."""
    result = race(folder, 3000)
    peer = f"img2dataset {result['peer']:.0f} images/s"
    found = [
        Row(
            "3,000 JPEGs of 0.66 MP to 256 px, links to shards",
            f"{result['ours']:.0f} images/s",
            peer,
            result["ratio"],
            3.3,
        ),
        Row(
            "the same, Ray's start counted",
            f"{result['ours_with_start']:.0f} images/s",
            peer,
            result["ratio_with_start"],
        ),
    ]
    for kind in (corpus.KIND_420, corpus.KIND_444, corpus.KIND_GREY, corpus.KIND_PNG):
        mean = fidelity(folder, kind)
        ours, theirs = f"{mean['ours']:.2f} dB", f"img2dataset {mean['peer']:.2f} dB"
        found.append(Row(f"fidelity of the written file, {kind} input", ours, theirs, mean["ours"] / mean["peer"], 1.0))
    return found


def large_rows(folder: Path) -> list[Row]:
    """12,000 pictures; three rounds, since each takes minutes."""
    result = race(folder, 12_000, rounds=3)
    peer = f"img2dataset {result['peer']:.0f} images/s"
    return [Row("12,000 JPEGs, Ray's start not counted", f"{result['ours']:.0f} images/s", peer, result["ratio"], 3.3)]
