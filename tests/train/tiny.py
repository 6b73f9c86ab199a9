"""Models small enough to train in a second, saved to folders as real ones are, and a tokenizer trained on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperModel,
)

from mmdata.train.config import TrainConfig, config_of

SPECIAL = ["<pad>", "<mask>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>"]
SPECIAL += ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
OWN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VISION = {"image_size": 8, "patch_size": 2, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = "a picture of number one two three four five six seven eight nine ten What is this? USER: ASSISTANT: It is"


def tokenizer() -> Any:
    """Byte-level BPE: every text can be written and read back."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([TEXT], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        mask_token="<mask>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=SPECIAL[4:],
        chat_template=OWN_TEMPLATE,
    )


def llm(folder: Path, hidden: int = 32, heads: int = 4, kv_heads: int = 2) -> str:
    torch.manual_seed(0)
    made = tokenizer()
    config = LlamaConfig(
        vocab_size=len(made), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=2,
        num_attention_heads=heads, num_key_value_heads=kv_heads, bos_token_id=2, eos_token_id=3, pad_token_id=0,
        initializer_range=0.1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    made.save_pretrained(folder)
    return str(folder)


def vision(folder: Path) -> str:
    torch.manual_seed(1)
    CLIPVisionModel(CLIPVisionConfig(**VISION, intermediate_size=37)).save_pretrained(folder)
    return str(folder)


def whisper(folder: Path) -> str:
    """An encoder of windows of one second: 100 mel frames, 50 features."""
    torch.manual_seed(2)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = WhisperConfig(
        d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=37, decoder_layers=1,
        decoder_attention_heads=4, decoder_ffn_dim=37, vocab_size=60, num_mel_bins=80, max_source_positions=50, **ids,
    )  # fmt: skip
    WhisperModel(config).save_pretrained(folder)
    return str(folder)


def wav2vec2(folder: Path) -> str:
    torch.manual_seed(3)
    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37, conv_dim=[16, 16],
        conv_stride=[20, 16], conv_kernel=[40, 16], num_feat_extract_layers=2, num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    Wav2Vec2Model(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    return str(folder)


def saved(path: Path) -> Path:
    """Folder with llm, vision and whisper, made where they are not there."""
    folder = path / "models"
    if not folder.exists():
        llm(folder / "llm"), vision(folder / "vision"), whisper(folder / "whisper")
    return folder


def config(tmp_path: Path, dataset: str, *, kinds: tuple[str, ...] = ("image",), **sections: Any) -> TrainConfig:
    """A training config over tiny models, made where they are not there; `sections` are laid over it."""
    folders = {name: saved(tmp_path) / name for name in ("llm", "vision", "whisper")}
    image = {"model": str(folders["vision"]), "layer": -1, "fit": "crop"}
    encoders: dict[str, Any] = {
        "image": image,
        "video": {"share": "image", "frames": 3} if "image" in kinds else {**image, "frames": 3},
        "audio": {"model": str(folders["whisper"])},
    }
    tree: dict[str, Any] = {
        "name": "tiny",
        "seed": 3,
        "stage": "align",
        "llm": {"model": str(folders["llm"]), "template": "chatml"},
        "encoders": {kind: encoders[kind] for kind in kinds},
        "projectors": {kind: {"kind": "linear"} for kind in kinds},
        "data": [{"dataset": dataset, "modality": "image_text"}],
        "plan": {"tokens_per_pack": 128, "packs_per_step": 2, "epochs": 1},
        "optimizer": {"lr_projector": 1e-2},
        "machine": {"folder": str(tmp_path / "runs"), "workers": 0, "threads": 1, "device": "cpu"},
    }
    for name, values in sections.items():
        section = tree.get(name)
        tree[name] = {**section, **values} if isinstance(section, dict) and isinstance(values, dict) else values
    return config_of(tree, tmp_path / "tiny.yaml")
