"""A run as a job of a Ray cluster: a small working directory, the log followed, the truthful exit status."""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmdata
from mmdata.config import Pipeline, load
from mmdata.errors import ConfigError
from mmdata.ray_token import use_token
from mmdata.run.catalog import LOCAL_MODEL, named_files, resolve
from mmdata.run.pipeline import Places, default_places
from mmdata.shards.storage import is_remote
from mmdata.sources.inputs import expand_braces

POLL_S = 1.0
SILENCE_S = 60.0
MAX_MEGABYTES = 200
_NOT_CARRIED = shutil.ignore_patterns(".*", "__pycache__", "runs")
_EXIT_CODE = re.compile(r"exit code (\d+)")


def submit_job(path: str, overrides: Sequence[str], places: Places) -> int:
    """Submit, print the job's log as it comes, and return the exit code of the run on the cluster."""
    use_token()
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobStatus, JobSubmissionClient

    if not places.ray_address.startswith(("http://", "https://")):
        raise ConfigError(f"RAY_ADDRESS={places.ray_address}: a job needs the head's address, such as http://head:8265")
    pipeline = load(path, overrides)
    resolve(pipeline)
    try:
        client = JobSubmissionClient(places.ray_address)
    except (ConnectionError, RuntimeError, AuthenticationError) as error:
        reason = str(error).splitlines()[0][:120]
        raise ConfigError(f"RAY_ADDRESS={places.ray_address}: no Ray head answers there ({reason})") from None
    with tempfile.TemporaryDirectory(prefix="mmdata-job-") as folder:
        name = copy_allowed(pipeline, Path(folder))
        job = _submitted(client, _entrypoint(name, overrides, pipeline, places), folder)
    print(f"job {job} at {places.ray_address}")
    try:
        status = _follow(client, job)
    except SystemExit:
        client.stop_job(job)  # as a local run would, it ends with the command that started it
        raise
    if status == JobStatus.SUCCEEDED:
        return 0
    message = client.get_job_info(job).message or ""
    print(f"job {job}: {status.value.lower()}: {message.splitlines()[0] if message else 'no message'}")
    code = _EXIT_CODE.search(message)
    return int(code.group(1)) if code else 1


def _submitted(client: Any, entrypoint: str, folder: str) -> str:
    """Submit; a head that has just started has no agent for jobs yet, and is asked again for a minute."""
    deadline = time.monotonic() + SILENCE_S
    while True:
        try:
            return str(client.submit_job(entrypoint=entrypoint, runtime_env={"working_dir": folder}))
        except RuntimeError as error:
            if "No available agent" not in str(error):
                raise
            if time.monotonic() > deadline:
                raise ConfigError(f"the head has no agent that takes jobs ({str(error)[:120]}); see its logs") from None
        time.sleep(POLL_S)


def _follow(client: Any, job: str) -> Any:
    """Print the job's log as it comes; returns its last status."""
    printed = 0
    heard_s = time.monotonic()
    while True:
        try:
            status, logs = client.get_job_status(job), client.get_job_logs(job)
        except (ConnectionError, RuntimeError, OSError) as error:
            if time.monotonic() - heard_s > SILENCE_S:
                raise ConfigError(
                    f"job {job}: the head has not answered for {SILENCE_S:.0f} s ({str(error)[:120]}); the job itself "
                    f"goes on: ray job logs {job} --follow"
                ) from None
            time.sleep(POLL_S)
            continue
        heard_s = time.monotonic()
        print(logs[printed:], end="", flush=True)
        printed = len(logs)
        if status.is_terminal():
            return status
        time.sleep(POLL_S)


def _entrypoint(name: str, overrides: Sequence[str], pipeline: Pipeline, places: Places) -> str:
    full = default_places(pipeline, places)
    run, dataset = (p if is_remote(p) else str(Path(p).absolute()) for p in (full.run, full.dataset))
    words = [
        "python",
        "-m",
        "mmdata",
        "run",
        name,
        *overrides,
        "--run",
        run,
        "--dataset",
        dataset,
        "--ray-address",
        "auto",
    ]
    return shlex.join(words)


def copy_allowed(pipeline: Pipeline, folder: Path) -> str:
    """Copy what a job may carry: the package, the pipeline file and the files it names by relative path; nothing else.

    Returns the pipeline file's name below `folder`. Raises ConfigError where that is too large to carry.
    """
    package = Path(mmdata.__file__).parent
    shutil.copytree(package, folder / "mmdata", ignore=shutil.ignore_patterns("__pycache__"))
    target = folder / "pipeline" / pipeline.path.name
    target.parent.mkdir()
    shutil.copy(pipeline.path, target)
    for path in _relative_paths(pipeline):
        found = [source for each in expand_braces(path) for source in sorted(pipeline.folder.glob(each))]
        if not found:
            raise ConfigError(f"{pipeline.path}: {path}: no such file or folder beside the pipeline file")
        for source in found:
            inside = target.parent / source.relative_to(pipeline.folder)
            inside.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, inside, ignore=_NOT_CARRIED, dirs_exist_ok=True)
            else:
                shutil.copy(source, inside)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if size > MAX_MEGABYTES << 20:
        raise ConfigError(
            f"{pipeline.path}: the files it names by relative path have {size >> 20} MB, a job may "
            f"carry {MAX_MEGABYTES}; "
            "put them on storage that the cluster sees and give absolute paths or URLs"
        )
    return f"pipeline/{pipeline.path.name}"


def _relative_paths(pipeline: Pipeline) -> list[str]:
    paths = [value.removeprefix(LOCAL_MODEL) for value in named_files(pipeline)]
    if (pipeline.folder / "recipes").is_dir():  # rules that the pipeline file may name
        paths.append("recipes")
    inside = [path for path in paths if not path.startswith("/") and "://" not in path]
    for path in inside:
        parts = Path(path).parts
        if ".." in parts:
            raise ConfigError(f"{pipeline.path}: {path}: a job may carry only files beside the pipeline file or below")
        if not parts or "runs" in parts or any(part.startswith(".") for part in parts):
            raise ConfigError(
                f"{pipeline.path}: {path}: a job carries no runs, no hidden files and not the whole folder of the "
                "pipeline file; put it on storage that the cluster sees and give an absolute path or URL"
            )
    return inside
