"""What an export promises: transformers reads it back and says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from mmdata.train.chat import Chat, Turn
from mmdata.train.collate import pack
from mmdata.train.encoders import Encoder
from mmdata.train.engine import train
from mmdata.train.export import export, restored
from mmdata.train.model import load_tokenizer
from mmdata.train.prepared import prepare, specs_of
from mmdata.train.processor import llava_processor
from tests.train import tiny

LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}


@pytest.mark.parametrize("layer", [-1, -2])
def test_transformers_own_llava_has_the_same_logits(tiny_path: Path, tmp_path: Path, layer: int) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlavaForConditionalGeneration

    image = {"model": str(tiny_path / "models" / "vision"), "layer": layer, "fit": "crop"}
    config = tiny.config(
        tiny_path, str(tiny_path / "eight"), stage="instruct", projectors={"image": {"kind": "mlp"}},
        encoders={"image": image}, llm={"train": "lora", "lora": LORA}, optimizer={"lr_llm": 1e-2},
        machine={"folder": str(tmp_path)},
    )  # fmt: skip
    train(config)
    run, out = tmp_path / "tiny", tmp_path / "out"
    sample = prepare(config).loader.load(0, 0, 1, 0)
    model, _ = restored(str(run))
    batch = pack([sample])
    with torch.no_grad():
        ours_TV = model.logits(model.hidden(model.embed(batch).embeds_TE, batch))
    told = export(str(run), str(out))
    assert [line.split(":")[0].rpartition("/")[2] for line in told] == ["projector", "adapter", "llava"]
    llava = LlavaForConditionalGeneration.from_pretrained(out / "llava").eval()
    image_id = AutoTokenizer.from_pretrained(out / "llava").convert_tokens_to_ids("<image>")
    assert image_id == llava.config.image_token_id
    ids_1T = torch.tensor([[token if token >= 0 else image_id for token in sample.ids]])
    pixels = (batch.media["image"].inputs.float() / 255 - model.encoders["image"].mean_3) / model.encoders[
        "image"
    ].std_3
    with torch.no_grad():
        theirs_TV = llava(input_ids=ids_1T, pixel_values=pixels.permute(0, 3, 1, 2)).logits[0]
    torch.testing.assert_close(theirs_TV[:, : ours_TV.shape[1]], ours_TV, rtol=1e-4, atol=1e-5)
    adapter = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(config.llm.model), out / "adapter")
    own = {name: value for name, value in model.llm.state_dict().items() if "lora_" in name}
    assert own
    assert all(torch.equal(value, adapter.state_dict()[name]) for name, value in own.items())
    saved = load_file(out / "projector" / "projector.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in model.projectors.state_dict().items())


def test_what_llava_cannot_be_says_why(tiny_path: Path, tmp_path: Path) -> None:
    config = tiny.config(tiny_path, str(tiny_path / "eight"), plan={"max_steps": 1}, machine={"folder": str(tmp_path)})
    train(config)
    saved = tmp_path / "tiny" / "config.yaml"
    tree = yaml.safe_load(saved.read_text())
    # As from a machine with flash-attn, which this one need not have.
    saved.write_text(yaml.safe_dump({**tree, "llm": {**tree["llm"], "attention": "flash_attention_2"}}))
    told = export(str(tmp_path / "tiny"), str(tmp_path / "out"))
    assert told[-1] == "no llava: its projector is linear, LLaVA's an mlp of 2 layers"
    assert not (tmp_path / "out" / "llava").exists()


TURNS = {
    "caption": [Turn("user", (("image", ""), ("text", "\nWhat is this?")))],
    "system": [
        Turn("system", (("text", "Be brief."),)),
        Turn("user", (("text", "a "), ("image", ""), ("text", " picture"))),
        Turn("assistant", (("text", "It is"),)),
        Turn("user", (("text", "What?"),)),
    ],
}


@pytest.mark.parametrize("turns", TURNS.values(), ids=TURNS)
@pytest.mark.parametrize("template", ["plain", "vicuna", "chatml", "llama3", "tokenizer"])
def test_the_processor_writes_prompts_as_training_wrote_them(tiny_path: Path, template: Any, turns: list[Turn]) -> None:
    image = {"image": {"model": str(tiny.saved(tiny_path) / "vision"), "layer": -2, "fit": "pad"}}
    llm = {"template": template, "system": "Say what you see." if template == "vicuna" else ""}
    config = tiny.config(tiny_path, str(tiny_path / "eight"), encoders=image, llm=llm)
    tokenizer = load_tokenizer(config.llm)
    chat = Chat(tokenizer, template, llm["system"])
    features = specs_of(config)["image"].features
    ours = chat.prompt_ids(turns, {"image": [features]})
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]}, replace_extra_special_tokens=False)
    image_id = tokenizer.convert_tokens_to_ids("<image>")
    processor = llava_processor(Encoder(config.encoders["image"], "image"), config.llm, tokenizer, "pad")
    said = [
        {"role": t.role, "content": [{"type": k, **({"text": v} if k == "text" else {})} for k, v in t.parts]}
        for t in turns
    ]
    text = processor.apply_chat_template(said, add_generation_prompt=True)
    inputs = processor(text=text, images=Image.new("RGB", (60, 30), (255, 0, 0)), add_special_tokens=False)
    asked = [image_id if token < 0 else token for token in ours]
    assert tokenizer.decode(inputs["input_ids"][0]) == tokenizer.decode(asked)
    assert inputs["input_ids"][0] == asked or template == "vicuna"
    pixels_CHW = inputs["pixel_values"][0]
    mean, std = (torch.tensor(of) for of in (specs_of(config)["image"].mean, specs_of(config)["image"].std))
    # Bars of the mean colour above and below, the picture between them.
    assert torch.allclose(pixels_CHW[:, 0, 0], torch.zeros(3), atol=0.1)
    assert torch.allclose(pixels_CHW[:, 4, 4], (torch.tensor([1.0, 0, 0]) - mean) / std, atol=0.1)
