"""The trainer's commands; `mmdata/cli.py` adds them to its own. Nothing heavy is loaded until one runs."""

from __future__ import annotations

from typing import Annotated

import typer

Config = Annotated[str, typer.Argument(metavar="CONFIG", help="training file, for instance pipelines/train/align.yaml")]
# Annotations of commands are read at run time by typer.
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[a.b=c ...]", help="options to override, for instance plan.epochs=2"),
]


def add_commands(app: typer.Typer) -> None:
    """Add them to a command line."""
    app.command("train")(train)
    app.command("explain-step")(explain_step)
    app.command("export-model")(export_model)


def train(
    config: Config,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say what it would do: steps, padding, tokens, memory, labels")
    ] = False,
    ray_address: Annotated[
        str, typer.Option("--ray-address", metavar="ADDRESS", help="train on this Ray cluster; local: on one made here")
    ] = "",
    processes: Annotated[
        int, typer.Option("--processes", metavar="N", help="on Ray: how many; one on each of its GPUs if left out")
    ] = 0,
) -> None:
    """Train a projector, and the LLM, on an emitted dataset; doing it again goes on where it was stopped.

    The run lies in runs/train/<name>. SIGTERM and Ctrl-C write a checkpoint and end with 143 and 130.

    Examples:  mmdata train pipelines/train/align.yaml --dry-run   |   mmdata train pipelines/train/instruct.yaml
    plan.max_steps=20   |   torchrun --nproc-per-node 8 -m mmdata train my.yaml   |   mmdata train my.yaml --ray-address
    auto --processes 8
    """
    if ray_address and not dry_run:
        from mmdata.train.launch import start_on_ray

        raise typer.Exit(start_on_ray(config, overrides or [], ray_address, processes, tell))
    from mmdata.train.command import start

    raise typer.Exit(start(config, overrides or [], dry_run, tell))


def explain_step(
    run: Annotated[str, typer.Argument(metavar="RUN", help="run folder, for instance runs/train/align")],
    step: Annotated[int, typer.Argument(metavar="STEP", help="as in log.jsonl, from 0")],
    html: Annotated[bool, typer.Option("--html", help="also write RUN/step-<STEP>.html with thumbnails")] = False,
) -> None:
    """Show the samples of a step, highest loss first: key, loss, URL, shard, and what its ledger says.

    Example:  mmdata explain-step runs/train/align 120 --html
    """
    from mmdata.train.explain import explain

    for line in explain(run, step, html):
        tell(line)


def export_model(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="run folder or one of its checkpoints")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="folder to write to")],
) -> None:
    """Write a checkpoint for other programs: projector, LoRA adapter, and transformers' LLaVA where it fits.

    Example:  mmdata export-model runs/train/instruct exported
    """
    from mmdata.train.export import export

    for line in export(checkpoint, out):
        tell(line)


def tell(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)
