"""What the commands do with a pipeline: run it until a part, describe it, show how a run stands, verify a dataset."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmdata.config import Pipeline, load
from mmdata.errors import ConfigError
from mmdata.run.catalog import resolve
from mmdata.run.cluster import RayExecutor, check_reachable
from mmdata.run.driver import Driver
from mmdata.run.funnel import print_funnel
from mmdata.run.funnel import print_status as show_status
from mmdata.run.local import Executor, LocalExecutor
from mmdata.run.record import recorded_pipeline
from mmdata.run.status import Progress, read_status
from mmdata.shards import storage
from mmdata.shards.arrow import start_without_pandas
from mmdata.shards.folders import DatasetFolder, RunFolder

PARTS = ("ingest", "score", "select", "emit", "report")


@dataclass(frozen=True)
class Places:
    """Where a run and its dataset lie, and where the work is done. Empty: the default."""

    run: str = ""
    dataset: str = ""
    ray_address: str = ""
    in_process: bool = False


def default_places(pipeline: Pipeline, places: Places) -> Places:
    """The same with runs/<name> and datasets/<name> filled in; local paths are absolute, as workers run elsewhere."""
    run = places.run or f"runs/{pipeline.name}"
    dataset = places.dataset or f"datasets/{pipeline.name}"
    for option, path in (("--run", run), ("--dataset", dataset)):
        if not storage.is_remote(path) and any(p.is_file() for p in (Path(path), *Path(path).absolute().parents)):
            raise ConfigError(f"{option} {path}: found a file there or above it, allowed is a folder")
    whole = [path if storage.is_remote(path) else str(Path(path).absolute()) for path in (run, dataset)]
    return Places(whole[0], whole[1], places.ray_address, places.in_process)


def run_pipeline(path: str, overrides: Sequence[str], places: Places, until: str) -> None:
    """Carry a pipeline out until a part is done, and print what came of it."""
    start_without_pandas()
    pipeline = load(path, overrides)
    places = default_places(pipeline, places)
    run = RunFolder(places.run)
    if places.ray_address:
        check_reachable(places.ray_address)  # before anything is written

    progress = Progress(run)
    driver = Driver(pipeline, run, lambda: executor_for(pipeline, places), progress)
    wanted = PARTS[: PARTS.index(until) + 1]
    with driver.opened(), progress:
        facts = _carry_out(driver, wanted, places.dataset)
    print_funnel(progress.status(), facts)


def refetch(path: str, reasons: str, overrides: Sequence[str], places: Places) -> None:
    """Try rows of a run that were lost for these reasons again, then do what follows from it, and print both."""
    from mmdata.run.refetch import reasons_of, refetch_part

    chosen = reasons_of(reasons)
    start_without_pandas()
    driver, dataset, progress = _driver_of(path, overrides, places)
    with driver.opened(), progress:
        driver.ingest()
        said = refetch_part(driver, chosen)
        facts = _carry_out(driver, PARTS, dataset)
    print_funnel(progress.status(), facts)
    print(said)


def remove(path: str, list_path: str, purge: bool, overrides: Sequence[str], places: Places) -> None:
    """Take what a list names out of a run and its dataset, and print what is left; see run/removal.py."""
    from mmdata.run.removal import entries_for, record

    start_without_pandas()
    driver, dataset, progress = _driver_of(path, overrides, places)
    entries = entries_for(driver.resolved.stages, list_path)
    with driver.opened(), progress:
        record(driver, entries, purge)
        facts = _carry_out(driver, PARTS, dataset)
    print_funnel(progress.status(), facts)


def _driver_of(path: str, overrides: Sequence[str], places: Places) -> tuple[Driver, str, Progress]:
    """The driver of a run that is there, the place of its dataset versions, and its progress."""
    from mmdata.run.versions import versions_of

    run = RunFolder(path if storage.is_remote(path) else str(Path(path).absolute()))
    pipeline = recorded_pipeline(run, overrides)
    known = versions_of(run)
    dataset = places.dataset or (known[0].dataset if known else default_places(pipeline, places).dataset)
    progress = Progress(run)
    return Driver(pipeline, run, lambda: executor_for(pipeline, places), progress), dataset, progress


def executor_for(pipeline: Pipeline, places: Places) -> Executor:
    if places.in_process:
        return LocalExecutor(pipeline.run)
    # Ray takes seconds to start, and most of that time in other processes.
    threading.Thread(target=_import_later_parts, daemon=True).start()
    return RayExecutor(pipeline.run, places.ray_address)


def _import_later_parts() -> None:
    """Import what only the parts after ingest need; half a second of every run where it is waited for."""
    import mmdata.run.dataset
    import mmdata.run.report_part  # noqa: F401


def _carry_out(driver: Driver, wanted: Sequence[str], dataset: str) -> dict[str, str]:
    """Do the parts in order; returns what to tell the user at the end."""
    from mmdata.run.dataset import emit_part, select_part
    from mmdata.run.purge import forget_versions, purge_part

    purge_part(driver)
    driver.record.write()
    counters = driver.ingest()
    scores = driver.score() if "score" in wanted else {}
    if len(driver.plan.shards) <= driver.pipeline.emit.window_shards:
        driver.release_executor()  # the dataset is one window, which this process writes
    selection = select_part(driver) if "select" in wanted else None
    version, digest = emit_part(driver, selection, dataset) if selection and "emit" in wanted else (None, "")
    if version and selection:
        forget_versions(driver, selection.key, version.key)
    report = driver.run.report
    if "report" in wanted and selection:
        from mmdata.run.report_part import report_part

        report_part(driver, selection, version.dataset if version else None, digest, counters, scores)
    facts = {"run": driver.run.root}
    if version is not None:
        facts |= {"dataset": version.dataset, "digest": digest}
    if storage.exists(report):
        facts["report"] = report
    return {name: _near(text) for name, text in facts.items()}


def _near(path: str) -> str:
    """A path below the working directory without the directory, as one would type it."""
    here = f"{Path.cwd()}/"
    return path.removeprefix(here)


def describe(path: str, overrides: Sequence[str]) -> str:
    """What a pipeline file would do, after every check that needs no work. Raises ConfigError or SourceError."""
    pipeline = load(path, overrides)
    resolved = resolve(pipeline)
    lines = [f"{pipeline.path}: name {pipeline.name}, seed {pipeline.seed}"]
    for name, source in resolved.sources.items():
        inputs = source.inputs()
        size_mb = sum(file.size_bytes for file in inputs) / 1e6
        lines.append(
            f"  source   {name}: {source.kind}, {len(inputs)} input files, {size_mb:,.1f} MB, {source.modality}"
        )
    fetch = pipeline.fetch
    lines.append(
        f"  fetch    {fetch.engine}, {fetch.per_host} at once to a host, {fetch.timeout_s:g} s, {fetch.max_mb:g} MB"
    )
    for kind, stages in (("stage", resolved.stages), ("score", list(resolved.scorers.values()))):
        for stage in stages:
            where = "in a child process" if stage.isolated else "in the worker"
            reads, writes = (", ".join(sorted(names)) for names in (stage.reads, stage.writes))
            lines.append(f"  {kind:8} {stage.name}: {reads} -> {writes} ({where})")
    lines += [f"  select   {entry.name}: {dict(entry.options)}" for entry in pipeline.select]
    emit = pipeline.emit
    lines.append(
        f"  emit     {', '.join(emit.formats)}, {emit.samples_per_shard} samples a shard, {emit.val_share:.1%} val"
    )
    lines.append("nothing was done; run it with: mmdata run " + str(pipeline.path))
    return "\n".join(lines)


def print_status(run: str) -> None:
    """Print how a run stands. Raises ConfigError where the folder is none."""
    show_status(read_status(RunFolder(run)))


def verify_dataset(dataset: str) -> str:
    """One line about a dataset that is whole. Raises DamageError with every problem, ConfigError where it is none."""
    from mmdata.emit.verify import verify

    if not storage.exists(DatasetFolder(dataset).manifest):
        raise ConfigError(f"{dataset}: found no manifest.json; allowed is the folder of a finished dataset")
    verify(dataset)
    return f"{dataset}: every file is as its manifest says"
