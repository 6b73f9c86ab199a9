"""What a run will do, told before any weights are loaded: steps, padding, tokens by source, memory, labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from mmdata.errors import SampleError
from mmdata.train.chat import IGNORE, PLACEHOLDER, Encoded
from mmdata.train.config import TrainConfig
from mmdata.train.dist import Dist
from mmdata.train.model import MultimodalLM, load_llm
from mmdata.train.prepared import Prepared, blank_id, prepare

_SHOWN = 3
_GREEN, _GREY, _PLAIN = "\x1b[32m", "\x1b[90m", "\x1b[0m"
# Bytes of activations a layer holds for each token and unit of width in half precision (Korthikanti et al. 2022).
_ACTIVATION_BYTES = 34


@dataclass(frozen=True)
class Report:
    """Figures of a plan.

    padding_share: of the plan's capacity that stays empty. tokens: by (modality, source), over all epochs;
    label_share: how many of them are learned. refused: samples that cannot be used, by reason. parameters: by part, all
    and trained. memory_mb: weights, gradients and moments, activations of one pack, and what sharding divides of it; an
    estimate. labels: a few samples as coloured text.
    """

    steps: int
    epochs: int
    samples: int
    packs: int
    padding_share: float
    media_share: float
    tokens: dict[tuple[str, str], int]
    label_share: float
    refused: dict[str, int]
    parameters: dict[str, tuple[int, int]]
    memory_mb: dict[str, int]
    plan_hash: str
    labels: list[str]


def dry_run(config: TrainConfig) -> Report:
    """The report of a config. Raises ConfigError as `train` would."""
    prepared = prepare(config)
    plan = prepared.plan
    tokens: Counter[tuple[str, str]] = Counter()
    labels = samples = 0
    for step in range(plan.num_steps):
        for pack in plan.packs_of(step):
            samples += len(pack.samples)
        for pool, numbers in plan.by_pool(plan.samples_of(step)):
            labels += int(pool.labels[numbers].sum())
            for source in set(pool.source[numbers].tolist()):
                chosen = numbers[pool.source[numbers] == source]
                tokens[pool.modality, pool.source_names[source]] += int(pool.tokens[chosen].sum())
    used, media, packs = plan.fill()
    model = MultimodalLM(
        config, prepared.specs, load_llm(config.llm, meta=True), blank_id(prepared.tokenizer), Dist(), meta=True
    )
    return Report(
        steps=plan.num_steps,
        epochs=plan.epoch_of(plan.num_steps - 1) + 1,
        samples=samples,
        packs=packs,
        padding_share=1 - used / (packs * config.plan.tokens_per_pack),
        media_share=media / used,
        tokens=dict(tokens),
        label_share=labels / used,
        refused=dict(sum((pool.refused for pool in plan.pools), Counter[str]())),
        parameters=_parameters(model),
        memory_mb=_memory_mb(model, config),
        plan_hash=plan.hash,
        labels=_shown(prepared),
    )


def render(report: Report) -> str:
    """The report as text for a terminal."""
    total = sum(report.tokens.values())
    lines = [
        f"steps            {report.steps:,} in {report.epochs} epochs",
        f"packs            {report.packs:,} of {report.samples:,} samples",
        f"tokens           {total:,}, of them {report.media_share:.1%} of media and {report.label_share:.1%} learned",
        f"padding          {report.padding_share:.1%}",
        *(
            f"  {modality} {source or '-'}  {count:,} ({count / total:.1%})"
            for (modality, source), count in report.tokens.items()
        ),
        *(f"not used         {count:,} {reason}" for reason, count in sorted(report.refused.items())),
        *(
            f"{part:16} {every:,} parameters, {trained:,} trained"
            for part, (every, trained) in report.parameters.items()
        ),
        "memory           " + ", ".join(f"{part} {mb:,} MB" for part, mb in report.memory_mb.items()) + " (estimate)",
        f"plan             {report.plan_hash[:12]}",
        "",
        *report.labels,
    ]
    return "\n".join(lines)


def coloured(encoded: Encoded, tokenizer: Any) -> str:
    """A sample as text: what is learned in green, media as `[image x 64]`."""
    names = {number: kind for kind, number in PLACEHOLDER.items()}
    pieces: list[tuple[Any, list[int]]] = []
    for token, label in zip(encoded.ids, encoded.labels, strict=True):
        kind = names.get(token, label != IGNORE)
        if not pieces or pieces[-1][0] != kind:
            pieces.append((kind, []))
        pieces[-1][1].append(token)
    text = ""
    for kind, ids in pieces:
        if isinstance(kind, str):
            text += f"{_GREY}[{kind} x {len(ids)}]{_PLAIN}"
        else:
            # Escapes of a stranger's text must not steer the terminal.
            shown = tokenizer.decode(ids).replace("\x1b", "\ufffd")
            text += f"{_GREEN}{shown}{_PLAIN}" if kind else shown
    return text


def _shown(prepared: Prepared) -> list[str]:
    """The first samples of the plan, coloured."""
    found = []
    for place in [place for pack in prepared.plan.packs_of(0) for place in pack.samples][:_SHOWN]:
        try:
            encoded, _ = prepared.loader.outline(place.entry, place.shard, place.row)
        except SampleError as error:
            found.append(f"{error.reason.value}: {error.detail}")
        else:
            found.append(coloured(encoded, prepared.tokenizer))
    return found


def _parameters(model: MultimodalLM) -> dict[str, tuple[int, int]]:
    every: Counter[str] = Counter()
    trained: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        every[model.part_of(name)] += parameter.numel()
        trained[model.part_of(name)] += parameter.numel() * parameter.requires_grad
    return {part: (every[part], trained[part]) for part in every}


def _memory_mb(model: MultimodalLM, config: TrainConfig) -> dict[str, int]:
    narrow = 4 if config.machine.precision == "fp32" else 2
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    shape = model.decoder.config.get_text_config()
    layers, width, tokens = shape.num_hidden_layers, shape.hidden_size, config.plan.tokens_per_pack
    layer = _ACTIVATION_BYTES * tokens * width * narrow // 2
    kept = layers * tokens * width * narrow + layer if config.machine.gradient_checkpointing else layers * layer
    logits = 3 * min(tokens, config.losses.chunk_tokens) * model.decoder.get_output_embeddings().weight.shape[0] * 4
    found = {"weights": frozen * narrow + trained * 4, "gradients and moments": trained * 12, "one pack": kept + logits}
    if config.machine.sharding == "fsdp":
        llm = (p for name, p in model.named_parameters() if model.part_of(name) == "llm")
        found["of it divided by the processes"] = sum(p.numel() * (16 if p.requires_grad else narrow) for p in llm)
    return {part: int(size) >> 20 for part, size in found.items()}
