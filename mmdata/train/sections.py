"""The sections of a training file as option classes; `config.py` reads the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import annotated_types as at

from mmdata.options import operational, semantic

Positive = Annotated[int, at.Ge(1)]
NotNegative = Annotated[int, at.Ge(0)]
Share = Annotated[float, at.Ge(0), at.Le(1)]
AboveZero = Annotated[float, at.Gt(0)]
Kind = Literal["image", "video", "audio"]
PACKAGE = "package:"  # before the name of a Python package that brings a model
KINDS: tuple[Kind, ...] = ("image", "video", "audio")


@dataclass(frozen=True, kw_only=True)
class LlmOptions:
    """The language model: any causal LM of transformers."""

    model: Annotated[str, at.Len(1)] = semantic()  # a folder, a hub name, or package:NAME for what a Python package has
    gguf_file: str = semantic("")  # a GGUF file in it
    template: Literal["plain", "vicuna", "chatml", "llama3", "tokenizer"] = semantic("tokenizer")
    system: str = semantic("")  # said first in every conversation that has no system message
    train: Literal["frozen", "full", "lora"] = semantic("frozen")
    lora: dict[str, Any] = semantic(factory=dict)  # options of peft.LoraConfig
    # documents: one attention call a sample of the pack, no mask; flash and flex need their packages and a GPU.
    attention: Literal["documents", "sdpa", "eager", "flash_attention_2", "flex_attention"] = operational("documents")


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """What turns one kind of media into features."""

    kind: Literal["open_clip", "transformers"] = semantic("transformers")
    model: str = semantic("")  # a folder (`local-dir:` before it for open_clip) or a hub name
    pretrained: str = semantic("")  # open_clip's tag or weights file
    share: Literal["", "image"] = semantic("")  # video may use the encoder of images
    features: Literal["patch", "cls", "cls_patch", "pooled"] = semantic("patch")
    layer: int | None = semantic(None)  # of the hidden states, -2 as in LLaVA; the model's final output where left out
    train: bool = semantic(False)
    fit: Literal["pad", "crop", "squash"] = semantic("pad")  # how a picture becomes a square
    frames: Positive = semantic(8)  # of a video, spread evenly
    window_s: AboveZero = semantic(30.0)  # longer sounds are encoded in windows, never cut; Whisper has its own
    stored_mel: bool = semantic(False)  # Whisper is fed from part mel.npy (log_mel's kind whisper), not from the sound


@dataclass(frozen=True, kw_only=True)
class ProjectorOptions:
    """What turns features into embeddings of the LLM."""

    kind: Literal["linear", "mlp", "pixel_shuffle", "cross_attention", "qformer"] = semantic("mlp")
    layers: Positive = semantic(2)
    merge: Literal[4, 9, 16] = semantic(4)  # neighbours that pixel_shuffle makes one token of
    queries: Positive = semantic(64)  # tokens that cross_attention and qformer give
    heads: Positive = semantic(8)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """One split of one modality of a dataset."""

    dataset: Annotated[str, at.Len(1)] = semantic()
    modality: Annotated[str, at.Len(1)] = semantic("image_text")
    split: str = semantic("train")
    weight: AboveZero = semantic(1.0)  # times that each sample is seen in an epoch
    prompts: list[str] = semantic(factory=list)  # asked of a sample that has a caption only; one by the sample's hash


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How samples become packs and packs become steps."""

    tokens_per_pack: Positive = semantic(2048)
    media_per_pack: NotNegative = semantic(0)  # at most so many media tokens in a pack; 0 for no limit of their own
    packs_per_step: Positive = semantic(8)  # the global batch; the number of processes must divide it
    packing: bool = semantic(True)  # False: one sample a pack
    epochs: Positive = semantic(1)
    max_steps: NotNegative = semantic(0)  # ends earlier; 0 for all
    window_samples: Positive = semantic(2048)  # samples change places and are packed within so many
    quotas: dict[str, float] = semantic(factory=dict)  # share of the tokens of an epoch by modality; sums to 1
    lengths: Literal["exact", "index"] = semantic("exact")  # tokenise once and keep, or estimate from the index's words


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Weights by name of the loss, and what some of them need."""

    weights: dict[str, float] = semantic(factory=lambda: {"lm": 1.0})
    temperature: AboveZero = semantic(0.07)  # where the learnable one of info_nce begins
    temperature_min: AboveZero = semantic(0.01)
    margin: Annotated[float, at.Ge(0)] = semantic(0.2)  # of matching_rank
    kl_temperature: AboveZero = semantic(1.0)
    mask_share: Share = semantic(0.15)  # of caption tokens, for masked_lm
    chunk_tokens: Positive = operational(1024)  # labelled positions whose logits are held at once


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """AdamW: one learning rate for each part, warm-up, then cosine or constant."""

    lr_projector: AboveZero = semantic(1e-3)
    lr_llm: AboveZero = semantic(2e-5)
    lr_encoder: AboveZero = semantic(2e-6)
    warmup_share: Share = semantic(0.03)
    schedule: Literal["cosine", "constant"] = semantic("cosine")
    final_lr_share: Share = semantic(0.0)
    weight_decay: Annotated[float, at.Ge(0)] = semantic(0.0)  # of matrices; never of biases and norms
    beta1: Share = semantic(0.9)
    beta2: Share = semantic(0.999)
    eps: AboveZero = semantic(1e-8)
    clip_norm: Annotated[float, at.Ge(0)] = semantic(1.0)  # 0: no clipping


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """How the work is carried out."""

    folder: str = operational("runs/train")  # the run lies in <folder>/<name>
    device: Literal["auto", "cpu", "cuda"] = operational("auto")
    precision: Literal["fp32", "bf16", "fp16"] = semantic("fp32")
    # How processes share the LLM: each a whole one (ddp), or each a part of every layer (fsdp, FSDP2).
    sharding: Literal["ddp", "fsdp"] = operational("ddp")
    compile: bool = operational(False)  # the LLM's blocks by torch.compile
    compile_backend: str = operational("inductor")
    gradient_checkpointing: bool = operational(False)
    threads: NotNegative = operational(0)  # of one torch operation on the CPU; 0: as torch sets it
    workers: NotNegative = operational(2)  # processes that read and decode
    prefetch: Positive = operational(4)  # packs read ahead by each
    step_limit_s: Annotated[float, at.Ge(0)] = operational(1800.0)  # a longer step ends the run, with stacks; 0: never
    checkpoint_every: Positive = operational(500)  # steps
    keep_checkpoints: Positive = operational(2)
    max_bad_share: Share = operational(0.1)  # of samples that could not be read; above it the run ends
    peak_tflops: Annotated[float, at.Ge(0)] = operational(0.0)  # of one device, for MFU; 0: of the GPUs that are known


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """Where a run is shown beside its log.jsonl."""

    tensorboard: bool = operational(False)  # event files in RUN/tensorboard
    wandb: str = operational("")  # project of Weights & Biases
