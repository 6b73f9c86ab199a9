"""A checkpoint for other programs: transformers' LLaVA where the architecture fits, else projector and adapter apart.

LLaVA is written by transformers' own save_pretrained, so names of weights are its own (Liu et al. 2023,
arXiv 2310.03744): CLIP's or SigLIP's patches through two layers with GELU into a causal LM.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from mmdata.errors import ConfigError
from mmdata.train.model import MultimodalLM
from mmdata.train.prepared import specs_of
from mmdata.train.processor import IMAGE_TOKEN, llava_processor
from mmdata.train.restore import restore


def restored(path: str) -> tuple[MultimodalLM, Any]:
    """Model and tokenizer of a run folder's newest checkpoint, or of the checkpoint itself, in fp32 on the CPU.

    With torch's own attention, so that no package of the training machine is needed.
    """
    found = restore(path, ["machine.device=cpu", "machine.precision=fp32", "llm.attention=sdpa"])
    return found.model, found.chat.tokenizer


def export(path: str, target: str) -> list[str]:
    """Write what a checkpoint has into folder `target`; lines about what lies where.

    `projector/` and, with LoRA, `adapter/` always; `llava/` where transformers has this architecture.
    """
    model, tokenizer = restored(path)
    out = Path(target)
    told = [_projector(model, out / "projector")]
    if model.config.llm.train == "lora":
        model.llm.save_pretrained(out / "adapter")
        told.append(f"{out / 'adapter'}: LoRA, for peft")
    why = unfit(model)
    if why:
        return [*told, f"no llava: {why}"]
    llava, processor = to_llava(model, tokenizer)
    llava.save_pretrained(out / "llava")
    processor.save_pretrained(out / "llava")
    return [*told, f"{out / 'llava'}: LlavaForConditionalGeneration with LlavaProcessor"]


def unfit(model: MultimodalLM) -> str:
    """Why transformers' LLaVA cannot be this model; empty where it can."""
    config = model.config
    if set(config.encoders) != {"image"}:
        return f"it has encoders of {', '.join(config.encoders)}, LLaVA one of images"
    encoder, projector = config.encoders["image"], config.projectors["image"]
    family = getattr(getattr(model.encoders["image"], "config", None), "model_type", "open_clip")
    if family not in ("clip_vision_model", "siglip_vision_model"):
        return f"its encoder is {family}, LLaVA's CLIP or SigLIP of transformers"
    if (projector.kind, projector.layers) != ("mlp", 2):
        return f"its projector is {projector.kind}, LLaVA's an mlp of 2 layers"
    if encoder.features != "patch" or encoder.layer is None:
        return "LLaVA takes patches of a hidden layer: features patch, layer -2"
    return ""


def to_llava(model: MultimodalLM, tokenizer: Any) -> tuple[Any, Any]:
    """The same as transformers' LLaVA, LoRA merged into the LLM, and its processor; the tokenizer gets `<image>`."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    why = unfit(model)
    if why:
        raise ConfigError(f"no LLaVA: {why}")
    llm: Any = model.llm.merge_and_unload() if model.config.llm.train == "lora" else model.llm
    encoder: Any = model.encoders["image"]
    projector: Any = model.projectors["image"]
    options = model.config.encoders["image"]
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]}, replace_extra_special_tokens=False)
    image_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    if image_id >= llm.get_input_embeddings().num_embeddings:
        llm.resize_token_embeddings(image_id + 1)
    spec = specs_of(model.config)["image"]
    made_by: Any = LlavaConfig
    config = made_by(
        vision_config=encoder.config, text_config=llm.config, image_token_index=image_id,
        image_seq_length=spec.features, projector_hidden_act="gelu",
        vision_feature_layer=options.layer,
        vision_feature_select_strategy="default" if encoder.config.model_type.startswith("clip") else "full",
    )  # fmt: skip
    with torch.device("meta"):
        made: Any = LlavaForConditionalGeneration(config)
    made.model.vision_tower = encoder.model
    made.model.language_model = llm.get_decoder()
    made.lm_head = llm.get_output_embeddings()
    first, last = (layer for layer in projector.net if isinstance(layer, torch.nn.Linear))
    made.model.multi_modal_projector.linear_1 = first
    made.model.multi_modal_projector.linear_2 = last
    made.generation_config = llm.generation_config
    return made.eval(), llava_processor(encoder, model.config.llm, tokenizer, options.fit)


def _projector(model: MultimodalLM, folder: Path) -> str:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in model.projectors.state_dict().items()}
    save_file(weights, folder / "projector.safetensors")
    options = model.config.to_yaml()
    facts = {name: options[name] for name in ("encoders", "projectors")}
    (folder / "config.json").write_text(json.dumps(facts, indent=1) + "\n")
    return f"{folder}: {len(weights)} tensors of the projector"
