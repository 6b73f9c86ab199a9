"""What unpacking a GGUF file promises: the same weights and tokens, once, and again where the file has changed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmdata.train.gguf import unpacked
from mmdata.train.model import load_llm, load_tokenizer
from mmdata.train.sections import LlmOptions
from tests.train import tiny

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write_gguf(folder: Path, llm: Any, tokenizer: Any) -> str:
    """A LLaMA as llama.cpp's converter writes it: halves of each head's rotation lie beside each other."""
    gguf = pytest.importorskip("gguf")
    config, bpe = llm.config, json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer = gguf.GGUFWriter(folder / "tiny.gguf", "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    writer.add_token_types([3 if token < len(tiny.SPECIAL) else 1 for token in range(len(tokenizer))])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in bpe["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, weight in llm.state_dict().items():
        stem, value = name.removesuffix(".weight"), weight.numpy()
        layer, _, part = stem.removeprefix("model.layers.").partition(".")
        target = WHOLE.get(stem) or f"blk.{layer}.{NAMES[part]}"
        count = heads.get(target.rpartition(".")[2])
        if count:
            value = value.reshape(count, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(f"{target}.weight", np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return "tiny.gguf"


def test_a_file_is_unpacked_once_to_the_same_weights_and_tokens(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plain = LlmOptions(model=str(tiny.saved(tiny_path) / "llm"))
    llm, tokenizer = load_llm(plain), load_tokenizer(plain)
    options = LlmOptions(model=str(tmp_path), gguf_file=write_gguf(tmp_path, llm, tokenizer))
    found = load_llm(options).state_dict()
    assert found.keys() == llm.state_dict().keys()
    for name, weight in llm.state_dict().items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=0, msg=name)
    text = "a picture of number three"
    assert load_tokenizer(options).encode(text, add_special_tokens=False) == tokenizer.encode(
        text, add_special_tokens=False
    )
    [folder] = (tmp_path / "cache" / "mmdata" / "gguf").iterdir()
    made_at = folder.stat().st_mtime_ns
    assert unpacked(options.model, options.gguf_file) == str(folder)
    assert folder.stat().st_mtime_ns == made_at
    os.utime(tmp_path / "tiny.gguf", (1, 1))  # another file of the same name
    assert unpacked(options.model, options.gguf_file) != str(folder)


def test_a_file_that_is_not_there_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(OSError, match=r"none\.gguf"):
        unpacked(str(tmp_path), "none.gguf")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(20))
    with pytest.raises((OSError, ValueError)):
        unpacked(str(tmp_path), "broken.gguf")
    assert not (tmp_path / "cache").exists()
