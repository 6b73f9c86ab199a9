"""Answers of a model, several prompts at once: media go the way they go in training, then the LLM goes on with a cache.

Shape suffixes: B prompts, T their longest length, E width of the LLM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from mmdata.errors import Reason, SampleError
from mmdata.train.chat import IGNORE, Chat, Turn
from mmdata.train.collate import pack
from mmdata.train.device import computing
from mmdata.train.media import MediaSpec, Medium, items_of
from mmdata.train.restore import Restored
from mmdata.train.samples import Prepared
from mmdata.train.sections import Kind


@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen: the likeliest, or drawn from the likeliest that together have `top_p`."""

    max_new_tokens: int = 64
    top_p: float = 0.0  # 0: the likeliest
    temperature: float = 1.0
    seed: int = 0


def prompt_of(
    key: str,
    turns: Sequence[Turn],
    media: Mapping[Kind, Sequence[Medium]],
    chat: Chat,
    specs: Mapping[Kind, MediaSpec],
) -> Prepared:
    """A conversation up to where the next answer begins, with its media decoded.

    Raises SampleError where a medium cannot be decoded, has no encoder, or is missing, and where nothing is asked.
    """
    items = {}
    for kind, found in media.items():
        if kind not in specs:
            raise SampleError(Reason.UNSUPPORTED, f"the model has no encoder for {kind}")
        items[kind] = [items_of(medium, specs[kind], None) for medium in found]
    features = {kind: [sum(item.tokens for item in of) for of in found] for kind, found in items.items()}
    ids = chat.prompt_ids(turns, features)
    if all(segment.kind == "control" for segment in chat.segments(turns)):
        raise SampleError(Reason.UNSUPPORTED, "nothing is asked")
    return Prepared(key, "", "", ids, [IGNORE] * len(ids), items)


def generate(restored: Restored, prompts: Sequence[Prepared], decoding: Decoding) -> list[str]:
    """What the model answers to each of at least one prompt, up to the template's end or `max_new_tokens`."""
    from transformers import GenerationConfig

    model, tokenizer, ends = restored.model, restored.chat.tokenizer, end_ids(restored.chat)
    batch = pack(prompts)
    longest = batch.longest
    how: dict[str, Any] = {"do_sample": False}
    if decoding.top_p:
        how = {"do_sample": True, "top_p": decoding.top_p, "temperature": decoding.temperature, "top_k": 0}
    # What the LLM's own generation_config says is set aside, so that an answer follows from these options alone:
    # transformers takes from it what a given one leaves open.
    made: Any = GenerationConfig
    config = made(
        max_new_tokens=decoding.max_new_tokens, eos_token_id=ends, pad_token_id=tokenizer.eos_token_id,
        num_beams=1, repetition_penalty=1.0, use_cache=True, **how,
    )  # fmt: skip
    with torch.inference_mode(), computing(restored.device, restored.config.machine.precision):
        embeds_TE = model.embed(batch.to(restored.device)).embeds_TE
        # Shorter prompts are filled up on the left, so that all go on at the same place.
        embeds_BTE = embeds_TE.new_zeros(len(prompts), longest, embeds_TE.shape[1])
        mask_BT = torch.zeros(len(prompts), longest, dtype=torch.long, device=restored.device)
        for number, (start, end) in enumerate(pairwise(batch.bounds_S.tolist())):
            embeds_BTE[number, longest - (end - start) :] = embeds_TE[start:end]
            mask_BT[number, longest - (end - start) :] = 1
        torch.manual_seed(decoding.seed)
        model.decoder.generation_config = config
        ids_BT = model.decoder.generate(inputs_embeds=embeds_BTE, attention_mask=mask_BT, generation_config=config)
    said = [ids[: next((i for i, token in enumerate(ids) if token in ends), len(ids))] for ids in ids_BT.tolist()]
    return [str(tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in said]


def end_ids(chat: Chat) -> list[int]:
    """Tokens that end an answer: what the template writes after one, and the end of the sequence."""
    asked = [Turn("user", (("text", "?"),)), Turn("assistant", (("text", "."),))]
    ends = [segment.text for segment in chat.segments(asked) if segment.learn and segment.kind == "control"]
    found = [chat.tokenizer(text, add_special_tokens=False).input_ids[-1] for text in ends]
    return sorted({chat.tokenizer.eos_token_id, *found})
