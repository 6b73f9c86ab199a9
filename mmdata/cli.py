"""The commands; those of the trainer are in train/commands.py and evaluate/commands.py, what they do beside them."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from mmdata import __version__
from mmdata.evaluate import commands as asking
from mmdata.run.ending import end_with
from mmdata.train import commands as training

# Annotations of commands are read at run time by typer, which on Python 3.10 needs Optional.
app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

Pipeline = Annotated[str, typer.Argument(metavar="PIPELINE", help="pipeline file, for instance pipelines/demo.yaml")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[a.b=c ...]", help="options to override, for instance fetch.timeout_s=5"),
]
RunPath = Annotated[str, typer.Option("--run", metavar="PATH", help="run folder or URL  [runs/<name>]")]
DatasetPath = Annotated[str, typer.Option("--dataset", metavar="PATH", help="dataset folder or URL  [datasets/<name>]")]
RayAddress = Annotated[
    str, typer.Option("--ray-address", metavar="HOST:PORT", help="a Ray cluster; empty for an embedded Ray")
]
InProcess = Annotated[bool, typer.Option("--in-process", help="without Ray, one shard after the other")]


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    """From lists of links and folders of media to training shards, with every sample accounted for.

    Start with:  mmdata init links.parquet > my.yaml;  mmdata check my.yaml;  mmdata run my.yaml
    """
    if version:
        print(f"mmdata {__version__}")
        raise typer.Exit


def _parts(name: str, until: str, help_text: str) -> None:
    """Add the command that carries a run out until a part."""

    def command(
        pipeline: Pipeline,
        overrides: Overrides = None,
        run: RunPath = "",
        dataset: DatasetPath = "",
        ray_address: RayAddress = "",
        in_process: InProcess = False,
    ) -> None:
        from mmdata.run.pipeline import Places, run_pipeline

        run_pipeline(pipeline, overrides or [], Places(run, dataset, ray_address, in_process), until)

    app.command(name, help=help_text)(command)


_parts(
    "run",
    "report",
    "Do all of it: ingest, score, select, emit, report. Doing it again goes on where it was stopped.\n\n"
    "Examples:  mmdata run my.yaml   |   mmdata run my.yaml select.0.thresholds.clip_similarity.min=0.3",
)
_parts("ingest", "ingest", "Fetch, decode and stage; the first part of `run`.")
_parts("score", "score", "Ingest what is missing, then score.")


@app.command()
def select(
    pipeline: Pipeline,
    overrides: Overrides = None,
    what_if: Annotated[
        str,
        typer.Option("--what-if", metavar="X=A,B", help="do nothing, and print what other values of one option keep"),
    ] = "",
    run: RunPath = "",
    dataset: DatasetPath = "",
    ray_address: RayAddress = "",
    in_process: InProcess = False,
) -> None:
    """Ingest and score what is missing, then decide what to keep.

    Example:  mmdata select my.yaml --what-if clip_similarity.min=0.2,0.25,0.3
    """
    from mmdata.run.pipeline import Places, run_pipeline

    places = Places(run, dataset, ray_address, in_process)
    if not what_if:
        run_pipeline(pipeline, overrides or [], places, "select")
        return
    from mmdata.run.what_if import answer

    for line in answer(pipeline, overrides or [], places, what_if):
        print(line)


_parts("emit", "emit", "Everything but the report.")
_parts("report", "report", "Everything that is missing, then the report page.")


@app.command()
def refetch(
    run: Annotated[str, typer.Argument(metavar="RUN", help="run folder, for instance runs/demo")],
    overrides: Overrides = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="A,B", help="reasons or groups  [all that may pass by themselves]")
    ] = "",
    dataset: DatasetPath = "",
    ray_address: RayAddress = "",
    in_process: InProcess = False,
) -> None:
    """Try rows that could not be had again, merge them in place, and write the dataset's next version.

    Example:  mmdata refetch runs/demo --reason fetch.timeout,fetch.http_5xx
    """
    from mmdata.run.pipeline import Places
    from mmdata.run.pipeline import refetch as refetch_run

    refetch_run(run, reason, overrides or [], Places("", dataset, ray_address, in_process))


@app.command()
def remove(
    run: Annotated[str, typer.Argument(metavar="RUN", help="run folder, for instance runs/demo")],
    overrides: Overrides = None,
    list_path: Annotated[
        str, typer.Option("--list", metavar="FILE", help="keys, URLs, domains, sha256: one a line, # for comments")
    ] = ...,  # type: ignore[assignment]
    purge: Annotated[
        bool, typer.Option("--purge", help="also from staged media, ledgers, scores; deletes older dataset versions")
    ] = False,
    dataset: DatasetPath = "",
    ray_address: RayAddress = "",
    in_process: InProcess = False,
) -> None:
    """Take what a list names out: writes the dataset's next version without it, and never fetches it again.

    Examples:  mmdata remove runs/demo --list takedown.txt   |   mmdata remove runs/demo --list takedown.txt --purge
    """
    from mmdata.run.pipeline import Places
    from mmdata.run.pipeline import remove as remove_from

    remove_from(run, list_path, purge, overrides or [], Places("", dataset, ray_address, in_process))


@app.command()
def check(pipeline: Pipeline, overrides: Overrides = None) -> None:
    """Validate a pipeline file and show what would run; does no work.

    Example:  mmdata check pipelines/demo.yaml
    """
    from mmdata.run.pipeline import describe

    print(describe(pipeline, overrides or []))


@app.command()
def plan(
    pipeline: Pipeline,
    overrides: Overrides = None,
    pilot: Annotated[int, typer.Option("--pilot", metavar="N", help="rows to try for real, and project from")] = 0,
    workers: Annotated[int, typer.Option("--workers", metavar="N", help="workers of the run to project")] = 1,
    prices: Annotated[
        str, typer.Option("--prices", metavar="FILE", help="YAML: cpu_hour, gpu_hour, gb_month ...")
    ] = "",
    gpus: Annotated[int, typer.Option("--gpus", metavar="G", help="are there shards enough to train on so many?")] = 0,
    loader_workers: Annotated[int, typer.Option("--loader-workers", metavar="W", help="loaders of each GPU")] = 1,
    json: Annotated[str, typer.Option("--json", metavar="FILE", help="write plan and projection there too")] = "",
    run: RunPath = "",
    ray_address: RayAddress = "",
    in_process: InProcess = False,
) -> None:
    """Print the plan: rows and shards by source; with --pilot also yield, hours, bytes and cost, with intervals.

    Example:  mmdata plan my.yaml --pilot 500 --workers 16 --prices prices.yaml --gpus 8 --loader-workers 4
    """
    from mmdata.run.forecast import plan_pipeline
    from mmdata.run.pipeline import Places
    from mmdata.run.prices import read_prices
    from mmdata.run.projection import Wishes

    wishes = Wishes(pilot, workers, gpus, loader_workers, read_prices(prices) if prices else None)
    plan_pipeline(pipeline, overrides or [], Places(run, "", ray_address, in_process), wishes, json)


@app.command()
def init(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="a table or a folder, for instance links.parquet")],
) -> None:
    """Print a pipeline file made by looking at a table's columns, or at what lies in a folder.

    Example:  mmdata init links.parquet > my.yaml
    """
    from mmdata.run.init import pipeline_for

    print(pipeline_for(table), end="")


@app.command()
def status(run: Annotated[str, typer.Argument(metavar="RUN", help="run folder, for instance runs/demo")]) -> None:
    """Funnel, rates and time left of a running or finished run.

    Example:  mmdata status runs/demo
    """
    from mmdata.run.pipeline import print_status

    print_status(run)


@app.command()
def verify(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="dataset folder, for instance datasets/demo")],
) -> None:
    """Hold every file of a dataset against its manifest: hashes, tar structure, counts; exit 8 on damage.

    Example:  mmdata verify datasets/demo
    """
    from mmdata.run.pipeline import verify_dataset

    print(verify_dataset(dataset))


@app.command()
def show(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="dataset folder, for instance datasets/demo")],
    key: Annotated[str, typer.Argument(metavar="[KEY]", help="one sample; the first few without it")] = "",
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="also write the sample's parts as files")] = "",
) -> None:
    """Look at samples of a dataset.

    Examples:  mmdata show datasets/demo   |   mmdata show datasets/demo emoji-000000000007 --out /tmp
    """
    from mmdata.run.show import show_samples

    for line in show_samples(dataset, key, out):
        print(line)


@app.command()
def submit(
    pipeline: Pipeline,
    overrides: Overrides = None,
    run: RunPath = "",
    dataset: DatasetPath = "",
    ray_address: RayAddress = "",
) -> None:
    """Run a pipeline as a job of a Ray cluster, follow its log, and end as the job ends.

    Example:  mmdata submit my.yaml --ray-address http://head:8265 --run s3://bucket/runs/my --dataset s3://bucket/my
    """
    from mmdata.run.pipeline import Places
    from mmdata.run.submit import submit_job

    raise typer.Exit(submit_job(pipeline, overrides or [], Places(run, dataset, ray_address, False)))


@app.command()
def doctor() -> None:
    """Say what this machine has and lacks for mmdata.

    Example:  mmdata doctor
    """
    from mmdata.run.doctor import findings

    ok = True
    for finding in findings():
        ok &= finding.ok
        print(f"{'ok  ' if finding.ok else 'LACK'}  {finding.what}: {finding.detail}")
    raise typer.Exit(0 if ok else 1)


training.add_commands(app)
asking.add_commands(app)


def main() -> NoReturn:
    """Run a command; errors of ours become one message and their exit code, signals 130 and 143."""
    end_with(app)
