"""Which caption belongs to which medium, by the model: by embeddings where a loss has trained them, else by likelihood.

Embeddings are those that the pair losses compare: the mean of a medium's projected tokens and the mean of a text's
input embeddings, each through its head. Without such a loss a caption's score is log p(caption | medium) less
log p(caption | blank medium), so that a caption that is likely anyway does not win everywhere; N media and M texts take
N times M texts through the LLM, so that is for few of them.
Shape suffixes: B texts, K labelled tokens, T tokens, E width.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from mmdata.errors import SampleError
from mmdata.evaluate.blind import blinded
from mmdata.evaluate.generate import prompt_of
from mmdata.evaluate.questions import Question
from mmdata.evaluate.retrieval_metrics import retrieval
from mmdata.train import losses
from mmdata.train.chat import IGNORE, Turn
from mmdata.train.collate import Batch, pack
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
        rows.append(_lost(restored, batch, texts))
        blank.append(_lost(restored, blinded(restored, batch), own))
    scores_NM: np.ndarray = np.concatenate(blank) - np.stack(rows)
    return scores_NM


def _lost(restored: Restored, batch: Batch, texts: Sequence[Prepared]) -> np.ndarray:
    """- log p of each text after a prompt, which is read once for all of them."""
    model, device = restored.model, restored.device
    decoder = model.decoder.get_decoder()
    found = []
    with torch.inference_mode(), computing(device, restored.config.machine.precision):
        embeds_1TE = model.embed(batch.to(device)).embeds_TE.unsqueeze(0)
        mask_1T = torch.ones(embeds_1TE.shape[:2], dtype=torch.long, device=device)
        read = decoder(inputs_embeds=embeds_1TE, attention_mask=mask_1T, use_cache=True)
        # Each text has a copy of what was read, so together they are no longer than a pack.
        longest = max(len(text.ids) for text in texts)
        at_once = max(1, restored.config.plan.tokens_per_pack // (embeds_1TE.shape[1] + longest))
        for start in range(0, len(texts), at_once):
            ids_BT, labels_BT = (of.to(device) for of in _answers(texts[start : start + at_once]))
            cache = copy.deepcopy(read.past_key_values)
            cache.reorder_cache(torch.zeros(len(ids_BT), dtype=torch.long, device=device))
            embeds_BTE = model.decoder.get_input_embeddings()(ids_BT)
            # What fills up shorter texts stands after them, where they do not look.
            hidden_BTE = decoder(inputs_embeds=embeds_BTE, past_key_values=cache, use_cache=True).last_hidden_state
            before_B1E = read.last_hidden_state[:, -1:].expand(len(ids_BT), -1, -1)
            hidden_BTE = torch.cat([before_B1E, hidden_BTE[:, :-1]], dim=1)
            learned_BT = labels_BT != IGNORE
            lost_K = losses.token_losses(
                hidden_BTE[learned_BT], labels_BT[learned_BT], model.logits, restored.config.losses.chunk_tokens
            )
            found.append(
                torch.zeros(learned_BT.shape, device=device).masked_scatter_(learned_BT, lost_K.float()).sum(1)
            )
    lost: np.ndarray = torch.cat(found).cpu().numpy()
    return lost


def _answers(texts: Sequence[Prepared]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels [B, T] from where each answer begins; a prompt's length depends on its own media."""
    starts = [next(place for place, label in enumerate(text.labels) if label >= 0) for text in texts]
    begun = list(zip(texts, starts, strict=True))
    ids_BT = pad_sequence([torch.tensor(text.ids[start:]) for text, start in begun], batch_first=True)
    labels = [torch.tensor(text.labels[start:]) for text, start in begun]
    return ids_BT, pad_sequence(labels, batch_first=True, padding_value=IGNORE)
