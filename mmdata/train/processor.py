"""The processor that transformers needs beside an exported LLaVA: pictures and chat template as in training.

Pixels are not the same bit for bit (torchvision resizes there, OpenCV here). Tokens are, but for Vicuna's: there a text
that follows a role's name is tokenised together with the space before it.
"""

from __future__ import annotations

import json
from typing import Any

from mmdata.train.chat import VICUNA_SYSTEM, Chat
from mmdata.train.encoders import Encoder
from mmdata.train.sections import LlmOptions

IMAGE_TOKEN = "<image>"

# Structured content becomes text with a token for each picture, so that templates see plain strings.
_FLAT = """
{%- set flat = namespace(messages=[], text='') -%}
{%- for message in messages -%}
{%- set flat.text = '' -%}
{%- if message.content is string -%}
{%- set flat.text = message.content -%}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'text' -%}TEXT{%- else -%}{%- set flat.text = flat.text + '<image>' -%}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- set flat.messages = flat.messages + [{'role': message.role, 'content': flat.text}] -%}
{%- endfor -%}
{%- set messages = flat.messages -%}
"""
_TEXT = "{%- set flat.text = flat.text + part.text -%}"
_ANSWER_TEXT = "{%- if message.role == 'assistant' -%}" + _TEXT + "{%- endif -%}"
_SYSTEM = """{%- if messages[0].role != 'system' -%}
{%- set messages = [{'role': 'system', 'content': SYSTEM}] + messages -%}
{%- endif -%}
"""
_TURNS = "{%- for message in messages -%}TURN{%- endfor -%}{%- if add_generation_prompt -%}BEGUN{%- endif -%}"


def chat_template(options: LlmOptions, tokenizer: Any) -> str:
    """Jinja for `apply_chat_template` with structured content, which writes what training wrote with this template."""
    text = _ANSWER_TEXT if options.template == "plain" else _TEXT
    system = _SYSTEM.replace("SYSTEM", json.dumps(options.system, ensure_ascii=False)) if options.system else ""
    return (
        _FLAT.strip("\n").replace("\n", "").replace("TEXT", text) + system.replace("\n", "") + _body(options, tokenizer)
    )


def _body(options: LlmOptions, tokenizer: Any) -> str:
    begin, eos = Chat(tokenizer, options.template, options.system).begin, tokenizer.eos_token
    match options.template:
        case "plain":
            turn = f"{{{{ message.content }}}}{{%- if message.role == 'assistant' -%}}{eos}{{%- endif -%}}"
            return begin + _TURNS.replace("TURN", turn).replace("BEGUN", "")
        case "chatml":
            turn = "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
            return _TURNS.replace("TURN", turn).replace("BEGUN", "{{ '<|im_start|>assistant\\n' }}")
        case "llama3":
            head = "{{ '<|start_header_id|>' + ROLE + '<|end_header_id|>\\n\\n' }}"
            turn = head.replace("ROLE", "message.role") + "{{ message.content + '<|eot_id|>' }}"
            return "<|begin_of_text|>" + _TURNS.replace("TURN", turn).replace(
                "BEGUN", head.replace("ROLE", "'assistant'")
            )
        case "vicuna":
            first = f"{{%- if messages[0].role != 'system' -%}}{{{{ '{_quoted(VICUNA_SYSTEM)} ' }}}}{{%- endif -%}}"
            turn = (
                "{%- if message.role == 'system' -%}{{ message.content + ' ' }}"
                "{%- elif message.role == 'user' -%}{{ 'USER: ' + message.content + ' ' }}"
                f"{{%- else -%}}{{{{ 'ASSISTANT: ' + message.content + '{eos}' }}}}{{%- endif -%}}"
            )
            return begin + first + _TURNS.replace("TURN", turn).replace("BEGUN", "{{ 'ASSISTANT: ' }}")
    return str(tokenizer.chat_template)


def _quoted(text: str) -> str:
    return text.replace("'", "\\'")


def llava_processor(encoder: Encoder, options: LlmOptions, tokenizer: Any, fit: str) -> Any:
    """LlavaProcessor for pictures that become squares as `fit` says, one `<image>` a picture in the text."""
    from transformers import LlavaImageProcessor, LlavaProcessor

    side_px = encoder.side_px
    square = {"height": side_px, "width": side_px}
    made_by: Any = LlavaImageProcessor
    pictures = made_by(
        do_pad=fit == "pad", size={"shortest_edge": side_px} if fit == "crop" else square, crop_size=square,
        do_center_crop=fit == "crop", image_mean=list(encoder.mean), image_std=list(encoder.std),
    )  # fmt: skip
    config: Any = encoder.config
    has_cls = config.model_type.startswith("clip")
    processor: Any = LlavaProcessor
    return processor(
        pictures, tokenizer, patch_size=config.patch_size, chat_template=chat_template(options, tokenizer),
        vision_feature_select_strategy="default" if has_cls else "full", num_additional_image_tokens=int(has_cls),
    )  # fmt: skip
