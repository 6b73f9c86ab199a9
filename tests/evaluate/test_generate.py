"""What generation promises: the cache and the company of other prompts change nothing; answers end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from mmdata.errors import Reason, SampleError
from mmdata.evaluate.generate import Decoding, end_ids, generate, prompt_of
from mmdata.train import engine
from mmdata.train.chat import IGNORE, Chat, Turn, caption_turns
from mmdata.train.collate import pack
from mmdata.train.dist import Dist
from mmdata.train.engine import Run
from mmdata.train.media import Medium
from mmdata.train.prepared import prepare
from mmdata.train.restore import Restored, restore
from mmdata.train.samples import Prepared
from tests.builders import jpeg
from tests.train import shelf, tiny


@pytest.fixture(scope="module")
def model(learned: Path) -> Restored:
    return restore(str(learned))


@pytest.fixture(scope="module")
def untrained(learned: Path) -> Restored:
    return restore(str(learned), trained=False)


def prompts_of(restored: Restored, pictures: list[int]) -> list[Prepared]:
    """Prompts with 0 to 3 pictures each, so that they differ in length."""
    return [
        prompt_of(
            str(number),
            [Turn("user", (("image", ""),) * count)],
            {"image": [Medium("image", [("jpg", jpeg(number + i))]) for i in range(count)]},
            restored.chat,
            restored.specs,
        )
        for number, count in enumerate(pictures)
    ]


def greedy_without_cache(restored: Restored, prompt: Prepared, tokens: int) -> str:
    """Everything read again for each token, as training reads it."""
    model, ids = restored.model, list(prompt.ids)
    with torch.inference_mode():
        for _ in range(tokens):
            batch = pack([Prepared("", "", "", ids, [IGNORE] * len(ids), prompt.media)])
            hidden_TE = model.hidden(model.embed(batch).embeds_TE, batch)
            ids.append(int(model.logits(hidden_TE[-1:]).argmax()))
            if ids[-1] in end_ids(restored.chat):
                break
    said = [token for token in ids[len(prompt.ids) :] if token not in end_ids(restored.chat)]
    return str(restored.chat.tokenizer.decode(said, skip_special_tokens=True)).strip()


def test_each_picture_is_told_as_it_was_learned(model: Restored) -> None:
    samples = [shelf.captioned(number, words=2) for number in range(8)]
    prompts = [
        prompt_of(s.key, caption_turns(["image"], "", "")[:1], {"image": [Medium("image", list(s.parts.items()))]},
                  model.chat, model.specs)
        for s in samples
    ]  # fmt: skip
    assert generate(model, prompts, Decoding()) == [sample.caption for sample in samples]


def test_cache_and_company_change_no_answer(untrained: Restored) -> None:
    prompts = prompts_of(untrained, [1, 3, 2, 1])
    together = generate(untrained, prompts, Decoding(max_new_tokens=12))
    assert len(set(together)) > 1
    assert [generate(untrained, [prompt], Decoding(max_new_tokens=12))[0] for prompt in prompts] == together
    assert [greedy_without_cache(untrained, prompt, 12) for prompt in prompts] == together


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_attention_answers_alike(learned: Path, untrained: Restored, attention: str) -> None:
    other = restore(str(learned), [f"llm.attention={attention}"], trained=False)
    asked = [1, 3, 2]
    expected = generate(untrained, prompts_of(untrained, asked), Decoding(12))
    assert generate(other, prompts_of(other, asked), Decoding(12)) == expected


def test_lora_answers_with_a_cache_as_without(tiny_path: Path, tmp_path: Path) -> None:
    lora = {"r": 4, "lora_alpha": 64, "target_modules": "all-linear"}
    config = tiny.config(
        tiny_path, str(tiny_path / "eight"), stage="instruct", llm={"train": "lora", "lora": lora},
        plan={"max_steps": 3}, optimizer={"lr_llm": 1e-2}, machine={"folder": str(tmp_path)},
    )  # fmt: skip
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(config.to_yaml()))
    engine.train(config)
    tuned, before = restore(str(file)), restore(str(file), trained=False)
    prompts = prompts_of(tuned, [1, 2])
    found = generate(tuned, prompts, Decoding(12))
    assert [greedy_without_cache(tuned, prompt, 12) for prompt in prompts] == found
    assert found != generate(before, prompts, Decoding(12))


def test_drawn_answers_follow_from_the_seed(untrained: Restored) -> None:
    prompts = prompts_of(untrained, [1, 2])
    drawn = [generate(untrained, prompts, Decoding(16, top_p=0.9, seed=seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert generate(untrained, prompts, Decoding(16, top_p=1e-6)) == generate(untrained, prompts, Decoding(16))


def test_what_the_llm_says_of_generation_itself_is_set_aside(learned: Path, untrained: Restored) -> None:
    other = restore(str(learned), trained=False)
    other.model.decoder.generation_config.no_repeat_ngram_size = 1
    prompts = prompts_of(untrained, [1, 2])
    [first, second] = expected = generate(untrained, prompts, Decoding(24))
    assert any(len(set(ids)) < len(ids) for ids in map(untrained.chat.text_ids, (first, second)))  # it repeats itself
    assert generate(other, prompts, Decoding(24)) == expected


def test_an_answer_has_at_most_so_many_tokens(model: Restored) -> None:
    [whole] = generate(model, prompts_of(model, [1]), Decoding())
    ids = model.chat.text_ids(whole)
    assert len(ids) > 3
    assert generate(model, prompts_of(model, [1]), Decoding(3)) == [model.chat.tokenizer.decode(ids[:3]).strip()]


@pytest.mark.parametrize(
    ("template", "ends"),
    [("plain", {"</s>"}), ("vicuna", {"</s>"}), ("chatml", {"</s>", "<|im_end|>"}), ("llama3", {"</s>", "<|eot_id|>"}),
     ("tokenizer", {"</s>", "<|im_end|>"})],
)  # fmt: skip
def test_an_answer_ends_as_its_template_writes(template: str, ends: set[str]) -> None:
    tokenizer = tiny.tokenizer()
    assert {tokenizer.decode([token]) for token in end_ids(Chat(tokenizer, template))} == ends


def test_what_cannot_be_asked_says_why(model: Restored) -> None:
    turns = [Turn("user", (("audio", ""),))]
    with pytest.raises(SampleError, match="no encoder for audio") as error:
        prompt_of("a", turns, {"audio": [Medium("audio", [("flac", b"")])]}, model.chat, model.specs)
    assert error.value.reason is Reason.UNSUPPORTED
    with pytest.raises(SampleError, match="0 image in the conversation, 1 in the sample"):
        prompt_of("b", [], {"image": [Medium("image", [("jpg", jpeg(1))])]}, model.chat, model.specs)
    with pytest.raises(SampleError, match="image: "):
        prompt_of("c", [], {"image": [Medium("image", [("jpg", b"x")])]}, model.chat, model.specs)


def test_the_state_before_training_is_the_one_that_training_begins_with(untrained: Restored, tmp_path: Path) -> None:
    machine = replace(untrained.config.machine, folder=str(tmp_path))
    begun = Run(prepare(replace(untrained.config, machine=machine)), Dist()).model.state_dict()
    assert all(torch.equal(value, begun[name]) for name, value in untrained.model.state_dict().items())
    assert untrained.name == "before"
