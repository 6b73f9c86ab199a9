"""Conversations to token ids and labels, turn by turn: what is learned is marked as it is written, never counted back.

A template is a way to cut a conversation into segments: control text (role names, special tokens) and contents. Every
segment is tokenised on its own, so `decode(ids[labels != -100])` is exactly the answers with their ends. Contents are
tokenised with special tokens cut apart: a user who writes `<|im_end|>` or `<image>` has written letters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mmdata.errors import ConfigError, Reason, SampleError
from mmdata.train.sections import KINDS, Kind

IGNORE = -100
# Stand for one feature each in `Encoded.ids`; below zero, so no text can be tokenised to them.
PLACEHOLDER: dict[Kind, int] = {"image": -1, "video": -2, "audio": -3}
_ROLES = ("system", "user", "assistant")
_MARK = re.compile("\ue000(\\d+)\ue001")
_TAG = re.compile("<(image|video|audio)>")
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


class Turn(NamedTuple):
    """One message: its contents in order, each ("text", text) or (kind of media, "")."""

    role: str
    parts: tuple[tuple[str, str], ...]


class Segment(NamedTuple):
    """A piece of a conversation: kind is control, text or a kind of media; learn: the model is to say it."""

    kind: str
    text: str = ""
    learn: bool = False


@dataclass
class Encoded:
    """ids: tokens, and PLACEHOLDER once a feature. labels: the same where it is learned, else IGNORE; not shifted."""

    ids: list[int]
    labels: list[int]
    truncated: bool = False


def turns_of(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """Turns of `messages`: structured content as it is; in plain strings of system and user `<image>` is a medium.

    Raises SampleError(content.unsupported) for other shapes.
    """
    turns = []
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if role not in _ROLES:
            raise SampleError(Reason.UNSUPPORTED, f"role {role!r} of a message")
        parts: list[tuple[str, str]] = []
        if isinstance(content, str) and role == "assistant":
            parts.append(("text", content))
        elif isinstance(content, str):
            parts += [(p, "") if odd else ("text", p) for odd, p in _odd(_TAG.split(content)) if p]
        elif isinstance(content, list):
            for item in content:
                kind = item.get("type") if isinstance(item, Mapping) else None
                if kind != "text" and kind not in KINDS:
                    raise SampleError(Reason.UNSUPPORTED, f"content {item!r} of a message")
                parts.append((str(kind), str(item.get("text") or "") if kind == "text" else ""))
        else:
            raise SampleError(Reason.UNSUPPORTED, f"content of type {type(content).__name__}")
        turns.append(Turn(str(role), tuple(parts)))
    return turns


def _odd(items: Sequence[str]) -> list[tuple[bool, str]]:
    return [(bool(index % 2), item) for index, item in enumerate(items)]


def caption_turns(kinds: Sequence[Kind], prompt: str, caption: str) -> list[Turn]:
    """A captioned sample as a conversation: its media and the prompt, if any, are given; the caption is the answer."""
    asked = [(kind, "") for kind in kinds] + ([("text", f"\n{prompt}")] if prompt else [])
    turns = [Turn("user", tuple(asked))] if asked else []
    return [*turns, Turn("assistant", (("text", caption),))]


class Chat:
    """Encodes conversations with one tokenizer and template."""

    def __init__(self, tokenizer: Any, template: str, system: str = "") -> None:
        self.tokenizer, self.template, self.system = tokenizer, template, system
        self.end = tokenizer.eos_token  # kept, as tokenizers look long for their attributes
        if self.end is None:
            raise ConfigError("llm.model: its tokenizer has no end-of-sequence token")
        if template == "tokenizer" and not tokenizer.chat_template:
            raise ConfigError("llm.template: this tokenizer has no chat template; use chatml, vicuna, llama3 or plain")
        added = getattr(tokenizer, "added_tokens_decoder", {})
        specials = {*tokenizer.all_special_tokens, *(str(token) for token in added.values() if token.special)}
        self._special = re.compile("|".join(re.escape(text) for text in sorted(specials, key=len, reverse=True)))
        habit = tokenizer("x").input_ids
        self.begin = tokenizer.bos_token if habit and habit[0] == tokenizer.bos_token_id else ""
        if template == "plain":
            # LLMs rest their attention on the first token (Xiao et al. 2023). Were that a medium's, projectors would
            # first have to learn to be such a token, and forget it again for templates that begin with words.
            self.begin = tokenizer.bos_token or self.end
        self._pieces: dict[tuple[str, ...], list[str]] = {}  # by roles; plain dicts, as a chat travels to workers
        self._tokens: dict[str, list[int]] = {}  # of control text

    def encode(self, turns: Sequence[Turn], features: Mapping[Kind, Sequence[int]], max_tokens: int) -> Encoded:
        """Ids and labels of a conversation; features: how many each medium has, in order of appearance.

        Text beyond max_tokens is cut off, media never. Raises SampleError: content.media_count where the conversation
        and the sample's media differ in number, filtered.too_long where media would be cut, content.no_answer where
        nothing is left to learn.
        """
        found = Encoded([], [])
        first_said = max_tokens  # where the first word of an answer stands
        taken = dict.fromkeys(KINDS, 0)
        for segment in self.segments(turns):
            if segment.kind in KINDS:
                kind: Kind = segment.kind
                counts = features.get(kind, ())
                if taken[kind] < len(counts):
                    found.ids += [PLACEHOLDER[kind]] * counts[taken[kind]]
                    found.labels += [IGNORE] * counts[taken[kind]]
                taken[kind] += 1
                continue
            ids = self._ids(segment)
            if segment.learn and segment.kind == "text" and ids:
                # The first token of all is never predicted, so a label there teaches nothing.
                first_said = min(first_said, max(1, len(found.ids)))
            found.ids += ids
            found.labels += ids if segment.learn else [IGNORE] * len(ids)
        for kind, count in taken.items():
            if count != len(features.get(kind, ())):
                detail = f"{count} {kind} in the conversation, {len(features.get(kind, ()))} in the sample"
                raise SampleError(Reason.MEDIA_COUNT, detail)
        if len(found.ids) > max_tokens:
            if min(found.ids[max_tokens:]) < 0:
                raise SampleError(Reason.TOO_LONG, f"{len(found.ids)} tokens, {max_tokens} allowed, media never cut")
            found = Encoded(found.ids[:max_tokens], found.labels[:max_tokens], truncated=True)
        if first_said >= len(found.ids):
            raise SampleError(Reason.NO_ANSWER, "nothing in it is to be learned")
        return found

    def text_ids(self, text: str) -> list[int]:
        """Tokens of a stranger's text: special tokens in it are letters."""
        ids: list[int] = []
        start = 0
        for match in self._special.finditer(text):
            ids += self._plain(text[start : match.start() + 1])
            start = match.start() + 1
        return ids + self._plain(text[start:])

    def prompt_ids(self, turns: Sequence[Turn], features: Mapping[Kind, Sequence[int]]) -> list[int]:
        """Ids up to where the next answer begins: what generation goes on from."""
        whole = [*turns, Turn("assistant", (("text", "."),))]
        segments = self.segments(whole)
        last = max(place for place, segment in enumerate(segments) if segment.learn and segment.kind == "text")
        answered = sum(len(self._ids(segment)) for segment in segments[last:])
        ids = self.encode(whole, features, 1 << 40).ids
        return ids[: len(ids) - answered]

    def segments(self, turns: Sequence[Turn]) -> list[Segment]:
        """The conversation cut into control text and contents, as this template writes it."""
        if self.template == "plain":
            return self._plain_segments(turns)
        if self.system and not (turns and turns[0].role == "system"):
            turns = [Turn("system", (("text", self.system),)), *turns]
        before, *after = self._control_texts(tuple(turn.role for turn in turns))
        segments = [Segment("control", before)]
        for turn, control in zip(turns, after, strict=True):
            learn = turn.role == "assistant"
            segments += [Segment(kind, text, learn and kind == "text") for kind, text in turn.parts]
            end = self._special.search(control) if learn else None
            if end is not None:
                segments += [Segment("control", control[: end.end()], True), Segment("control", control[end.end() :])]
            else:
                segments.append(Segment("control", control))
        return [segment for segment in segments if segment.kind in KINDS or segment.text]

    def _plain_segments(self, turns: Sequence[Turn]) -> list[Segment]:
        """LLaVA's template for alignment: media, then the answer; what the user says is left out."""
        segments = [Segment("control", self.begin)]
        for turn in turns:
            learn = turn.role == "assistant"
            segments += [Segment(k, text, learn and k == "text") for k, text in turn.parts if learn or k in KINDS]
            if learn:
                segments.append(Segment("control", self.end, True))
        return segments

    def _control_texts(self, roles: tuple[str, ...]) -> list[str]:
        """Control text before, between and after the contents of turns with these roles."""
        if roles in self._pieces:
            return self._pieces[roles]
        marks = [f"\ue000{index}\ue001" for index in range(len(roles))]
        match self.template:
            case "chatml":
                pairs = zip(roles, marks, strict=True)
                text = "".join(f"<|im_start|>{role}\n{mark}<|im_end|>\n" for role, mark in pairs)
            case "llama3":
                pairs = zip(roles, marks, strict=True)
                turns = (f"<|start_header_id|>{role}<|end_header_id|>\n\n{mark}<|eot_id|>" for role, mark in pairs)
                text = "<|begin_of_text|>" + "".join(turns)
            case "vicuna":
                forms = {"system": "{} ", "user": "USER: {} ", "assistant": "ASSISTANT: {}" + self.end}
                text = self.begin + ("" if roles[0] == "system" else VICUNA_SYSTEM + " ")
                text += "".join(forms[role].format(mark) for role, mark in zip(roles, marks, strict=True))
            case _:
                text = self._own(roles, marks)
        pieces = _MARK.split(text)
        if pieces[1::2] != [str(index) for index in range(len(roles))]:
            raise SampleError(Reason.UNSUPPORTED, f"the chat template does not write {', '.join(roles)} one by one")
        self._pieces[roles] = pieces[::2]
        return self._pieces[roles]

    def _own(self, roles: Sequence[str], marks: Sequence[str]) -> str:
        from jinja2.exceptions import TemplateError

        messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False))
        except TemplateError as error:
            raise SampleError(Reason.UNSUPPORTED, f"the chat template refuses {', '.join(roles)}: {error}") from None

    def _ids(self, segment: Segment) -> list[int]:
        if segment.kind != "control":
            return self.text_ids(segment.text)
        if segment.text not in self._tokens:
            self._tokens[segment.text] = self._plain(segment.text)
        return self._tokens[segment.text]

    def _plain(self, text: str) -> list[int]:
        if not text:
            return []
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is not None:
            # What transformers does around this costs several times as much as a caption's tokens.
            return list(backend.encode(text, add_special_tokens=False).ids)
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)
