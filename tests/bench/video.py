"""Frames of long-GOP clips: the stage against a bare decord loop and against one FFmpeg process a clip.

Paired: every round does the same work in each way, on one core: the same frames (uniform: 5), resized alike to 256 px
and written as JPEGs of the same quality; FFmpeg with its own scaler and encoder. Medians of five rounds.
"""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from mmdata.media.ffmpeg import executable
from mmdata.media.geometry import plan
from mmdata.media.resample import resample
from mmdata.media.write import write
from mmdata.sample import Sample
from mmdata.video.probe_video import ProbeVideo
from mmdata.video.sample_frames import SampleFrames
from tests.bench.table import Row
from tests.media.ffmpeg_made import make

REAL = Path(__file__).parents[3] / "shared" / "data" / "video"
NAMES = ("car-detection.mp4", "bottle-detection.mp4", "one-by-one-person-detection.mp4")
SECONDS, STARTS_S = 10, (0, 10)
FRAMES, SIDE_PX, QUALITY, ROUNDS = 5, 256, 90, 5
LONG_GOP = ["-an", "-c:v", "libx264", "-preset", "medium", "-g", "250", "-keyint_min", "250", "-sc_threshold", "0"]


def clips(folder: Path) -> list[bytes]:
    """Ten-second clips with a key frame every 250 frames: of real films, or of FFmpeg's test pictures without them."""
    made = []
    if REAL.is_dir():
        sources = [
            ["-ss", str(start), "-t", str(SECONDS), "-i", str(REAL / name)] for name in NAMES for start in STARTS_S
        ]
    else:
        tests = ("testsrc2", "mandelbrot", "life=s=768x432:mold=10:ratio=0.1:death_color=#C83232")
        sources = [
            ["-f", "lavfi", "-t", str(SECONDS), "-i", name if "=" in name else f"{name}=s=768x432:r=25"]
            for name in tests
        ]
    for index, source in enumerate(sources):
        path = folder / f"{index}.mp4"
        made.append(path.read_bytes() if path.is_file() else make(path, *source, *LONG_GOP, "-pix_fmt", "yuv420p"))
    return made


def with_decord(data: bytes) -> list[bytes]:
    """The same frames by a bare decord loop."""
    import decord

    frames = decord.VideoReader(io.BytesIO(data), ctx=decord.cpu(0), num_threads=1)
    positions = [int((index + 0.5) / FRAMES * len(frames)) for index in range(FRAMES)]
    jpegs = []
    for image_HWC in frames.get_batch(positions).asnumpy():
        height, width, _ = image_HWC.shape
        size = plan(width, height, "keep_ratio", SIDE_PX, False)
        jpegs.append(write(resample(image_HWC, size.width, size.height, (width, height)), "jpg", QUALITY))
    return jpegs


def with_ffmpeg(path: Path, num_frames: int) -> bytes:
    """The same frames by an FFmpeg process of one thread, as a stream of JPEGs."""
    positions = [int((index + 0.5) / FRAMES * num_frames) for index in range(FRAMES)]
    wanted = "+".join(f"eq(n\\,{position})" for position in positions)
    scale = f"scale='if(gt(iw,ih),-2,{SIDE_PX})':'if(gt(iw,ih),{SIDE_PX},-2)'"
    command = [
        executable(),
        "-nostdin",
        "-v",
        "error",
        "-threads",
        "1",
        "-i",
        str(path),
        "-vf",
        f"select={wanted},{scale}",
    ]
    command += ["-fps_mode", "passthrough", "-frames:v", str(FRAMES), "-q:v", "3", "-threads", "1", "-f", "mjpeg", "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def probed(data: list[bytes]) -> list[Sample]:
    samples = [Sample(f"bench-{row:012d}", {"raw": each}, {"modality": "video_text"}) for row, each in enumerate(data)]
    return ProbeVideo().process(samples)


def measure(folder: Path, rounds: int = ROUNDS) -> dict[str, float]:
    """Clips a second and core of each way, and ratios of each round's pair; medians."""
    data = clips(folder)
    paths = [folder / f"{index}.mp4" for index in range(len(data))]
    uniform, keys = SampleFrames(uniform=FRAMES, side_px=SIDE_PX, quality=QUALITY), SampleFrames(keyframes=True)
    uniform.setup()
    counts = [sample.columns["num_frames"] for sample in probed(data)]

    def staged(stage: SampleFrames) -> None:
        assert all(sample.is_ok for sample in stage.process([_copy(sample) for sample in samples]))

    samples = probed(data)
    works: dict[str, Callable[[], object]] = {
        "stage": lambda: staged(uniform),
        "decord": lambda: [with_decord(each) for each in data],
        "ffmpeg": lambda: [with_ffmpeg(path, count) for path, count in zip(paths, counts, strict=True)],
        "keyframes": lambda: staged(keys),
    }
    check(uniform.process([_copy(sample) for sample in samples]), [with_decord(each) for each in data])
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        spent: list[dict[str, float]] = []
        for number in range(rounds + 1):
            order = list(works) if number % 2 else list(works)[::-1]  # no way always comes after the same other
            spent.append({name: _seconds(works[name]) for name in order})
    finally:
        os.sched_setaffinity(0, cores)
    spent = spent[1:]  # the first one warms up
    found = {f"{name}_clips_per_s": len(data) / statistics.median(round_[name] for round_ in spent) for name in works}
    for name, against in (("stage", "decord"), ("stage", "ffmpeg"), ("keyframes", "stage")):
        found[f"{name}_to_{against}"] = statistics.median(round_[against] / round_[name] for round_ in spent)
    return found


def check(samples: list[Sample], bare: list[list[bytes]]) -> None:
    """The stage and the bare loop give the same JPEGs."""
    for sample, jpegs in zip(samples, bare, strict=True):
        assert [sample.parts[part] for part in sample.frame_parts] == jpegs, sample.key


def rows(folder: Path) -> list[Row]:
    """The rows of the README's table."""
    found = measure(folder)
    ours = f"{found['stage_clips_per_s']:.1f} clips/s"
    keys = f"{found['keyframes_clips_per_s']:.1f} clips/s"
    return [
        Row(
            "5 frames of long-GOP clips, one core",
            ours,
            f"decord {found['decord_clips_per_s']:.1f} clips/s",
            found["stage_to_decord"],
            0.9,
        ),
        Row("the same", ours, f"ffmpeg {found['ffmpeg_clips_per_s']:.1f} clips/s", found["stage_to_ffmpeg"], 1.5),
        Row("key frames of them", keys, f"uniform {ours}", found["keyframes_to_stage"], 5),
    ]


def _copy(sample: Sample) -> Sample:
    return Sample(sample.key, dict(sample.parts), dict(sample.columns))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
