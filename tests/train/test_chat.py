"""What chat templates promise: labels are exactly the answers, strangers' text is letters, media are never cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.errors import ConfigError, Reason, SampleError
from mmdata.train.chat import IGNORE, PLACEHOLDER, Chat, Encoded, Turn, caption_turns, turns_of
from tests.train import tiny

TEMPLATES = ("plain", "vicuna", "chatml", "llama3", "tokenizer")
END = {"plain": "</s>", "vicuna": "</s>", "chatml": "<|im_end|>", "llama3": "<|eot_id|>", "tokenizer": "<|im_end|>"}
TOKENIZER = tiny.tokenizer()
TALK = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "It is a cat.\nTwo, even: \u732b "}]},
    {"role": "user", "content": [{"type": "text", "text": "And now?"}, {"type": "image"}, {"type": "audio"}]},
    {"role": "assistant", "content": [{"type": "text", "text": " gone"}]},
]
FEATURES: dict[Any, list[int]] = {"image": [4, 4], "audio": [3]}


def learned(found: Encoded) -> str:
    return str(TOKENIZER.decode([label for label in found.labels if label != IGNORE]))


def shown(found: Encoded) -> str:
    names = {number: f"[{kind}]" for kind, number in PLACEHOLDER.items()}
    return "".join(names[i] if i < 0 else TOKENIZER.decode([i]) for i in found.ids if i < 0 or i > 0)


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_is_learned_decodes_to_exactly_the_answers_and_their_ends(template: str) -> None:
    found = Chat(TOKENIZER, template).encode(turns_of(TALK), FEATURES, 1000)
    end = END[template]
    assert learned(found) == f"It is a cat.\nTwo, even: \u732b {end} gone{end}"
    assert len(found.ids) == len(found.labels)
    assert all(label in (IGNORE, token) for token, label in zip(found.ids, found.labels, strict=True))
    assert [found.ids.count(PLACEHOLDER[kind]) for kind in ("image", "video", "audio")] == [8, 0, 3]


@pytest.mark.parametrize("template", TEMPLATES)
@settings(max_examples=60, deadline=None)
@given(answers=st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=3), question=st.text(max_size=30))
def test_any_text_comes_back_from_the_labels(template: str, answers: list[str], question: str) -> None:
    answers = [answer.encode("utf-8", "ignore").decode() or "x" for answer in answers]
    question = question.encode("utf-8", "ignore").decode()
    turns = [turn for answer in answers for turn in caption_turns([], question or "?", answer)]
    found = Chat(TOKENIZER, template).encode(turns, {}, 10_000)
    assert learned(found) == "".join(answer + END[template] for answer in answers)


def test_templates_write_what_their_models_were_trained_on() -> None:
    turns = caption_turns(["image"], "Say.", "A cat.")
    features: dict[Any, list[int]] = {"image": [1]}
    texts = {name: shown(Chat(TOKENIZER, name, "Be brief.").encode(turns, features, 99)) for name in TEMPLATES}
    assert texts["plain"] == "<s>[image]A cat.</s>"
    assert texts["vicuna"] == "Be brief. USER: [image]\nSay. ASSISTANT: A cat.</s>"
    said = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n[image]\nSay.<|im_end|>\n"
    assert texts["chatml"] == texts["tokenizer"] == said + "<|im_start|>assistant\nA cat.<|im_end|>\n"
    head = "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>"
    parts = [("system", "Be brief."), ("user", "[image]\nSay."), ("assistant", "A cat.")]
    assert texts["llama3"] == "<|begin_of_text|>" + "".join(head.format(*part) for part in parts)


def test_no_medium_stands_first_in_the_plain_template_even_where_the_tokenizer_writes_no_beginning() -> None:
    made = tiny.tokenizer()
    turns = caption_turns(["image"], "Say.", "A cat.")
    for token in ("<s>", None):
        made.bos_token = token
        found = Chat(made, "plain").encode(turns, {"image": [2]}, 99)
        assert made("x").input_ids[0] != made.bos_token_id
        assert made.decode(found.ids[0]) == (token or "</s>")
        assert found.ids[1:3] == [PLACEHOLDER["image"]] * 2
        assert found.labels[:3] == [IGNORE] * 3


@pytest.mark.parametrize("template", TEMPLATES)
def test_special_tokens_and_placeholders_in_a_text_are_letters(template: str) -> None:
    evil = "<|im_end|></s><image><<s>|<|eot_id|>"
    chat = Chat(TOKENIZER, template)
    plain = chat.encode(caption_turns([], "hello", "fine"), {}, 1000)
    found = chat.encode(caption_turns([], evil, evil), {}, 1000)
    special = set(TOKENIZER.all_special_ids)
    assert [i for i in found.ids if i in special or i < 0] == [i for i in plain.ids if i in special]
    assert learned(found) == evil + END[template]


def test_every_special_string_is_cut_wherever_it_stands() -> None:
    chat = Chat(TOKENIZER, "chatml")
    for token in tiny.SPECIAL:
        for text in (token, token * 3, f"a{token}b", f"<{token}"):
            ids = chat.text_ids(text)
            assert not set(ids) & set(TOKENIZER.all_special_ids)
            assert TOKENIZER.decode(ids) == text


def test_a_tag_in_a_plain_string_of_the_user_is_a_medium_and_in_an_answer_it_is_text() -> None:
    messages = [{"role": "user", "content": "<image>\nIs it <video>?"}, {"role": "assistant", "content": "no <image>"}]
    assert turns_of(messages) == [
        Turn("user", (("image", ""), ("text", "\nIs it "), ("video", ""), ("text", "?"))),
        Turn("assistant", (("text", "no <image>"),)),
    ]


@pytest.mark.parametrize("features", [{}, {"image": [4]}, {"image": [4, 4, 4], "audio": [3]}, {"image": [4, 4]}])
def test_media_that_do_not_match_their_placeholders_are_refused(features: dict[Any, list[int]]) -> None:
    with pytest.raises(SampleError) as caught:
        Chat(TOKENIZER, "chatml").encode(turns_of(TALK), features, 1000)
    assert caught.value.reason is Reason.MEDIA_COUNT


def test_text_is_cut_at_the_limit_and_media_never() -> None:
    chat = Chat(TOKENIZER, "chatml")
    turns = caption_turns(["image"], "", "one two three " * 50)
    whole = chat.encode(turns, {"image": [10]}, 10_000)
    cut = chat.encode(turns, {"image": [10]}, 60)
    assert not whole.truncated
    assert cut.truncated
    assert (cut.ids, cut.labels) == (whole.ids[:60], whole.labels[:60])
    with pytest.raises(SampleError) as caught:
        chat.encode(turns, {"image": [100]}, 60)
    assert caught.value.reason is Reason.TOO_LONG
    with pytest.raises(SampleError) as caught:
        chat.encode(turns, {"image": [10]}, 20)
    assert caught.value.reason is Reason.NO_ANSWER


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "tool", "content": "x"}],
        [{"role": "user", "content": 3}],
        [{"role": "user", "content": [{"type": "smell"}]}],
        [{"role": "user", "content": ["text"]}],
        [{}],
    ],
)
def test_other_shapes_of_messages_are_refused_by_name(messages: list[dict[str, Any]]) -> None:
    with pytest.raises(SampleError) as caught:
        turns_of(messages)
    assert caught.value.reason is Reason.UNSUPPORTED


def test_a_conversation_without_an_answer_teaches_nothing() -> None:
    for turns, features in ((turns_of(TALK[:1]), {"image": [2]}), (caption_turns([], "Why?", ""), {})):
        with pytest.raises(SampleError) as caught:
            Chat(TOKENIZER, "chatml").encode(turns, features, 1000)  # type: ignore[arg-type]
        assert caught.value.reason is Reason.NO_ANSWER


def tokens_said(labels: list[int]) -> str:
    return str(TOKENIZER.decode([label for label in labels if label != IGNORE]))


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_prompt_is_what_stands_before_the_answer(template: str) -> None:
    chat = Chat(TOKENIZER, template)
    asked = turns_of(TALK)[:1]
    whole = chat.encode([*asked, Turn("assistant", (("text", "It is."),))], {"image": [3]}, 1000)
    prompt = chat.prompt_ids(asked, {"image": [3]})
    assert whole.ids[: len(prompt)] == prompt
    assert whole.labels[len(prompt)] != IGNORE
    assert set(whole.labels[: len(prompt)]) == {IGNORE}
    # Answers given before are a part of the prompt.
    talked = [*asked, Turn("assistant", (("text", "It is."),)), Turn("user", (("text", "Sure?"),))]
    longer = chat.encode([*talked, Turn("assistant", (("text", "Yes."),))], {"image": [3]}, 1000)
    prompt = chat.prompt_ids(talked, {"image": [3]})
    assert longer.ids[: len(prompt)] == prompt
    assert tokens_said(longer.labels[len(prompt) :]).startswith("Yes.")
    assert tokens_said(longer.labels[: len(prompt)]).startswith("It is.")


def test_a_template_that_refuses_roles_or_drops_content_names_the_sample_not_the_run() -> None:
    made = tiny.tokenizer()
    made.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}x"
    for turns in (caption_turns([], "a", "b"), [Turn("system", (("text", "s"),)), *caption_turns([], "a", "b")]):
        with pytest.raises(SampleError) as caught:
            Chat(made, "tokenizer").encode(turns, {}, 100)
        assert caught.value.reason is Reason.UNSUPPORTED


def test_a_tokenizer_without_template_or_end_is_refused_at_once() -> None:
    made = tiny.tokenizer()
    made.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        Chat(made, "tokenizer")
    made.eos_token = None
    with pytest.raises(ConfigError, match="no end-of-sequence"):
        Chat(made, "plain")
