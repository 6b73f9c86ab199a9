"""Which caption belongs to which medium, by the model: by embeddings where a loss has trained them, else by likelihood.

Embeddings are those that the pair losses compare: the mean of a medium's projected tokens and the mean of a text's
input embeddings, each through its head. Without such a loss a caption's score is log p(caption | medium) less
log p(caption | blank medium), so that a caption that is likely anyway does not win everywhere; N media and M texts take
N times M passes of the LLM, so that is for few of them. Shape suffixes: K media tokens, T tokens, E width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from mmdata.errors import SampleError
from mmdata.evaluate.blind import blinded, sample_losses
from mmdata.evaluate.generate import prompt_of
from mmdata.evaluate.questions import Question
from mmdata.evaluate.retrieval_metrics import retrieval
from mmdata.train.chat import Turn
from mmdata.train.collate import pack
from mmdata.train.device import computing
from mmdata.train.restore import Restored
from mmdata.train.samples import Prepared


def retrieve(restored: Restored, questions: Sequence[Question]) -> dict[str, Any]:
    """Metrics of both ways over these captioned media, by which `method`, and how many there were.

    Media that cannot be decoded are left out of both sides.
    """
    pairs = []
    for question in questions:
        try:
            prompt = prompt_of(question.key, question.turns, question.read(), restored.chat, restored.specs)
            pairs.append((prompt, [_answered(restored, question, prompt, text) for text in question.references]))
        except SampleError:
            continue
    compares = restored.model.objectives.compares
    medium_M = [number for number, (_, texts) in enumerate(pairs) for _ in texts]
    scores_NM = (_embedded if compares else _likely)(restored, pairs) if pairs else np.zeros((0, 0))
    method = "embeddings" if compares else "likelihood"
    counts = {"media": len(pairs), "texts": len(medium_M)}
    return {"method": method, **counts, **retrieval(scores_NM, medium_M)}


Pairs = list[tuple[Prepared, list[Prepared]]]


def _answered(restored: Restored, question: Question, prompt: Prepared, text: str) -> Prepared:
    """A question with its answer, as training sees it."""
    features = {kind: [sum(item.tokens for item in of) for of in found] for kind, found in prompt.media.items()}
    encoded = restored.chat.encode([*question.turns, Turn("assistant", (("text", text),))], features, 1 << 40)
    return replace(prompt, ids=encoded.ids, labels=encoded.labels)


def _embedded(restored: Restored, pairs: Pairs) -> np.ndarray:
    """Cosines [N, M]."""
    media, texts = [], []
    for _, answered in pairs:
        batch = pack(answered).to(restored.device)
        with torch.inference_mode(), computing(restored.device, restored.config.machine.precision):
            x, y = restored.model.objectives.pairs(batch, restored.model.embed(batch))
        media.append(x[:1])
        texts.append(y)
    found_NM = F.normalize(torch.cat(media), dim=-1) @ F.normalize(torch.cat(texts), dim=-1).T
    scores_NM: np.ndarray = found_NM.float().cpu().numpy()
    return scores_NM


def _likely(restored: Restored, pairs: Pairs) -> np.ndarray:
    """log p(text | medium) - log p(text | blank medium), [N, M]."""
    texts = [answered for _, several in pairs for answered in several]
    rows, blank = [], []
    for prompt, own in pairs:
        batch = pack([prompt])
        rows.append(_lost(restored, batch, prompt, texts))
        blank.append(_lost(restored, blinded(restored, batch), prompt, own))
    scores_NM: np.ndarray = np.concatenate(blank) - np.stack(rows)
    return scores_NM


def _lost(restored: Restored, batch: Any, prompt: Prepared, texts: Sequence[Prepared]) -> np.ndarray:
    """- log p of each text after a prompt; its media are encoded once."""
    with torch.inference_mode(), computing(restored.device, restored.config.machine.precision):
        prompt_TE = restored.model.embed(batch.to(restored.device)).embeds_TE
    slots_KE = prompt_TE[torch.tensor(prompt.ids) < 0]
    limit = restored.config.plan.tokens_per_pack
    found = []
    for group in _grouped([_told(prompt, text) for text in texts], limit):
        told = pack([replace(sample, media={}) for sample in group])
        ids_T = torch.tensor([token for sample in group for token in sample.ids], device=restored.device)
        with torch.inference_mode(), computing(restored.device, restored.config.machine.precision):
            embeds_TE = restored.model.decoder.get_input_embeddings()(told.ids_T.to(restored.device))
            places = torch.nonzero(ids_T < 0).flatten()
            embeds_TE = embeds_TE.index_copy(0, places, slots_KE.repeat(len(group), 1).to(embeds_TE.dtype))
        found.append(sample_losses(restored, told, embeds_TE).numpy())
    return np.concatenate(found)


def _told(prompt: Prepared, text: Prepared) -> Prepared:
    """The text's answer after another prompt: their prompts may differ in length, by their media."""
    start = next(place for place, label in enumerate(text.labels) if label >= 0)
    ids, labels = [*prompt.ids, *text.ids[start:]], [*prompt.labels, *text.labels[start:]]
    return replace(prompt, ids=ids, labels=labels)


def _grouped(samples: Sequence[Prepared], limit: int) -> list[list[Prepared]]:
    """In order, as many together as the limit of tokens allows."""
    groups: list[list[Prepared]] = []
    used = limit
    for sample in samples:
        if used + len(sample.ids) > limit or not groups:
            groups.append([])
            used = 0
        groups[-1].append(sample)
        used += len(sample.ids)
    return groups
