"""Attention over packs: one call for each sample of the pack, so nothing is masked and nothing wasted.

Cost falls from the square of the pack to the sum of the squares of its samples. Registered with transformers as
`documents`; where a model calls it without boundaries (in generation), it is transformers' own `sdpa`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from mmdata.errors import ConfigError

NAME = "documents"


def register(function: Callable[..., Any] | None = None) -> None:
    """Make `attn_implementation="documents"` known to transformers, as `function` in place of `attend` where given."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, function or attend)
    AttentionMaskInterface.register(NAME, _mask)


def _mask(*args: Any, **kwargs: Any) -> Any:
    from transformers.masking_utils import sdpa_mask

    # With boundaries there is no mask; without them (a cache, a padded batch) the usual one.
    if kwargs.get("kv_length") == kwargs.get("q_length") and kwargs.get("attention_mask") is None:
        return None
    return sdpa_mask(*args, **kwargs)


def attend(
    module: torch.nn.Module,
    query_BHTD: torch.Tensor,
    key_BHTD: torch.Tensor,
    value_BHTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each span of `cu_seq_lens_q`; the interface of transformers' attention functions."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    bounds = kwargs.get("cu_seq_lens_q")
    window = kwargs.get("sliding_window")
    longest = int(kwargs.get("max_length_q") or 0)
    if bounds is None:
        return sdpa_attention_forward(
            module, query_BHTD, key_BHTD, value_BHTD, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if (
        (window is not None and longest > window)
        or kwargs.get("softcap") is not None
        or kwargs.get("s_aux") is not None
    ):
        raise ConfigError(
            "llm.attention: found documents, but this model has sliding windows, soft caps or sinks; use eager"
        )
    grouped = query_BHTD.shape[1] != key_BHTD.shape[1]
    lengths = [end - start for start, end in pairwise(bounds.tolist())]
    # Split, not sliced: the gradient of each slice would be as large as the whole pack.
    states = (torch.split(of_pack, lengths, dim=2) for of_pack in (query_BHTD, key_BHTD, value_BHTD))
    parts = [
        scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=grouped
        )
        for query, key, value in zip(*states, strict=True)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None
